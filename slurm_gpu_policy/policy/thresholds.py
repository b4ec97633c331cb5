"""Which jobs need somebody's approval before they may start (rule V-901)."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from slurm_gpu_policy.model.decision import Reason
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.model.tag import workload_of
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.pending import controller_mark, points, task_count
from slurm_gpu_policy.policy.prices.pricing import (
    HOUR_SECONDS,
    cost,
    has_price,
    price_book,
    prices_at,
    use_of_job,
)
from slurm_gpu_policy.units import counted, format_duration, format_money

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from slurm_gpu_policy.config.approvals import Threshold
    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.account import Association
    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.job import Job
    from slurm_gpu_policy.model.snapshot import Snapshot

_UNMARKABLE = r"[^A-Za-z0-9_.:-]"
_NO_LIMIT = float("inf")


@record
class Size:
    """What a job asks for, as far as thresholds look at it."""

    gpus: int
    """GPUs of one array task."""
    seconds: int | None
    """Time limit; ``None`` for none."""
    tasks: int = 1
    cost_micros: int | None = None
    """Estimate for all tasks; ``None`` where there is no price."""
    accounts: tuple[str, ...] = ()
    """The job's account and those above it, the root last; of a group those of all its parts."""
    workload: str = "generic"
    has_price: bool = False
    """Whether what it holds costs anything by the hour, so that without a limit it may cost any
    amount."""

    @property
    def text(self) -> str:
        """How the mark has it."""
        return f"{self.gpus}:{self.seconds or 0}:{self.tasks}"

    @property
    def words(self) -> str:
        """Such as ``16 GPUs for 1-00:00:00``."""
        time = f" for {format_duration(self.seconds)}" if self.seconds else " without a time limit"
        tasks = f" in each of {self.tasks} tasks" if self.tasks > 1 else ""
        return f"{counted(self.gpus, 'GPU')}{time}{tasks}"


def line_of(account: str, associations: Iterable[Association]) -> tuple[str, ...]:
    """Return an account and those above it, the root last."""
    return _line(account, _parents(associations))


def _parents(associations: Iterable[Association]) -> dict[str, str]:
    return {item.account: item.parent for item in associations if not item.user}


def _line(account: str, parents: Mapping[str, str]) -> tuple[str, ...]:
    line = [account] if account else []
    while line and (above := parents.get(line[-1])) and above not in line:
        line.append(above)
    return tuple(line)


def as_one(jobs: Iterable[Job]) -> tuple[Job, ...]:
    """Return *jobs* with each heterogeneous job as one: its first part, with the GPUs of all.

    Its time limit is the longest of them, and its type of GPU theirs if they have one only.
    """
    found: list[Job] = []
    places: dict[JobId, int] = {}
    for job in sorted(jobs, key=lambda job: job.job_id):
        if job.het_job_id is None:
            found.append(job)
        elif job.het_job_id == job.job_id:
            places[job.job_id] = len(found)
            found.append(replace(job, gpus=_most_gpus(job)))
        elif job.het_job_id in places:
            place = places[job.het_job_id]
            found[place] = _joined(found[place], job)
    return tuple(found)


def _joined(whole: Job, part: Job) -> Job:
    limits = (whole.time_limit_seconds, part.time_limit_seconds)
    kinds = {job.gpu_type for job in (whole, part) if job.gpus}
    return replace(
        whole,
        gpus=whole.gpus + _most_gpus(part),
        cpus=whole.cpus + part.cpus,
        memory_mb=whole.memory_mb + part.memory_mb,
        tres={
            name: whole.tres.get(name, 0) + part.tres.get(name, 0)
            for name in (*whole.tres, *part.tres)
        },
        gpu_type=kinds.pop() if len(kinds) == 1 else "",
        time_limit_seconds=None if None in limits else max(limit or 0 for limit in limits),
    )


def _most_gpus(job: Job) -> int:
    """Return a job's GPUs; where Slurm may give it more than it shows (``-N 1-4``),
    job_submit.lua has written so.
    """
    return max(job.gpus, points(controller_mark(job), "most") or 0)


class Sizes:
    """Tells what the jobs of one snapshot ask for."""

    def __init__(self, snapshot: Snapshot, policy: Policy) -> None:
        self._policy = policy
        self._parents = _parents(snapshot.associations)
        self._lines: dict[str, tuple[str, ...]] = {}
        self._now = snapshot.time
        self._book = price_book(policy)
        self._prices = prices_at(self._book, snapshot.time)
        self._groups: dict[JobId, set[str]] = {}
        for job in snapshot.jobs:
            if job.het_job_id is not None:
                self._groups.setdefault(job.het_job_id, set()).add(job.account)

    def payers(self, job: Job) -> tuple[str, ...]:
        """Return the accounts that a job is on: one, or those of a group's parts."""
        others = self._groups.get(job.het_job_id, set()) if job.het_job_id is not None else set()
        return (job.account, *sorted(others - {job.account}))

    def line(self, account: str) -> tuple[str, ...]:
        """Return an account and those above it, the root last."""
        if account not in self._lines:
            self._lines[account] = _line(account, self._parents)
        return self._lines[account]

    def price(self, gpu_type: str) -> int | None:
        """Return what a GPU of Slurm's type costs an hour; ``None`` where there is no price."""
        return self._prices.gpus.get(gpu_type.lower())

    def of(self, job: Job) -> Size:
        """Return what a job (of :func:`as_one`) asks for, its array's waiting tasks together."""
        seconds, tasks, gpus = job.time_limit_seconds, task_count(job), _most_gpus(job)
        use = use_of_job(job)
        priced = has_price(use, self._prices)
        micros = None
        if priced and seconds is not None:
            micros = cost(use, self._now, self._now + seconds, self._book).micros * tasks
        workload = workload_of(job.comment) or self._policy.defaults.workload
        lines = tuple(name for account in self.payers(job) for name in self.line(account))
        return Size(gpus, seconds, tasks, micros, lines, workload, priced)


def exceeded(size: Size, policy: Policy) -> tuple[Threshold, ...]:
    """Rule V-901: the thresholds that a job is above."""
    return tuple(each for each in policy.approvals.thresholds if _is_above(size, each))


def _is_above(size: Size, threshold: Threshold) -> bool:
    accounts = {name.lower() for name in threshold.accounts}
    workloads = {re.sub(_UNMARKABLE, "_", name) for name in threshold.workloads}
    if accounts and not accounts.intersection(map(str.lower, size.accounts)):
        return False
    if workloads and re.sub(_UNMARKABLE, "_", size.workload) not in workloads:
        return False
    seconds = _NO_LIMIT if size.seconds is None else size.seconds
    gpu_seconds = size.gpus * size.tasks * seconds if size.gpus else 0
    cost: float = size.cost_micros or 0
    if size.seconds is None and size.has_price:
        cost = _NO_LIMIT
    pairs = (
        (threshold.gpus, size.gpus),
        (threshold.time, seconds),
        (None if threshold.gpu_hours is None else threshold.gpu_hours * HOUR_SECONDS, gpu_seconds),
        (threshold.cost, cost),
    )
    return all(limit is None or found > limit for limit, found in pairs)


def approvals_needed(size: Size, policy: Policy) -> int:
    """Rule V-901: how many approvals a job takes; 0 where it is above no threshold."""
    above = exceeded(size, policy)
    return max((each.needed or policy.approvals.needed for each in above), default=0)


def needs_approval(size: Size, policy: Policy) -> Reason | None:
    """Rule V-901: why a job waits for approvals, and whose."""
    above = exceeded(size, policy)
    if not above:
        return None
    needed = approvals_needed(size, policy)
    who = approvers_words(policy)
    return Reason(
        rules.APPROVAL_NEEDED,
        f"{size.words} needs {counted(needed, 'approval')} of {who}",
        value=size.words,
        limit=_threshold_words(above[0], policy),
        remedy=f"stay within {_threshold_words(above[0], policy)}, or wait for "
        "`gpu-policy approve`",
    )


def approvers_words(policy: Policy) -> str:
    """Return who may approve, in words."""
    approvers = policy.approvals.approvers
    parts = [", ".join(approvers.users)] if approvers.users else []
    parts += [f"a member of {name}" for name in approvers.groups]
    if approvers.coordinators:
        parts.append("a coordinator of the account")
    return " or ".join(parts)


def _threshold_words(threshold: Threshold, policy: Policy) -> str:
    parts = []
    if threshold.gpus is not None:
        parts.append(counted(threshold.gpus, "GPU"))
    if threshold.time is not None:
        parts.append(format_duration(threshold.time))
    if threshold.gpu_hours is not None:
        parts.append(f"{threshold.gpu_hours} GPU-hours")
    if threshold.cost is not None:
        parts.append(f"{format_money(threshold.cost)} {policy.currency}")
    return " or ".join(parts) or "the accounts and workload classes that need none"
