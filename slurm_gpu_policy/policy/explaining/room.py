"""Whether nodes have room for a waiting job, now or ever, as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slurm_gpu_policy.model.cluster import Node
    from slurm_gpu_policy.model.job import Job

_KEPT: Final = frozenset({"MAINT", "MAINTENANCE", "RESERVED"})
"""Flags of a node that nothing outside its reservation starts on (scontrol(1), node states)."""


def is_of(job: Job, node: Node) -> bool:
    """Whether *node* is of the job's partitions, with the GPUs and the features it asks for."""
    if not set(job.partitions).intersection(node.partitions):
        return False
    if job.features and not set(job.features.split("&")) <= node.features:
        return False
    kinds = {gpus.type for gpus in node.gpus if gpus.total}
    return not job.gpus or (job.gpu_type in kinds if job.gpu_type else bool(kinds))


def free_on(job: Job, node: Node) -> int:
    """Return how many of the GPUs that *job* could use are free on *node*."""
    if not _is_open(job, node):
        return 0
    return _free(job, node)


def fits_now(job: Job, nodes: Iterable[Node]) -> bool:
    """Whether an even part of *job* fits into what is free on enough nodes."""
    gpus, cpus, memory = _share(job)
    fitting = sum(
        _free(job, node) >= gpus
        and node.cpus - node.cpus_used >= cpus
        and node.memory_mb - node.memory_used_mb >= memory
        for node in nodes
        if _is_open(job, node)
    )
    return fitting >= max(job.nodes, 1)


def holds_at_all(job: Job, nodes: Iterable[Node]) -> bool:
    """Whether enough nodes that are up could hold an even part of *job* if they were empty."""
    gpus, cpus, memory = _share(job)
    fitting = sum(
        sum(one.total for one in node.gpus if job.gpu_type in {"", one.type}) >= gpus
        and node.cpus >= cpus
        and node.memory_mb >= memory
        for node in nodes
        if node.usable and is_of(job, node)
    )
    return fitting >= max(job.nodes, 1)


def _is_open(job: Job, node: Node) -> bool:
    return node.usable and not node.flags & _KEPT and is_of(job, node)


def _free(job: Job, node: Node) -> int:
    kinds = [gpus for gpus in node.gpus if job.gpu_type in {"", gpus.type}]
    return sum(max(gpus.total - gpus.used, 0) for gpus in kinds)


def _share(job: Job) -> tuple[int, int, int]:
    """Return the GPUs, CPUs and MiB of memory of each of its nodes, rounded up."""
    nodes = max(job.nodes, 1)
    return -(-job.gpus // nodes), -(-job.cpus // nodes), -(-job.memory_mb // nodes)
