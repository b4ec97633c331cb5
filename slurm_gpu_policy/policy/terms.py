"""The terms that are added to a job's score (rules P-611 to P-617).

Each is a pure function of the job and what is around it; it never gives or takes more points
than its weight in the policy file. What changes with time changes in steps of a twentieth, so
that a queue in which nothing happens is not written to at every tick.
"""

from __future__ import annotations

from dataclasses import field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.model.tag import workload_of
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.pending import own_mark, points
from slurm_gpu_policy.policy.run_times import NONE_YET, RunTime, RunTimes, run_time
from slurm_gpu_policy.units import counted, format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slurm_gpu_policy.config.ordering import Ordering
    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.job import Job

STEPS: Final = 20


@record
class Term:
    """One term of one job: *points* are between ``-bound`` and ``bound``."""

    rule: str
    name: str
    points: int
    bound: int
    reason: str


@record
class Measured:
    """What Slurm itself does not know; ``None`` where nobody measures it."""

    budget_pace: Mapping[str, float] | None = None
    """By account: what it has spent, over what an even spending would have spent by now."""
    idle_gpus: Mapping[str, int] | None = None
    """By user: GPUs allocated to them that do nothing now."""


NOTHING_MEASURED: Final = Measured()


@record
class Surroundings:
    """All that the terms look at besides the job."""

    now: int
    ordering: Ordering
    known: RunTimes = NONE_YET
    measured: Measured = NOTHING_MEASURED
    parents: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """By account: the account above it."""
    ahead: Mapping[JobId, int] = field(default_factory=lambda: MappingProxyType({}))
    """GPUs of the same user and account that run or were submitted before."""
    fills: Mapping[JobId, str] = field(default_factory=lambda: MappingProxyType({}))
    """Jobs that fill a hole exactly, and the nodes whose."""

    def run_time(self, job: Job) -> RunTime:
        """Return the job's run time as the site wants it taken."""
        if self.ordering.run_time == "predicted":
            return run_time(job, self.known, self.ordering.history)
        return RunTime(job.time_limit_seconds, "time limit")


def terms(job: Job, around: Surroundings) -> tuple[Term, ...]:
    """Return the terms of *job* that the site has given a weight."""
    chosen = around.ordering.terms
    return tuple(term(job, around) for name, term in TERMS.items() if getattr(chosen, name).weight)


def deadline(job: Job, around: Surroundings) -> Term:
    """Rule P-611: the less time is to spare before the deadline, the more points."""
    setting = around.ordering.terms.deadline

    def give(share: float, reason: str) -> Term:
        return _term(rules.TERM_DEADLINE, "deadline", setting.weight, share, reason)

    when = job.deadline
    if when is None and setting.own_word:
        when = points(own_mark(job), "deadline")
    if when is None:
        return give(0, "it has no deadline")
    if when <= around.now:
        return give(0, "its deadline has passed")
    found = around.run_time(job)
    if found.seconds is None:
        return give(0, "it has a deadline but no time limit, so nobody knows when to start it")
    spare = when - around.now - found.seconds
    left = format_duration(spare) if spare > 0 else "no time"
    return give(
        min(1.0, max(0.0, 1 - spare / setting.horizon)),
        f"{left} to spare before its deadline ({found.words})",
    )


def workload(job: Job, around: Surroundings) -> Term:
    """Rule P-612: points for the job's workload class."""
    setting = around.ordering.terms.workload
    name = workload_of(job.comment)
    share = setting.shares.get(name, 0.0)
    reason = f"workload class {name}" if name else "it has no workload class"
    return Term(
        rules.TERM_WORKLOAD, "workload class", round(setting.weight * share), setting.weight, reason
    )


def interactive(job: Job, around: Surroundings) -> Term:
    """Rule P-613: all points for a small job with somebody in front of it."""
    setting = around.ordering.terms.interactive

    def give(share: int, reason: str) -> Term:
        return _term(rules.TERM_INTERACTIVE, "interactive", setting.weight, share, reason)

    in_partition = set(setting.partitions).intersection(job.partitions)
    if not in_partition and workload_of(job.comment) not in setting.workloads:
        return give(0, "it is not interactive")
    if job.gpus > setting.gpus:
        return give(0, f"interactive, with more than {counted(setting.gpus, 'GPU')}")
    if job.time_limit_seconds is None or job.time_limit_seconds > setting.time:
        return give(0, f"interactive, for longer than {format_duration(setting.time)}")
    return give(1, "somebody sits in front of it")


def budget_pace(job: Job, around: Surroundings) -> Term:
    """Rule P-614: points for an account (or one above it) that spends slower than planned."""
    setting = around.ordering.terms.budget_pace

    def give(share: float, reason: str) -> Term:
        return _term(rules.TERM_BUDGET_PACE, "budget pace", setting.weight, share, reason)

    by_account = around.measured.budget_pace
    if by_account is None:
        return give(0, "there is no ledger that says what accounts have spent")
    account, seen = job.account, set[str]()
    while account and account not in by_account and account not in seen:
        seen.add(account)
        account = around.parents.get(account, "")
    pace = by_account.get(account)
    if pace is None:
        return give(0, f"account {job.account} has no budget")
    return give(
        min(1.0, max(-1.0, (1 - pace) / setting.tolerance)),
        f"account {account} has spent {pace:.2f} x what an even spending would have by now",
    )


def waste(job: Job, around: Surroundings) -> Term:
    """Rule P-615: points off for each GPU that the job's user leaves idle."""
    setting = around.ordering.terms.waste
    by_user = around.measured.idle_gpus
    idle = (by_user or {}).get(job.user, 0)
    reason = f"{job.user} leaves {counted(idle, 'GPU')} idle"
    if by_user is None:
        reason = "nobody measures which GPUs are idle"
    share = -min(1.0, max(0, idle) / setting.gpus)
    return _term(rules.TERM_WASTE, "waste", setting.weight, share, reason)


def entry_penalty(job: Job, around: Surroundings) -> Term:
    """Rule P-616: points off for each GPU of the same user and account before this job."""
    setting = around.ordering.terms.entry_penalty
    ahead = around.ahead.get(job.job_id, 0)
    taken = -(setting.weight * min(ahead, setting.gpus) // setting.gpus)
    reason = f"{counted(ahead, 'GPU')} of {job.user} in {job.account} run or wait before it"
    return Term(rules.TERM_ENTRY_PENALTY, "entry penalty", taken, setting.weight, reason)


def fragmentation(job: Job, around: Surroundings) -> Term:
    """Rule P-617: all points for a job that fills exactly what is free on its nodes."""
    weight = around.ordering.terms.fragmentation.weight
    nodes = around.fills.get(job.job_id)
    reason = f"it fills all that is free on {nodes}" if nodes else "it fills no hole exactly"
    return Term(rules.TERM_FRAGMENTATION, "fragmentation", weight if nodes else 0, weight, reason)


TERMS: Final[Mapping[str, Callable[[Job, Surroundings], Term]]] = {
    "deadline": deadline,
    "workload": workload,
    "interactive": interactive,
    "budget_pace": budget_pace,
    "waste": waste,
    "entry_penalty": entry_penalty,
    "fragmentation": fragmentation,
}
"""By their name in the policy file."""
TERM_RULES: Final = (
    rules.TERM_DEADLINE, rules.TERM_WORKLOAD, rules.TERM_INTERACTIVE, rules.TERM_BUDGET_PACE,
    rules.TERM_WASTE, rules.TERM_ENTRY_PENALTY, rules.TERM_FRAGMENTATION,
)  # fmt: skip


def _term(rule: str, name: str, weight: int, share: float, reason: str) -> Term:
    """Return a term of a *share* of its weight (-1 to 1), in whole steps towards 0."""
    steps = int(share * STEPS)
    taken = weight * abs(steps) // STEPS
    return Term(rule, name, taken if steps > 0 else -taken, weight, reason)
