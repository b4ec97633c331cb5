"""Watching jobs to their end with few calls: one a look, at growing intervals."""

from __future__ import annotations

from dataclasses import field, replace
from typing import TYPE_CHECKING

from slurm_gpu_policy.errors import JobNotFound, SlurmError, SlurmUnavailable
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.model.snapshot import Part
from slurm_gpu_policy.policy.explaining.ending import NO_OUTPUT
from slurm_gpu_policy.policy.explaining.waiting import places_of
from slurm_gpu_policy.services.patience import patiently
from slurm_gpu_policy.services.selecting import Selection, asked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from slurm_gpu_policy.model.job import AccountingRecord, Job, NodeAllocation
    from slurm_gpu_policy.policy.explaining.waiting import Place
    from slurm_gpu_policy.services.ports import Clock, SlurmPort

_FIRST_INTERVAL_SECONDS = 1.0
_LONGEST_INTERVAL_SECONDS = 30.0
_GROWTH = 1.25
_ACCOUNTING_TRIES = 3
"""Slurm hands an ended job to its database a moment later; look that often, a second apart."""
_FEW_JOBS = 8
"""So many ended jobs are asked about one by one; accounting answers for more in one call."""
_PATIENCE_SECONDS = 600
"""How long the code of ended jobs is asked for while Slurm is away."""
_HOLDS_NODES = frozenset({JobState.RUNNING, JobState.SUSPENDED})


@record
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
    """Path of each running or ended job's output file, where it was asked for."""
    gone: tuple[str, ...] = ()
    """Ids Slurm does not hold in memory: they ended some time ago, or never were."""
    trouble: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to wait for."""
        return not self.trouble and all(job.state.is_over for job in self.jobs)


def watch(
    slurm: SlurmPort, clock: Clock, job_ids: Sequence[str], *, outputs: bool = False
) -> Iterator[Sight]:
    """Yield a sight of the jobs now and after each interval, the last when all have ended.

    An array is watched by its id: all its records count. While a job waits, the one call reads
    the whole queue, which gives its place in it; afterwards only the jobs themselves. One more
    call follows where jobs have started, however many; with *outputs* one for each of them.
    """
    selection = Selection(job_ids)
    interval = _FIRST_INTERVAL_SECONDS
    sight = Sight()
    waiting = True
    while True:
        before = sight
        try:
            sight = _look(slurm, selection, before, whole_queue=waiting, outputs=outputs)
        except SlurmUnavailable as error:
            sight = replace(before, trouble=str(error))
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


def _look(
    slurm: SlurmPort, selection: Selection, before: Sight, *, whole_queue: bool, outputs: bool
) -> Sight:
    queue: tuple[Job, ...] = ()
    if whole_queue:
        queue = slurm.read(Part.JOBS).jobs
        found = selection.of(queue)
        if missed := _missed(selection, found, before):  # the queue has no ended ones
            told = {job.display_id for job in found}
            ended = selection.of(slurm.jobs(missed))
            found += tuple(job for job in ended if job.display_id not in told)
    else:
        found = selection.of(slurm.jobs(selection.asked))
    jobs = _with_remembered(found, before)
    present = {job_id for job in jobs for job_id in selection.ids_of(job)}
    allocations, paths = _held(slurm, jobs, before, outputs=outputs)
    return Sight(
        jobs,
        places_of(jobs, queue),
        allocations,
        paths,
        tuple(job_id for job_id in selection.job_ids if job_id not in present),
    )


def _missed(selection: Selection, found: Iterable[Job], before: Sight) -> tuple[str, ...]:
    """Return what to ask for besides the queue: jobs that are not in it, nor known to be over."""
    told, met = set(), set(before.gone)
    for job in found:
        told.add(job.display_id)
        met.update(selection.ids_of(job))
    vanished = []
    for job in before.jobs:
        if job.state.is_over:
            met.update(selection.ids_of(job))
        elif job.state.is_active and job.display_id not in told:
            vanished.append(str(job.job_id))
    return asked([*(job_id for job_id in selection.job_ids if job_id not in met), *vanished])


def _with_remembered(found: tuple[Job, ...], before: Sight) -> tuple[Job, ...]:
    """Return the jobs found, and the ended ones seen before that Slurm tells of no more.

    In the order of their numbers, the waiting rest of an array behind its tasks.
    """
    told = {job.display_id for job in found}
    jobs = [*found]
    jobs += [job for job in before.jobs if job.state.is_over and job.display_id not in told]
    return tuple(sorted(jobs, key=_order))


def _order(job: Job) -> tuple[int, int, int]:
    base = job.array_job_id or job.het_job_id or job.job_id
    task = int(job.array_task) if job.array_task.isdigit() else 0
    return (base, 2**32 if job.array_task and not job.array_task.isdigit() else task, job.job_id)


def _held(
    slurm: SlurmPort, jobs: tuple[Job, ...], before: Sight, *, outputs: bool
) -> tuple[dict[str, tuple[NodeAllocation, ...]], dict[str, str]]:
    """Return what running jobs hold and where they write, asking only about what is new."""
    # A job that was requeued between two looks runs again, elsewhere.
    starts = {job.display_id: job.start_time for job in before.jobs if not job.state.is_pending}
    allocations, paths, new = {}, {}, []
    for job in jobs:
        name = job.display_id
        if job.state.is_pending:
            continue
        is_same_run = name in starts and starts[name] == job.start_time
        if is_same_run and name in before.allocations:
            allocations[name] = before.allocations[name]
        if is_same_run and name in before.outputs:
            paths[name] = before.outputs[name]
        lacks_nodes = job.state in _HOLDS_NODES and name not in allocations
        if lacks_nodes or (outputs and name not in paths):
            new.append(job)
    if outputs or len(new) == 1:
        for job in new:
            try:
                detail = slurm.job(_own_id(job))
            except JobNotFound:
                continue
            allocations[job.display_id] = detail.allocations
            paths[job.display_id] = detail.std_out
    elif new:
        held = slurm.allocations()
        allocations |= {job.display_id: held.get(job.job_id, ()) for job in new}
    return allocations, paths


def _own_id(job: Job) -> str:
    """Return the id that means this record alone: an array's last task has the array's number."""
    return str(job.job_id) if job.array_job_id is None else job.display_id


def exit_code(slurm: SlurmPort, clock: Clock, job_ids: Sequence[str]) -> int:
    """Return the code of ended jobs: the highest, as ``sbatch --wait`` does for an array.

    A signal counts as 128 plus its number, as in a shell; a job that did not complete and has
    no code of its own counts as 1. Of a job that was requeued only the last run counts.

    Raises:
        SlurmUnavailable: Slurm stayed away for ten minutes.
    """
    selection = Selection(job_ids)

    def in_memory() -> tuple[Job, ...]:
        found = selection.of(slurm.jobs(selection.asked))
        return tuple(job for job in found if job.state.is_over)

    ended = patiently(in_memory, clock, _PATIENCE_SECONDS)
    runs = _past_runs(slurm, clock, selection, ended)
    codes: dict[str, list[int]] = {job_id: [] for job_id in job_ids}
    for job in ended:
        code = patiently(
            lambda job=job: _code_of(slurm, job, runs.get(job.display_id)),  # type: ignore[misc]
            clock,
            _PATIENCE_SECONDS,
        )
        for job_id in selection.ids_of(job):
            codes[job_id].append(code)
    remembered = {job.display_id for job in ended}
    for run in runs.values():
        if run.state.is_over and run.display_id not in remembered:
            for job_id in selection.ids_of(run):
                codes[job_id].append(_code(run.state, run.exit_code, run.exit_signal))
    return max((max(found, default=1) for found in codes.values()), default=0)


def _past_runs(
    slurm: SlurmPort, clock: Clock, selection: Selection, ended: Sequence[Job]
) -> dict[str, AccountingRecord]:
    """Return the last run of each job that accounting knows, where memory may not do.

    Early tasks of an array leave Slurm's memory while late ones run. Nothing is returned where
    the site has no accounting.
    """
    in_memory = {job_id for job in ended for job_id in selection.ids_of(job)}
    lost = set(selection.job_ids) - in_memory
    failed = sum(job.state is not JobState.COMPLETED for job in ended)
    is_array = any(job.array_job_id is not None for job in ended)
    if not (lost or is_array or failed > _FEW_JOBS):
        return {}
    last: dict[str, AccountingRecord] = {}
    for attempt in range(_ACCOUNTING_TRIES):
        if attempt:
            clock.sleep(1)
        try:
            runs = slurm.accounting(job_ids=selection.asked)
        except SlurmError:
            return last
        last = {run.display_id: run for run in sorted(runs, key=_run_order)}
        over = [run for run in last.values() if run.state.is_over]
        if lost <= {job_id for run in over for job_id in selection.ids_of(run)}:
            break
    return last


def _run_order(run: AccountingRecord) -> tuple[int, int, bool]:
    return (run.submit_time or 0, run.start_time or 0, run.state.is_over)


def _code_of(slurm: SlurmPort, job: Job, run: AccountingRecord | None) -> int:
    """Return the code of a job that Slurm still has in memory, which is never behind."""
    if job.state is JobState.COMPLETED:
        return 0
    if run is not None and (run.state, run.end_time) == (job.state, job.end_time):
        return _code(run.state, run.exit_code, run.exit_signal)
    try:
        detail = slurm.job(_own_id(job))
    except JobNotFound:
        return 1
    return _code(detail.job.state, detail.exit_code, detail.exit_signal)


def _code(state: JobState, code: int, signal: int) -> int:
    if signal and signal != NO_OUTPUT:
        return 128 + signal
    return code or (0 if state is JobState.COMPLETED else 1)
