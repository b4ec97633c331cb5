"""Running jobs whose budget is spent beyond its overdraft: warned twice, then ended (rule B-009).

Only where the site has set ``ledger.end_jobs_after``. The mark ``money_warned`` has the time of
the first warning, ``money_again`` that of the second. All jobs on a level that is overspent are
warned; they are ended one by one, the one that started last first, and only while it is needed:
what one gives back may be enough for the others. A grant in between takes the marks away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from slurm_gpu_policy.model.action import Action
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.ledger.budget import levels
from slurm_gpu_policy.policy.ledger.over_budget import over_budget_qos
from slurm_gpu_policy.policy.pending import controller_mark, points
from slurm_gpu_policy.policy.thresholds import as_one
from slurm_gpu_policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.job import Job
    from slurm_gpu_policy.model.ledger import LedgerState
    from slurm_gpu_policy.model.snapshot import Snapshot
    from slurm_gpu_policy.policy.ledger.budget import Level

_RUNS: Final = frozenset({JobState.RUNNING, JobState.SUSPENDED})
_LEAST_SECONDS: Final = 60
"""Between the second warning and the end, also where ticks were late."""
_WARNED, _AGAIN = "money_warned", "money_again"
_NOT_WARNED: Final = ((_WARNED, ""), (_AGAIN, ""))


def endings(snapshot: Snapshot, policy: Policy, state: LedgerState) -> tuple[Action, ...]:
    """Return warnings, ends, and marks to be taken away."""
    after = policy.ledger.end_jobs_after
    spent = state.overspent if after is not None else {}
    if not spent and not any(_WARNED in job.admin_comment for job in snapshot.jobs):
        return ()
    free = over_budget_qos(policy)
    found: list[Action] = []
    doomed: dict[Level, list[Job]] = {}
    busy: set[Level] = set()
    for job, on in _with_levels(snapshot, state.parents, spent):
        if job.state is JobState.COMPLETING:
            busy.update(on)
        elif job.state not in _RUNS or not on or job.qos == free or after is None:
            if _WARNED in controller_mark(job):
                found.append(_action("modify", job, "its budget is not overspent", _NOT_WARNED))
        elif (warning := _warning(job, on, snapshot.time, after)) is not None:
            found.append(warning)
        elif _AGAIN in controller_mark(job) and snapshot.time >= _end_of_grace(job, after):
            for level in on:
                doomed.setdefault(level, []).append(job)
    return (*found, *_ends(doomed, busy))


def _with_levels(
    snapshot: Snapshot, parents: Mapping[str, str], spent: Mapping[Level, int]
) -> Iterator[tuple[Job, tuple[Level, ...]]]:
    """Yield jobs that run, or were warned, with the overspent levels that they draw on."""
    for job in as_one(snapshot.jobs):
        if job.state.is_active or (job.state.is_pending and _WARNED in job.admin_comment):
            line = levels(job.account, job.user, parents)
            yield job, tuple(level for level in line if level in spent)


def _first_warned(job: Job) -> int | None:
    """Return when this run was warned first; a mark from before a requeue is none."""
    warned = points(controller_mark(job), _WARNED)
    return None if warned is None or warned < (job.start_time or 0) else warned


def _end_of_grace(job: Job, after: int) -> int:
    """Return from when on a job may be ended (Unix seconds) that has been warned twice."""
    mark = controller_mark(job)
    again = (points(mark, _AGAIN) or 0) + _LEAST_SECONDS
    return max((_first_warned(job) or 0) + after, again)


def _warning(job: Job, on: tuple[Level, ...], now: int, after: int) -> Action | None:
    """Rule B-009: the first warning, or the second once half of the time is over."""
    warned = _first_warned(job)
    whose = _whose(on[0])
    if warned is None:
        words = (
            f"the budget of {whose} is spent beyond its overdraft: this job is ended in "
            f"{format_duration(after)} unless that changes"
        )
        return _action("notify", job, words, ((_WARNED, str(now)), (_AGAIN, "")), "warned")
    again = points(controller_mark(job), _AGAIN)
    if again is None and now >= warned + after // 2:
        left = max(warned + after - now, _LEAST_SECONDS)
        words = (
            f"the budget of {whose} is still overspent: save your work, this job is ended in "
            f"{format_duration(left)} unless that changes"
        )
        return _action("notify", job, words, ((_AGAIN, str(now)),), "warned again")
    return None


def _ends(doomed: Mapping[Level, list[Job]], busy: set[Level]) -> Iterator[Action]:
    """Rule B-009: end one job of each level, none while another of it is ending."""
    chosen: dict[int, Job] = {}
    for level, jobs in sorted(doomed.items()):
        if level not in busy and not any(job.job_id in chosen for job in jobs):
            last = max(jobs, key=lambda job: (job.start_time or 0, job.job_id))
            chosen[last.job_id] = last
            words = f"the budget of {_whose(level)} is overspent, and it was warned twice"
            yield _action("cancel", last, words, (), "cancelled")


def _whose(level: Level) -> str:
    account, user = level
    return f"{user} in account {account}" if user else f"account {account}"


def _action(
    verb: Literal["notify", "modify", "cancel"],
    job: Job,
    reason: str,
    mark: tuple[tuple[str, str], ...],
    after: str = "runs",
) -> Action:
    before = "warned" if _WARNED in controller_mark(job) else "runs"
    here = controller_mark(job)
    kept = tuple((key, value) for key, value in mark if value or key in here)
    return Action(verb, job.job_id, job.address, rules.BUDGET_END, reason, before=before,
                  after=after, user=job.user, mark=kept)  # fmt: skip
