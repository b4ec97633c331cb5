"""The queue as people want to see it: jobs, reasons in words, GPU indexes, and GPUs free."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.model.snapshot import Part
from slurm_gpu_policy.policy.explaining.waiting import NO_WORDS, reason_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from slurm_gpu_policy.model.cluster import Node
    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.job import Job, JobState, NodeAllocation
    from slurm_gpu_policy.policy.explaining.waiting import Words
    from slurm_gpu_policy.services.ports import ReadPort


@record
class Wanted:
    """Which jobs to show; an empty set lets all pass."""

    users: frozenset[str] = frozenset()
    accounts: frozenset[str] = frozenset()
    partitions: frozenset[str] = frozenset()
    states: frozenset[JobState] = frozenset()

    def lets_pass(self, job: Job) -> bool:
        """Whether a job is to be shown. sacctmgr keeps account names in lower case."""
        return (
            (not self.users or job.user in self.users)
            and (not self.accounts or job.account.lower() in self.accounts)
            and (not self.partitions or not self.partitions.isdisjoint(job.partitions))
            and (not self.states or job.state in self.states)
        )


@record
class GpuCount:
    """GPUs of one type: ``total = used + free + down``; ``down`` ones are on nodes out of order."""

    type: str
    total: int
    used: int
    free: int
    down: int


@record
class Entry:
    """One job of the queue; ``words`` are empty unless it waits."""

    job: Job
    words: Words
    allocations: tuple[NodeAllocation, ...]

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes it holds."""
        return node_names(self.job, self.allocations)

    @property
    def gpu_indexes(self) -> dict[str, list[int]]:
        """Index numbers of the GPUs it holds, by node."""
        return gpu_indexes(self.allocations)


@record
class QueueView:
    """The queue at one moment (Unix seconds)."""

    time: int
    entries: tuple[Entry, ...]
    gpus: tuple[GpuCount, ...]


def read_queue(slurm: ReadPort, wanted: Wanted) -> QueueView:
    """Return the jobs that *wanted* lets pass: those that hold nodes first, then by priority."""
    snapshot = slurm.read(Part.JOBS, Part.NODES)
    jobs = sorted((job for job in snapshot.jobs if wanted.lets_pass(job)), key=_order)
    held: Mapping[JobId, tuple[NodeAllocation, ...]] = {}
    if active := [str(job.job_id) for job in jobs if job.state.is_active]:
        held = slurm.allocations(() if wanted == Wanted() else active)
    entries = tuple(
        Entry(
            job,
            reason_words(job) if job.state.is_pending else NO_WORDS,
            held.get(job.job_id, ()) if job.state.is_active else (),
        )
        for job in jobs
    )
    return QueueView(snapshot.time, entries, count_gpus(snapshot.nodes))


def _order(job: Job) -> tuple[int, int, int]:
    if job.state.is_active:
        return (0, job.start_time or 0, job.job_id)
    return (1 if job.state.is_pending else 2, -job.priority, job.job_id)


def count_gpus(nodes: Iterable[Node]) -> tuple[GpuCount, ...]:
    """Return the GPUs of the cluster by type, in the order of their names."""
    counts: dict[str, list[int]] = {}
    for node in nodes:
        for gpus in node.gpus:
            idle = max(gpus.total - gpus.used, 0)
            count = counts.setdefault(gpus.type, [0, 0, 0])
            count[0] += min(gpus.used, gpus.total)
            count[1] += idle if node.usable else 0
            count[2] += 0 if node.usable else idle
    return tuple(
        GpuCount(name, used + free + down, used, free, down)
        for name, (used, free, down) in sorted(counts.items())
    )


def node_names(job: Job, allocations: Iterable[NodeAllocation]) -> tuple[str, ...]:
    """Return the nodes a job holds; Slurm's own list serves where it names just one."""
    names = tuple(dict.fromkeys(allocation.node for allocation in allocations))
    if names or not job.state.is_active or not job.node_list:
        return names
    return () if "[" in job.node_list else tuple(job.node_list.split(","))


def gpu_indexes(allocations: Iterable[NodeAllocation]) -> dict[str, list[int]]:
    """Return the index numbers of GPUs by node; a node without GPUs is left out."""
    found: dict[str, list[int]] = {}
    for allocation in allocations:
        if allocation.gpu_indexes:
            found.setdefault(allocation.node, []).extend(allocation.gpu_indexes)
    return {node: sorted(indexes) for node, indexes in found.items()}
