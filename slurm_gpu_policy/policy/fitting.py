"""Whether a job fits into one partition, now or when running jobs end (rules A-104 to A-107)."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from slurm_gpu_policy.model.decision import Reason
from slurm_gpu_policy.model.prices import Use
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.model.request import UNLIMITED
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.units import counted, format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slurm_gpu_policy.config.schema import Workload
    from slurm_gpu_policy.model.cluster import Node, Partition
    from slurm_gpu_policy.model.prices import Tariff
    from slurm_gpu_policy.model.request import Request
    from slurm_gpu_policy.policy.gpu_kinds import Kind


@record
class Need:
    """A request with account, QOS and number of array tasks settled, ready to be routed."""

    request: Request
    workload: Workload
    account: str
    qos: str
    tasks: int
    at_once: int = 1
    """Array tasks that may run at the same time."""
    default_seconds: int | None = None
    """Time limit of a request without one, before the partition's default."""
    longest_seconds: int | None = None
    """What a default time is cut to, for limits other than the partition's."""
    partition_walls: Mapping[str, int] = field(default_factory=dict)
    """MaxWall of partitions' own QOS."""
    book: tuple[Tariff, ...] = ()
    """Prices by date."""
    now: int = 0
    """Unix seconds; what is estimated starts then."""


@record
class Route:
    """A place where the job can run."""

    partition: str
    nodes: int
    gpus: int
    time_seconds: int | None
    kind: Kind | None = None
    cpus: int | None = None
    cost_micros: int | None = None
    """Of all tasks, from now on; ``None`` where there is no price or no time limit."""
    use: Use = field(default_factory=Use)
    """What each task holds."""
    reasons: tuple[Reason, ...] = ()


def fit_partition(
    need: Need,
    kind: Kind | None,
    partition: Partition,
    usable: Sequence[tuple[Node, int]],
    everywhere: Sequence[tuple[Node, int]],
) -> Route | Reason:
    """Whether the request fits in this partition, now or when running jobs end."""
    closed = _closed_to(need, partition)
    if closed:
        return closed
    request = need.request
    roomy = [(node, count) for node, count in usable if _has_room(request, node)]
    if usable and not roomy:
        return _too_large_for_a_node(request, usable, partition)
    shape = _shape(request, [count for _, count in roomy], kind)
    if shape is None:
        return _too_many_gpus(request, kind, partition, usable, everywhere)
    nodes, gpus = shape
    too_many = _too_many_tasks(request, nodes, roomy, partition) or _too_many_nodes(
        nodes, partition
    )
    if too_many:
        return too_many
    if request.is_exclusive:  # Slurm gives such a job all GPUs of its nodes (sbatch(1))
        gpus = sum(sorted((count for _, count in roomy), reverse=True)[:nodes])
    time = _time(need, partition)
    if isinstance(time, Reason):
        return time
    return Route(partition.name, nodes, gpus, time, kind)


def _closed_to(need: Need, partition: Partition) -> Reason | None:
    """Rule A-106: a partition that is not up, or not for this account or QOS."""
    problem, value, limit = "", "", ""
    if partition.state != "UP":
        problem, value, limit = f"is {partition.state.lower()}", partition.state, "UP"
    elif need.account and partition.allow_accounts and need.account not in partition.allow_accounts:
        problem, value = f"is not open to account {need.account}", need.account
        limit = ", ".join(sorted(partition.allow_accounts))
    elif need.account in partition.deny_accounts:
        problem, value = f"is closed to account {need.account}", need.account
    elif need.qos and partition.allow_qos and need.qos not in partition.allow_qos:
        problem, value = f"does not take QOS {need.qos}", need.qos
        limit = ", ".join(sorted(partition.allow_qos))
    elif need.qos in partition.deny_qos:
        problem, value = f"does not take QOS {need.qos}", need.qos
    elif _outside_groups(need.request, partition):
        problem, value = "is not open to your groups", ", ".join(need.request.groups)
        limit = ", ".join(sorted(partition.allow_groups))
    if not problem:
        return None
    return Reason(
        rules.PARTITION,
        f"partition {partition.name} {problem}",
        value=value,
        limit=limit or None,
        remedy="choose another partition, account or QOS",
    )


def _outside_groups(request: Request, partition: Partition) -> bool:
    """Whether AllowGroups keeps this user out; root and unknown groups are left to Slurm."""
    if not partition.allow_groups or not request.groups or request.user == "root":
        return False
    return partition.allow_groups.isdisjoint(request.groups)


def _has_room(request: Request, node: Node) -> bool:
    if request.memory_mb is not None and request.memory_mb > node.memory_mb:
        return False
    return request.cpus_per_task is None or request.cpus_per_task <= node.cpus


def _too_large_for_a_node(
    request: Request, usable: Sequence[tuple[Node, int]], partition: Partition
) -> Reason:
    """Rule A-105 for memory and CPUs."""
    cpus = max(node.cpus for node, _ in usable)
    memory = max(node.memory_mb for node, _ in usable)
    return Reason(
        rules.SIZE,
        f"no fitting node of partition {partition.name} has {request.cpus_per_task or 1} CPUs "
        f"and {request.memory_mb or 0} MiB of memory for one task",
        value=f"{request.cpus_per_task or 1} CPUs, {request.memory_mb or 0} MiB",
        limit=f"{cpus} CPUs, {memory} MiB",
        remedy=f"ask for at most {cpus} CPUs a task and {memory} MiB a node",
    )


def _too_many_nodes(nodes: int, partition: Partition) -> Reason | None:
    """Rule A-105 for the partition's MaxNodes."""
    if partition.max_nodes is None or nodes <= partition.max_nodes:
        return None
    return Reason(
        rules.SIZE,
        f"the job needs {nodes} nodes and partition {partition.name} gives "
        f"at most {partition.max_nodes} to one job",
        value=str(nodes),
        limit=str(partition.max_nodes),
        remedy="ask for fewer GPUs or another partition",
    )


def _too_many_tasks(
    request: Request, nodes: int, roomy: Sequence[tuple[Node, int]], partition: Partition
) -> Reason | None:
    """Rule A-105 for all tasks together; Slurm would let a job that cannot fit wait for ever."""
    if request.ntasks is None:
        return None
    asked = request.ntasks * (request.cpus_per_task or 1)
    # Without GPUs or a number of nodes, Slurm spreads tasks over as many as it takes.
    count = nodes if request.nodes or request.wants_gpus else len(roomy)
    have = sum(sorted((node.cpus for node, _ in roomy), reverse=True)[:count])
    if asked <= have:
        return None
    return Reason(
        rules.SIZE,
        f"{request.ntasks} tasks need {asked} CPUs, and {counted(count, 'node')} of partition "
        f"{partition.name} can give {have}",
        value=f"{asked} CPUs",
        limit=f"{have} CPUs",
        remedy="ask for fewer tasks or CPUs a task, or for more nodes",
    )


def _shape(request: Request, counts: Sequence[int], kind: Kind | None) -> tuple[int, int] | None:
    """Return (nodes, GPUs in all) that the nodes with *counts* GPUs each can hold, or ``None``.

    A total without a number of nodes goes to the fewest nodes that share it evenly, and only
    where none do to the fewest that hold it at all.
    """
    largest_first = sorted(counts, reverse=True)
    if kind is None:
        nodes = request.nodes or 1
        return (nodes, 0) if len(largest_first) >= nodes else None
    if request.gpus_per_node:
        nodes = request.nodes or 1
        enough = sum(count >= request.gpus_per_node for count in counts)
        return (nodes, nodes * request.gpus_per_node) if enough >= nodes else None
    total = request.gpus or 0
    choices = [request.nodes] if request.nodes else range(1, min(total, len(counts)) + 1)
    for nodes in choices:
        per_node, uneven = divmod(total, nodes)
        if not uneven and len(counts) >= nodes and largest_first[nodes - 1] >= per_node:
            return nodes, total
    for nodes in choices:
        if nodes <= min(total, len(counts)) and sum(largest_first[:nodes]) >= total:
            return nodes, total
    return None


def _too_many_gpus(
    request: Request,
    kind: Kind | None,
    partition: Partition,
    usable: Sequence[tuple[Node, int]],
    everywhere: Sequence[tuple[Node, int]],
) -> Reason:
    """Rule A-105: the size can never fit; or A-104: only once nodes that are down come back."""
    name = kind.name if kind else "CPU"
    nodes = counted(request.nodes or 1, "node")
    asked = nodes
    if kind and request.gpus_per_node:
        asked = f"{counted(request.gpus_per_node, 'GPU')} on each of {nodes}"
    elif kind:
        asked = counted(request.gpus or 0, "GPU") + (f" on {nodes}" if request.nodes else "")
    if kind and request.gpus and request.nodes and request.gpus < request.nodes:
        return Reason(
            rules.SIZE,
            f"{counted(request.gpus, 'GPU')} cannot be on {request.nodes} nodes",
            value=str(request.gpus),
            limit=f"at least {request.nodes} GPUs on {request.nodes} nodes",
            remedy=f"ask for {request.nodes} GPUs or more, or for {counted(request.gpus, 'node')}",
        )
    here = [(n, count) for n, count in everywhere if partition.name in n.partitions]
    if _shape(request, [count for _, count in here], kind) is not None:
        down = [node.name for node, _ in here if not node.usable]
        return Reason(
            rules.GPU_TYPE_UP,
            f"{asked} of {name} fit only with nodes that are not up now: {', '.join(down[:4])}",
            value=asked,
            remedy="wait until the operators bring them back, or ask for less",
        )
    if kind and not usable:
        elsewhere = ", ".join(sorted({p for node, _ in everywhere for p in node.partitions}))
        return Reason(
            rules.PARTITION,
            f"partition {partition.name} has no {name} GPUs",
            value=partition.name,
            limit=elsewhere,
            remedy=f"use a partition that has: {elsewhere}",
        )
    most = max((count for _, count in usable), default=0)
    total = sum(count for _, count in usable)
    have = (
        f"{total} {name} GPUs on {len(usable)} nodes, at most {most} on one"
        if kind
        else f"{len(usable)} nodes"
    )
    return Reason(
        rules.SIZE,
        f"{asked} of {name} can never fit: partition {partition.name} has {have}",
        value=asked,
        limit=have,
        remedy=f"ask for at most {total} GPUs, {most} on one node"
        if kind
        else "ask for fewer nodes",
    )


def _time(need: Need, partition: Partition) -> int | Reason | None:
    """Rules A-107, R-305: the time limit asked for, or a default within every limit."""
    asked, longest = need.request.time_seconds, partition.max_time_seconds
    if asked is None:
        walls = (longest, need.longest_seconds, need.partition_walls.get(partition.name))
        most = min((wall for wall in walls if wall is not None), default=None)
        default = need.default_seconds or partition.default_time_seconds or most
        return whole_minutes(min(default, most) if default and most else default)
    if longest is not None and (asked > longest or asked == UNLIMITED):
        words = "unlimited" if asked == UNLIMITED else format_duration(asked)
        return Reason(
            rules.TIME,
            f"the time limit {words} is longer than partition {partition.name} allows",
            value=words,
            limit=format_duration(longest),
            remedy=f"ask for at most --time={format_duration(longest)}",
        )
    return whole_minutes(asked or None)


def whole_minutes(seconds: int | None) -> int | None:
    """Return a time limit as Slurm keeps it: in minutes, rounded up."""
    return None if seconds is None else -(-seconds // 60) * 60
