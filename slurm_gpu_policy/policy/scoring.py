"""Scores: who goes first by each ordering (rules P-601 to P-605), and what Slurm adds by itself.

A score is points, and more of them go first. What a point is depends on the ordering: a point of
Slurm's priority, a second of waiting, a second of run time. A user's ``--nice`` counts as so many
points less, as it does for Slurm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy.pending import age_order, is_held, submitted, task_count
from slurm_gpu_policy.policy.priority_class import RANKS, priority_class
from slurm_gpu_policy.policy.priority_settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.job import Job, PriorityFactors
    from slurm_gpu_policy.model.snapshot import Snapshot
    from slurm_gpu_policy.policy.terms import Surroundings

LONGEST_SECONDS: Final = 10 * 365 * 86400
"""What a job without a time limit counts as, by run time."""
_ROUNDING: Final = 20
"""sprio's columns are rounded, each by less than one point; there are fewer than this."""
_RAW: Final[Mapping[str, str]] = {
    "NO_NORMAL_ASSOC": "association",
    "NO_NORMAL_PART": "partition_factor",
    "NO_NORMAL_QOS": "qos_factor",
}


@record
class Contender:
    """A pending job whose priority Slurm computes, as it stands now."""

    job: Job
    site: int
    """Its present site factor."""
    base: float
    """What Slurm adds by itself, without nice; the most of its partitions."""


def contenders(snapshot: Snapshot) -> list[Contender]:
    """Return the pending jobs that compete.

    Not among them: held jobs, those that ``sprio`` does not list because they may not start yet
    (begin time, dependency, task limit of an array) and whose site factor therefore nobody
    knows, and those to which an operator has given a fixed priority, which no site factor moves.
    """
    rows: dict[JobId, tuple[int, float]] = {}
    for row in snapshot.priorities:
        base = _base(row)
        if base < _ROUNDING and row.priority > max(1, row.site - row.nice) + _ROUNDING:
            continue
        known = rows.get(row.job_id)
        rows[row.job_id] = (row.site, base if known is None else max(base, known[1]))
    return [
        Contender(job, *rows[job.job_id])
        for job in snapshot.jobs
        if job.job_id in rows and job.state.is_pending and not is_held(job)
    ]


def _base(row: PriorityFactors) -> float:
    return (
        row.age + row.association + row.fair_share + row.job_size + row.partition_factor
        + row.qos_factor + sum(row.tres.values())
    )  # fmt: skip


def base_spread(snapshot: Snapshot) -> int:
    """Return the most points that Slurm can ever add by itself, without nice; the least are 0.

    Each factor is at most 1, so it is the sum of the weights. Where flags say that some factors
    are not normalised (NO_NORMAL_*), twice the most that is seen of them is counted; in powers
    of two, so that it rarely changes.
    """
    rows = snapshot.priorities
    seen = max(map(_base, rows), default=0.0)
    if snapshot.config is None:
        return _power_of_two(2 * seen + 1000)
    settings = read_settings(snapshot.config.settings)
    weights, flags = settings.weights, settings.flags
    bounded = {
        "age": weights.age, "fair_share": weights.fair_share, "job_size": weights.job_size,
        "association": weights.association, "partition_factor": weights.partition,
        "qos_factor": weights.qos,
    }  # fmt: skip
    free = {column for flag, column in _RAW.items() if flag in flags or "NO_NORMAL_ALL" in flags}
    raw = sum((max((getattr(row, name) for row in rows), default=0.0) for name in free), 0.0)
    most = float(sum(weight for name, weight in bounded.items() if name not in free))
    free_tres = bool(flags & {"NO_NORMAL_TRES", "NO_NORMAL_ALL"})
    if free_tres:
        raw += max((sum(row.tres.values()) for row in rows), default=0.0)
    else:
        most += sum(weights.tres.values())
    if free or free_tres:
        return _power_of_two(most + 2 * raw)
    return int(max(most, seen)) + _ROUNDING


def _power_of_two(value: float) -> int:
    return 1 << max(10, int(value).bit_length())


def gpus_ahead(
    jobs: Iterable[Job], line: Sequence[Job], *, own: Callable[[Job], tuple[int, ...]] = age_order
) -> dict[JobId, int]:
    """Return for each job of *line* the GPUs of the same user and account before it.

    Those that *jobs* run count, and those that the user's other jobs in *line* ask for and that
    come before it: by first submission, or by *own*. So nothing changes for the jobs behind when
    one of them starts. A job without GPUs counts as one, an array's rest as all its tasks.
    """
    held: dict[tuple[str, str], int] = {}
    for job in jobs:
        if job.state.is_active:
            whose = (job.user, job.account)
            held[whose] = held.get(whose, 0) + max(1, job.gpus)
    ahead: dict[JobId, int] = {}
    for job in sorted(line, key=own):
        whose = (job.user, job.account)
        before = held.get(whose, 0)
        ahead[job.job_id] = before
        held[whose] = before + max(1, job.gpus) * task_count(job)
    return ahead


def scores(
    waiting: Sequence[Contender],
    totals: Mapping[JobId, int],
    around: Surroundings,
    snapshot: Snapshot,
) -> dict[JobId, int]:
    """Return each job's score by the site's ordering; *totals* are the points of its terms."""
    kind = around.ordering.kind
    if kind == "fcfs":
        own = {one.job.job_id: -submitted(one.job) - one.job.nice for one in waiting}
    elif kind == "sjf":
        own = {one.job.job_id: -_seconds(one.job, around) - one.job.nice for one in waiting}
    elif kind == "fair_share":
        own = _by_share(waiting, totals, around, snapshot)
    elif kind == "priority":
        classes, wide = around.ordering.classes, 2**32
        own = {
            one.job.job_id: RANKS[priority_class(one.job, classes)[0]] * wide
            + int(one.base) - one.job.nice
            for one in waiting
        }  # fmt: skip
    else:
        own = {one.job.job_id: int(one.base) - one.job.nice for one in waiting}
    return {job_id: points + totals.get(job_id, 0) for job_id, points in own.items()}


def _seconds(job: Job, around: Surroundings) -> int:
    found = around.run_time(job).seconds
    return LONGEST_SECONDS if found is None else found


def share_factors(snapshot: Snapshot) -> Callable[[Job], float]:
    """Return what tells a job's fair-share factor (0 where Slurm shows none)."""
    known = {
        (item.account, item.user, item.partition): item.fair_share
        for item in snapshot.associations
        if item.user and item.fair_share is not None
    }

    def factor(job: Job) -> float:
        general = known.get((job.account, job.user, ""), 0.0)
        return max(
            (known.get((job.account, job.user, name), general) for name in job.partitions),
            default=general,
        )

    return factor


def _by_share(
    waiting: Sequence[Contender],
    totals: Mapping[JobId, int],
    around: Surroundings,
    snapshot: Snapshot,
) -> dict[JobId, int]:
    """Rule P-605: factor x weight, less for each GPU of the same user and account ahead."""
    setting = around.ordering.fair_share
    factor = share_factors(snapshot)

    def own_order(job: Job) -> tuple[int, int, int, int]:
        return (job.nice - totals.get(job.job_id, 0), *age_order(job))

    ahead = gpus_ahead(snapshot.jobs, [one.job for one in waiting], own=own_order)
    return {
        one.job.job_id: int(setting.weight * factor(one.job))
        - setting.per_gpu * ahead[one.job.job_id] - one.job.nice
        for one in waiting
    }  # fmt: skip


def in_order(waiting: Sequence[Contender], found: Mapping[JobId, int]) -> list[Contender]:
    """Return the jobs, first to last; of equal score the one that was submitted first.

    The parts of a heterogeneous job start together or not at all: they stand together, where
    its first part belongs.
    """

    def key(one: Contender) -> tuple[int, int, int, int]:
        job = one.job
        own = found[job.job_id]
        leader = found.get(job.het_job_id, own) if job.het_job_id else own
        return (-leader, *age_order(job))

    return sorted(waiting, key=key)
