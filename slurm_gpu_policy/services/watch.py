"""Watching jobs to their end with few calls: one a look, at growing intervals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slurm_gpu_policy.errors import JobNotFound, SlurmError, SlurmUnavailable
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.snapshot import Part
from slurm_gpu_policy.policy.waiting import places

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from slurm_gpu_policy.model.job import Job, NodeAllocation
    from slurm_gpu_policy.policy.waiting import Place
    from slurm_gpu_policy.services.ports import Clock, SlurmPort

_FIRST_INTERVAL_SECONDS = 1.0
_LONGEST_INTERVAL_SECONDS = 30.0
_GROWTH = 1.25
_ACCOUNTING_TRIES = 10
"""Slurm hands an ended job to its database a moment later; look that often, a second apart."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What one look showed.

    ``places`` gives a pending job's place in the queue of each of its partitions, by
    ``display_id``; ``allocations`` what each running job holds. ``trouble`` is set when Slurm
    did not answer: the rest is then as it was.
    """

    jobs: tuple[Job, ...] = ()
    places: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)
    allocations: Mapping[str, tuple[NodeAllocation, ...]] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    """Path of each running or ended job's output file."""
    gone: tuple[str, ...] = ()
    """Ids Slurm no longer holds in memory: they ended some time ago."""
    trouble: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to wait for."""
        return not self.trouble and all(job.state.is_over for job in self.jobs)


def watch(slurm: SlurmPort, clock: Clock, job_ids: Sequence[str]) -> Iterator[Sight]:
    """Yield a sight of the jobs now and after each interval, the last when all have ended.

    An array is watched by its id: all its records count. While a job waits, the one call reads
    the whole queue, which gives its place in it; afterwards only the jobs themselves.
    """
    interval = _FIRST_INTERVAL_SECONDS
    sight = Sight()
    waiting = True
    while True:
        before = sight
        try:
            sight = _look(slurm, job_ids, before, whole_queue=waiting)
        except SlurmUnavailable as error:
            sight = Sight(
                before.jobs, before.places, before.allocations, before.outputs, before.gone,
                trouble=str(error),
            )  # fmt: skip
        yield sight
        if sight.is_over:
            return
        waiting = not sight.jobs or any(job.state.is_pending for job in sight.jobs)
        if _states(sight) != _states(before):
            interval = _FIRST_INTERVAL_SECONDS
        clock.sleep(interval)
        interval = min(interval * _GROWTH, _LONGEST_INTERVAL_SECONDS)


def _states(sight: Sight) -> list[tuple[str, JobState]]:
    return [(job.display_id, job.state) for job in sight.jobs]


def _look(slurm: SlurmPort, job_ids: Sequence[str], before: Sight, *, whole_queue: bool) -> Sight:
    """Take one look, with at most one more call for each job that has just started."""
    queue: tuple[Job, ...] = ()
    if whole_queue:
        queue = slurm.read(Part.JOBS).jobs
        jobs = tuple(job for job in queue if _is_one_of(job, job_ids))
    else:
        jobs = slurm.jobs(job_ids)
    if whole_queue and not jobs:  # ended ones are not in the queue any more
        jobs = slurm.jobs(job_ids)
    allocations = dict(before.allocations)
    outputs = dict(before.outputs)
    known = {job.display_id for job in before.jobs if not job.state.is_pending}
    for job in jobs:
        if job.state.is_pending or job.display_id in known:
            continue
        try:
            detail = slurm.job(job.display_id)
        except JobNotFound:
            continue
        allocations[job.display_id] = detail.allocations
        outputs[job.display_id] = detail.std_out
    present = {str(job.job_id) for job in jobs} | {str(job.array_job_id) for job in jobs}
    present |= {job.display_id for job in jobs}
    gone = tuple(job_id for job_id in job_ids if job_id not in present)
    in_line = {job.display_id: places(job, queue) for job in jobs if job.state.is_pending and queue}
    return Sight(jobs, in_line, allocations, outputs, gone)


def _is_one_of(job: Job, job_ids: Sequence[str]) -> bool:
    own = {str(job.job_id), job.display_id, str(job.array_job_id), str(job.het_job_id)}
    return not own.isdisjoint(job_ids)


def exit_code(slurm: SlurmPort, clock: Clock, job_ids: Sequence[str]) -> int:
    """Return the code of ended jobs: the highest, as ``sbatch --wait`` does for an array.

    A signal counts as 128 plus its number, as in a shell; a job that did not complete and has
    no code of its own counts as 1.
    """
    codes = []
    for job_id in job_ids:
        found = _codes_in_accounting(slurm, clock, job_id) or _codes_in_memory(slurm, job_id)
        codes.append(max(found, default=1))
    return max(codes, default=0)


def _codes_in_memory(slurm: SlurmPort, job_id: str) -> list[int]:
    codes = []
    for job in slurm.jobs([job_id]):
        detail = slurm.job(job.display_id)
        codes.append(_code(detail.job.state, detail.exit_code, detail.exit_signal))
    return codes


def _codes_in_accounting(slurm: SlurmPort, clock: Clock, job_id: str) -> list[int]:
    """Return the codes of all tasks of an array; empty for a plain job that memory still has."""
    records = slurm.jobs([job_id])
    if records and all(job.array_job_id is None for job in records):
        return []
    for _ in range(_ACCOUNTING_TRIES):
        try:
            runs = slurm.accounting(job_ids=[job_id])
        except SlurmError:
            return []
        if len(runs) >= max(len(records), 1) and all(run.state.is_over for run in runs):
            return [_code(run.state, run.exit_code, run.exit_signal) for run in runs]
        clock.sleep(1)
    return []


def _code(state: JobState, code: int, signal: int) -> int:
    if signal:
        return 128 + signal
    return code or (0 if state is JobState.COMPLETED else 1)
