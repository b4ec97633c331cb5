"""When a pending job will start, where Slurm itself has no plan: our estimate, marked as such.

The whole line in its order, nobody overtaking: each job starts at the earliest moment, not before
the one ahead of it, when nodes have room for its even part on each. Whoever runs is taken to use
its whole time limit. Slurm's backfill lets small jobs pass and most jobs end early, so the real
start is as a rule sooner; new jobs with a higher priority make it later.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from slurm_gpu_policy.model.hostlist import expand
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy.explaining.room import is_of
from slurm_gpu_policy.policy.pending import is_eligible, is_held, task_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from slurm_gpu_policy.model.cluster import Node, Partition
    from slurm_gpu_policy.model.job import Job
    from slurm_gpu_policy.model.snapshot import Snapshot

MOST_AHEAD = 1000
"""Jobs ahead that are placed; with more the answer would be as slow as it is wrong."""

_Part = tuple[str, int, int, int]
"""A node's name, and the GPUs, CPUs and MiB of memory taken of it."""


@record
class Estimate:
    """The start of a job (Unix seconds), or ``None`` and why there is none."""

    start: int | None
    why_none: str = ""
    ahead: int = 0
    """Jobs that were placed before it."""


def estimated_start(job: Job, snapshot: Snapshot) -> Estimate:
    """Return when *job* would start, nobody overtaking and everybody using their time limit.

    Needs jobs, nodes and partitions. Jobs ahead are those of a higher priority, and of equal
    ones the older, that share a node with it. No estimate for jobs that are held, not eligible
    yet, or in a reservation, nor behind more than :data:`MOST_AHEAD` jobs.
    """
    if is_held(job):
        return Estimate(None, "it is held")
    if not is_eligible(job, snapshot.time):
        return Estimate(None, "it may not start yet")
    if job.reservation:
        return Estimate(None, "it waits for its reservation")
    machine = _Machine(snapshot)
    ahead = sorted(_ahead(job, snapshot.jobs), key=_rank)
    records = sum(min(task_count(one), MOST_AHEAD + 1) for one in ahead)
    if records > MOST_AHEAD:
        return Estimate(None, f"more than {MOST_AHEAD} jobs stand ahead", records)
    now = snapshot.time
    for one in ahead:
        for _ in range(task_count(one)):
            now = machine.start(one, now) or now  # one that can never start holds up nobody
    start = machine.start(job, now)
    if start is None:
        return Estimate(None, "no set of nodes that are up has room for it", records)
    return Estimate(start, ahead=records)


def _rank(job: Job) -> tuple[int, int]:
    return (-job.priority, job.job_id)


def _ahead(job: Job, jobs: Sequence[Job]) -> Iterator[Job]:
    mine = set(job.partitions)
    for one in jobs:
        if (
            one.state.is_pending
            and one.job_id != job.job_id
            and not is_held(one)
            and _rank(one) < _rank(job)
            and not one.dependency
            and not one.reservation
            and not mine.isdisjoint(one.partitions)
        ):
            yield one


class _Free:
    """What is free on one node now."""

    __slots__ = ("cpus", "gpus", "memory_mb", "node")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.gpus = sum(gpus.total for gpus in node.gpus)
        self.cpus = node.cpus
        self.memory_mb = node.memory_mb

    def take(self, gpus: int, cpus: int, memory_mb: int) -> None:
        self.gpus -= gpus
        self.cpus -= cpus
        self.memory_mb -= memory_mb


class _Machine:
    """The usable nodes, and when what is taken of them comes back."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._free = {node.name: _Free(node) for node in snapshot.nodes if node.usable}
        self._partitions: Mapping[str, Partition] = {one.name: one for one in snapshot.partitions}
        self._ends: list[tuple[float, int, list[_Part]]] = []
        self._count = 0
        for job in snapshot.jobs:
            if job.state.is_active:
                self._occupy(job, snapshot.time)
        heapify(self._ends)

    def start(self, job: Job, now: int) -> int | None:
        """Place *job* at the earliest moment from *now* on and return it; ``None`` for never."""
        usable = [free for free in self._free.values() if is_of(job, free.node)]
        if len(usable) < job.nodes:
            return None
        needs = _share(job)
        asleep: list[tuple[float, int, list[_Part]]] = []
        while True:
            fitting = [
                free
                for free in usable
                if free.gpus >= needs[0] and free.cpus >= needs[1] and free.memory_mb >= needs[2]
            ]
            if len(fitting) >= job.nodes:
                fitting.sort(key=lambda free: (free.gpus, free.cpus, free.node.name))
                self._take(job, [free.node.name for free in fitting[: job.nodes]], now)
                return now
            if not self._ends or self._ends[0][0] == float("inf"):
                # What came back while waiting in vain belongs to the moment it came back.
                for end in asleep:
                    self._put_back(end)
                return None
            end = heappop(self._ends)
            now = max(now, int(end[0]))
            asleep.append(end)
            for name, gpus, cpus, memory_mb in end[2]:
                self._free[name].take(-gpus, -cpus, -memory_mb)

    def _take(self, job: Job, names: Sequence[str], now: int) -> None:
        gpus, cpus, memory_mb = _share(job)
        for name in names:
            self._free[name].take(gpus, cpus, memory_mb)
        parts: list[_Part] = [(name, gpus, cpus, memory_mb) for name in names]
        heappush(self._ends, (now + self._limit(job), self._next(), parts))

    def _occupy(self, job: Job, now: int) -> None:
        """Take what a running job holds, until its time limit (at once, if that is past)."""
        names = [name for name in expand(job.node_list) if name in self._free]
        gpus, cpus, memory_mb = _share(job)
        for name in names:
            self._free[name].take(gpus, cpus, memory_mb)
        end = max(now, (job.start_time or now) + self._limit(job))
        self._ends.append((end, self._next(), [(name, gpus, cpus, memory_mb) for name in names]))

    def _put_back(self, end: tuple[float, int, list[_Part]]) -> None:
        for name, gpus, cpus, memory_mb in end[2]:
            self._free[name].take(gpus, cpus, memory_mb)
        heappush(self._ends, end)

    def _limit(self, job: Job) -> float:
        if job.time_limit_seconds is not None:
            return job.time_limit_seconds
        limits = [
            self._partitions[name].max_time_seconds
            for name in job.partitions
            if name in self._partitions
        ]
        known = [limit for limit in limits if limit is not None]
        return max(known) if known and len(known) == len(limits) else float("inf")

    def _next(self) -> int:
        """Return a number that keeps equal ends in the order they were made."""
        self._count += 1
        return self._count


def _share(job: Job) -> tuple[int, int, int]:
    """Return the GPUs, CPUs and MiB that *job* needs on each of its nodes, rounded up."""
    nodes = max(job.nodes, 1)
    return (-(-job.gpus // nodes), -(-job.cpus // nodes), -(-job.memory_mb // nodes))
