"""Which waiting jobs fill a node's free GPUs exactly (rule P-617)."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slurm_gpu_policy.model.cluster import Node
    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.job import Job

_Kind = tuple[str, str, int]
"""Partition, GPU type (``""`` for any), free GPUs of it on one node."""


def fills(line: Iterable[Job], nodes: Iterable[Node]) -> dict[JobId, str]:
    """Return the jobs that leave no GPU free on the nodes they would take, and those nodes.

    Each hole is filled once, by the first job of the *line* that fits, so that a hole that opens
    or closes moves a few jobs and not all of that size.
    """
    holes = _holes(nodes)
    found: dict[JobId, str] = {}
    left = {node.name for kept in holes.values() for node in kept}
    for job in line:
        if not left:
            break
        if job.gpus < 1 or job.nodes < 1 or job.gpus % job.nodes:
            continue
        each = job.gpus // job.nodes
        for partition in job.partitions:
            kept = holes.get((partition, job.gpu_type, each), [])
            fitting = (node.name for node in kept if node.name in left and _has_room(job, node))
            taken = list(islice(fitting, job.nodes))
            if len(taken) == job.nodes:
                left.difference_update(taken)
                found[job.job_id] = ", ".join(taken)
                break
    return found


def _holes(nodes: Iterable[Node]) -> dict[_Kind, list[Node]]:
    """Return the nodes with free GPUs, by what a job that fills them would ask for."""
    holes: dict[_Kind, list[Node]] = {}
    for node in nodes:
        if not node.usable:
            continue
        free = {gpus.type: gpus.total - gpus.used for gpus in node.gpus if gpus.total > gpus.used}
        for partition in node.partitions:
            for kind, count in free.items():
                holes.setdefault((partition, kind, count), []).append(node)
            if len(free) == 1 and "" not in free:  # a job that names no type takes what there is
                holes.setdefault((partition, "", sum(free.values())), []).append(node)
    return holes


def _has_room(job: Job, node: Node) -> bool:
    """Whether the node's free CPUs and memory suffice for an even part of the job."""
    return (
        job.cpus <= (node.cpus - node.cpus_used) * job.nodes
        and job.memory_mb <= (node.memory_mb - node.memory_used_mb) * job.nodes
    )
