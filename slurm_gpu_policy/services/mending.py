"""Entries of the audit log that somebody was interrupted over: what came of them?

Nothing is done again blindly. What Slurm has now says whether an action took effect; only a
requeue that left its job held is brought to its end, because nobody else would release it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.tag import CONTROLLER, read_tag
from slurm_gpu_policy.services.act import GONE, Result, carry_out
from slurm_gpu_policy.services.orders import Order, order_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from slurm_gpu_policy.model.action import Action, AuditEntry, Outcome
    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.job import Job
    from slurm_gpu_policy.model.snapshot import Snapshot
    from slurm_gpu_policy.services.ports import SlurmPort

_OPEN = Result(None)
REQUEUED_HELD: Final = "job requeued in held state"
"""Slurm's reason after ``scontrol requeuehold`` until somebody releases or holds the job."""


def mend(
    slurm: SlurmPort,
    entries: Sequence[AuditEntry],
    snapshot: Snapshot,
    may_act: Callable[[], bool],
) -> Mapping[int, Result]:
    """Return what became of *entries*, by their id; ``None`` as outcome where it is still open.

    *snapshot* is younger than the entries, and holds ended jobs and priorities.
    """
    jobs = {job.job_id: job for job in snapshot.jobs}
    sites = {one.job_id: one.site for one in snapshot.priorities}
    results: dict[int, Result] = {}
    halves: dict[JobId, tuple[int, Order]] = {}
    for entry in entries:
        action = entry.action
        job = jobs.get(action.job_id)
        if action.verb == "requeue" and job is not None and _is_half_done(job):
            whole = order_for(job, [action])
            half = Order(action.job_id, job, (action,), "", whole.changes, "release")
            halves[action.job_id] = (entry.entry_id, half)
        else:
            results[entry.entry_id] = found(action, job, sites)
    ends = carry_out(slurm, [half for _, half in halves.values()], may_act) if halves else {}
    for job_id, (entry_id, half) in halves.items():
        results[entry_id] = _end_of_half(slurm, half, ends[job_id], may_act)
    return results


def _is_half_done(job: Job) -> bool:
    """Whether our own requeue holds it; a hold that somebody has put on it since is theirs."""
    return job.state.is_pending and job.priority == 0 and job.reason == REQUEUED_HELD


def _end_of_half(
    slurm: SlurmPort, half: Order, result: Result, may_act: Callable[[], bool]
) -> Result:
    """Return the end of a requeue; what Slurm refuses to change must not hold the job for ever."""
    if result.outcome == "done":
        return Result("done", "found requeued and held after an interruption, and released")
    if result.outcome != "refused":
        return _OPEN
    bare = Order(half.job_id, half.job, half.actions, "", {}, "release")
    carry_out(slurm, [bare], may_act)
    return Result("refused", f"requeued, but not as wanted: {result.words}")


def found(action: Action, job: Job | None, sites: Mapping[JobId, int]) -> Result:
    """Return what an interrupted action came to, by what Slurm has now."""
    if job is None:
        outcome: Outcome = "done" if action.verb == "cancel" else "unknown"
        return Result(outcome, f"{GONE}, after an interruption")
    if action.verb == "cancel":
        return _seen(is_done=job.state.is_over, words=job.state.value)
    if action.verb == "requeue":
        return _requeued(action, job)
    if job.state.is_over:
        return _seen(is_done=False, words=job.state.value)
    if action.verb in {"hold", "release"}:
        is_held = job.state.is_pending and job.priority == 0
        words = "held" if is_held else "not held"
        return _seen(is_done=is_held == (action.verb == "hold"), words=words)
    return _changed(action, job, sites)


def _seen(*, is_done: bool, words: str) -> Result:
    return Result("done" if is_done else "failed", f"found {words} after an interruption")


def _requeued(action: Action, job: Job) -> Result:
    """The mark is written before the job is let go, so it tells, also where it ended again."""
    if job.state is JobState.COMPLETING:
        return _OPEN
    here = read_tag(job.admin_comment, CONTROLLER)
    marked = all(here.get(key, "") == value for key, value in action.mark)
    is_done = marked if action.mark else not job.state.is_over
    return _seen(is_done=is_done, words=job.state.value)


def _changed(action: Action, job: Job, sites: Mapping[JobId, int]) -> Result:
    """Compare the fields that a snapshot shows with what was wanted."""
    shown = _shown(job) | ({"site_factor": str(sites[job.job_id])} if job.job_id in sites else {})
    wanted = dict(action.changes)
    if action.site_factor is not None:
        wanted["site_factor"] = str(action.site_factor)
    pairs = [(key, value, shown[key]) for key, value in wanted.items() if key in shown]
    here = read_tag(job.admin_comment, CONTROLLER)
    pairs += [(key, value, here.get(key, "")) for key, value in action.mark]
    if not pairs:
        return Result("unknown", "interrupted, and what was changed cannot be seen")
    words = ", ".join(f"{key} {is_now or 'not set'}" for key, _, is_now in pairs)
    return _seen(is_done=all(value == is_now for _, value, is_now in pairs), words=words)


def _shown(job: Job) -> dict[str, str]:
    return {
        "time_limit": str(job.time_limit_seconds),
        "nice": str(job.nice),
        "qos": job.qos,
        "partition": ",".join(job.partitions),
        "account": job.account,
        "name": job.name,
        "comment": job.comment,
        "admin_comment": job.admin_comment,
        "features": job.features,
    }
