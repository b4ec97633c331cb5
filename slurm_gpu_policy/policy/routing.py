"""Where a request fits: GPU type, partition and number of nodes (rules A-103 to A-107, R-3xx)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from slurm_gpu_policy.model.decision import Reason
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.pricing import affordable_seconds, cost_micros
from slurm_gpu_policy.units import format_duration, format_money

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from slurm_gpu_policy.config.schema import Cluster, Policy, Workload
    from slurm_gpu_policy.model.cluster import Node, Partition
    from slurm_gpu_policy.model.request import Request
    from slurm_gpu_policy.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Need:
    """A request with account, QOS and number of array tasks settled, ready to be routed."""

    request: Request
    workload: Workload
    account: str
    qos: str
    tasks: int


@dataclass(frozen=True, slots=True)
class Kind:
    """A GPU type as this cluster offers it: the site's entry joined with the nodes that have it.

    ``gres_type`` is ``None`` where requests name no type.
    """

    name: str
    gres_type: str | None
    features: tuple[str, ...]
    partitions: tuple[str, ...]
    price_micros: int | None
    nodes: tuple[tuple[Node, int], ...]
    """Each node that has it, with how many GPUs of it the node has in all."""


@dataclass(frozen=True, slots=True)
class Route:
    """A place where the job can run."""

    partition: str
    nodes: int
    gpus: int
    time_seconds: int | None
    kind: Kind | None = None
    cpus: int | None = None
    cost_micros: int | None = None
    reasons: tuple[Reason, ...] = ()


def route(
    need: Need, snapshot: Snapshot, policy: Policy, cluster: Cluster
) -> Route | tuple[Reason, ...]:
    """Return the best place for a request, or every reason why there is none."""
    if not need.request.wants_gpus:
        return _without_gpus(need, snapshot, policy, preferred=())
    kinds = gpu_kinds(snapshot.nodes, policy, cluster)
    wanted, unknown = _wanted_kinds(need, kinds, policy)
    fits: list[Route] = []
    failures = list(unknown)
    for kind in wanted:
        found = _fit(need, kind, snapshot, policy)
        if isinstance(found, Route):
            fits.append(found)
        else:
            failures.append(found)
    if fits and need.request.max_cost_micros is not None:
        chosen = _cheapest(need, fits, need.request.max_cost_micros, policy.currency)
        if isinstance(chosen, Route):
            return chosen
        failures, fits = [*failures, chosen], []
    if fits:
        return _with_preference_reason(need, fits[0], failures)
    return _fall_back(need, snapshot, policy, tuple(failures))


def gpu_kinds(nodes: Iterable[Node], policy: Policy, cluster: Cluster) -> dict[str, Kind]:
    """Return the GPU types this cluster has, by the name users know them by.

    A type the site has not listed goes by Slurm's name. On a site with untyped GRES the listed
    types are told apart by features and partitions; with none listed there is one, ``gpu``.
    """
    nodes = tuple(nodes)
    kinds: dict[str, Kind] = {}
    listed: set[str] = set()
    for name, entry in policy.gpu_types.items():
        gres_type = (entry.gres_type or name) if cluster.typed else None
        found = tuple(
            (node, count)
            for node in nodes
            if (count := _count(node, gres_type))
            and node.features.issuperset(entry.features)
            and (not entry.partitions or set(entry.partitions).intersection(node.partitions))
        )
        listed.add(gres_type or "")
        if found:
            kinds[name] = Kind(
                name, gres_type, entry.features, entry.partitions, entry.price_per_hour, found
            )
    types = sorted({gpus.type for node in nodes for gpus in node.gpus} - listed)
    for slurm_type in types:
        if not cluster.typed and listed:
            break
        gres_type = slurm_type if cluster.typed and slurm_type else None
        found = tuple((node, n) for node in nodes if (n := _count(node, gres_type)))
        name = gres_type or "gpu"
        kinds.setdefault(name, Kind(name, gres_type, (), (), None, found))
    return kinds


def _count(node: Node, gres_type: str | None) -> int:
    return sum(gpus.total for gpus in node.gpus if gres_type in (None, gpus.type))


def _wanted_kinds(
    need: Need, kinds: dict[str, Kind], policy: Policy
) -> tuple[list[Kind], list[Reason]]:
    """Rule A-103, R-301: the types to try, in order, and those asked for that do not exist."""
    asked = need.request.gpu_types
    if not asked and policy.defaults.gpu_type and not need.workload.pools:
        asked = (policy.defaults.gpu_type,)
    if asked:
        by_gres = {kind.gres_type: kind for kind in kinds.values() if kind.gres_type}
        found = [kinds.get(name) or by_gres.get(name) for name in asked]
        missing = [
            Reason(
                rules.GPU_TYPE_KNOWN,
                f"this cluster has no GPU of type {name}",
                value=name,
                limit=", ".join(kinds) or "no GPUs at all",
                remedy=f"ask for one of: {', '.join(kinds)}" if kinds else "ask for no GPU",
            )
            for name, kind in zip(asked, found, strict=True)
            if kind is None
        ]
        return [kind for kind in found if kind], missing
    order: dict[str, Kind] = {}
    pools = need.workload.pools
    if policy.defaults.gpu_type:
        pools = (policy.defaults.gpu_type, *pools)
    for pool in pools:
        if pool == "*":
            rest = sorted(kinds.values(), key=_price_then_name)
            order.update((kind.name, kind) for kind in rest if kind.name not in order)
        elif pool in kinds:
            order.setdefault(pool, kinds[pool])
    if order:
        return list(order.values()), []
    reason = Reason(
        rules.GPU_TYPE_KNOWN,
        f"this cluster has none of the GPU types that {need.request.workload} jobs use",
        value=", ".join(pools),
        limit=", ".join(kinds) or "no GPUs at all",
        remedy="name one with --gpu-type" if kinds else "ask for no GPU",
    )
    return [], [reason]


def _price_then_name(kind: Kind) -> tuple[bool, int, str]:
    return (kind.price_micros is None, kind.price_micros or 0, kind.name)


def _fit(need: Need, kind: Kind, snapshot: Snapshot, policy: Policy) -> Route | Reason:
    """Rules A-104 to A-107: the first partition in which the request fits on this GPU type."""
    usable = [(node, count) for node, count in kind.nodes if node.usable]
    if not usable:
        states = ", ".join(f"{node.name} is {_state(node)}" for node, _ in kind.nodes[:4])
        return Reason(
            rules.GPU_TYPE_UP,
            f"no node with {kind.name} GPUs is up: {states}",
            value=kind.name,
            remedy="wait until the operators bring one back, or choose another GPU type",
        )
    order = _partition_order(need, kind.partitions, [n for n, _ in usable], snapshot, policy)
    if isinstance(order, Reason):
        return order
    failure: Reason | None = None
    routes: list[Route] = []
    for partition in order:
        here = [(node, count) for node, count in usable if partition.name in node.partitions]
        found = _fit_partition(need, kind, partition, here, kind.nodes)
        if isinstance(found, Route):
            routes.append(found)
            if not need.request.partition:
                break
        elif failure is None:
            failure = found
    if not routes:
        return failure or Reason(
            rules.PARTITION,
            f"no partition has usable nodes with {kind.name} GPUs",
            value=need.request.partition,
        )
    merged = replace(routes[0], partition=",".join(item.partition for item in routes))
    if kind.price_micros is None or merged.time_seconds is None:
        return merged
    cost = cost_micros(kind.price_micros, merged.gpus, merged.time_seconds, need.tasks)
    return replace(merged, cost_micros=cost)


def _state(node: Node) -> str:
    text = "+".join([node.state, *sorted(node.flags)]).lower()
    return f"{text} ({node.reason})" if node.reason else text


def _partition_order(
    need: Need,
    allowed: Sequence[str],
    nodes: Sequence[Node],
    snapshot: Snapshot,
    policy: Policy,
) -> list[Partition] | Reason:
    """Rule A-106: the partitions to try, best first; the user's own choice is the only one."""
    by_name = {partition.name: partition for partition in snapshot.partitions}
    asked = need.request.partition
    if asked:
        names = [name for name in asked.split(",") if name]
        unknown = [name for name in names if name not in by_name]
        if unknown:
            return Reason(
                rules.PARTITION,
                f"there is no partition {unknown[0]}",
                value=unknown[0],
                limit=", ".join(by_name),
                remedy=f"use one of: {', '.join(by_name)}",
            )
        return [by_name[name] for name in names]
    present = {name for node in nodes for name in node.partitions}
    preferred = [
        *need.workload.partitions,
        *((policy.defaults.partition,) if policy.defaults.partition else ()),
        *allowed,
    ]
    rank = {name: place for place, name in reversed(list(enumerate(preferred)))}
    last = len(preferred)
    return sorted(
        (by_name[name] for name in present if name in by_name and (not allowed or name in allowed)),
        key=lambda p: (rank.get(p.name, last), not p.default, -p.priority_tier, p.name),
    )


def _fit_partition(
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
    if partition.max_nodes is not None and nodes > partition.max_nodes:
        return Reason(
            rules.SIZE,
            f"the job needs {nodes} nodes and partition {partition.name} gives "
            f"at most {partition.max_nodes} to one job",
            value=str(nodes),
            limit=str(partition.max_nodes),
            remedy="ask for fewer GPUs or another partition",
        )
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
    if not problem:
        return None
    return Reason(
        rules.PARTITION,
        f"partition {partition.name} {problem}",
        value=value,
        limit=limit or None,
        remedy="choose another partition, account or QOS",
    )


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
        f"no fitting node of partition {partition.name} has "
        f"{request.cpus_per_task or 1} CPUs and {request.memory_mb or 0} MiB of memory for one task",
        value=f"{request.cpus_per_task or 1} CPUs, {request.memory_mb or 0} MiB",
        limit=f"{cpus} CPUs, {memory} MiB",
        remedy=f"ask for at most {cpus} CPUs a task and {memory} MiB a node",
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
    asked = (
        f"{request.gpus_per_node} GPUs on each of {request.nodes or 1} nodes"
        if request.gpus_per_node
        else f"{request.gpus} GPUs" + (f" on {request.nodes} nodes" if request.nodes else "")
        if kind
        else f"{request.nodes or 1} nodes"
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
    """Rules A-107, R-305: the time limit, the user's own or the default within the partition's."""
    asked, longest = need.request.time_seconds, partition.max_time_seconds
    if asked is None:
        default = need.workload.default_time or partition.default_time_seconds or longest
        return min(default, longest) if default and longest else default
    if longest is not None and asked > longest:
        return Reason(
            rules.TIME,
            f"the time limit {format_duration(asked)} is longer than partition "
            f"{partition.name} allows",
            value=format_duration(asked),
            limit=format_duration(longest),
            remedy=f"ask for at most --time={format_duration(longest)}",
        )
    return asked


def _cheapest(need: Need, fits: Sequence[Route], cap_micros: int, currency: str) -> Route | Reason:
    """Rules R-302, C-402: the cheapest place whose whole cost stays within --max-cost."""
    priced = sorted(
        (fit for fit in fits if fit.cost_micros is not None), key=lambda fit: fit.cost_micros or 0
    )
    cap = f"{format_money(cap_micros)} {currency}"
    if not priced:
        return Reason(
            rules.COST_UNKNOWN,
            "--max-cost cannot be kept: the site has set no price for the GPU types that fit"
            if any(fit.time_seconds for fit in fits)
            else "--max-cost cannot be kept without a time limit",
            limit=cap,
            remedy="give --time"
            if any(not f.time_seconds for f in fits)
            else "leave --max-cost out",
        )
    best = priced[0]
    cost = best.cost_micros or 0
    kind = best.kind
    if cost <= cap_micros:
        reason = Reason(
            rules.ROUTE_CHEAPEST,
            f"{kind.name if kind else 'CPU'} in partition {best.partition} is the cheapest that "
            f"fits: {format_money(cost)} {currency} of at most {cap}",
            value=f"{format_money(cost)} {currency}",
            limit=cap,
        )
        return replace(best, reasons=(reason,))
    price = kind.price_micros if kind else None
    seconds = affordable_seconds(price or 0, best.gpus, cap_micros, need.tasks) or 0
    return Reason(
        rules.COST_CAP,
        f"the job would cost up to {format_money(cost)} {currency} on the cheapest GPUs that fit, "
        f"more than --max-cost {format_money(cap_micros)}",
        value=f"{format_money(cost)} {currency}",
        limit=cap,
        remedy=f"ask for at most --time={format_duration(seconds)} on {kind.name if kind else ''}, "
        "or for fewer GPUs"
        if seconds >= 60  # noqa: PLR2004 - Slurm counts time limits in minutes
        else "ask for fewer GPUs or allow more",
    )


def _with_preference_reason(need: Need, chosen: Route, failures: Sequence[Reason]) -> Route:
    """Rule R-301: say why this type was taken."""
    name = chosen.kind.name if chosen.kind else ""
    why = (
        "you asked for it"
        if need.request.gpu_types and not failures
        else f"it is the first of the types for {need.request.workload} jobs that fits"
        if not need.request.gpu_types
        else "the types you prefer do not fit: " + "; ".join(item.message for item in failures)
    )
    reason = Reason(
        rules.ROUTE_PREFERENCE, f"{name} in partition {chosen.partition}: {why}", value=name
    )
    return replace(chosen, reasons=(reason,))


def _fall_back(
    need: Need, snapshot: Snapshot, policy: Policy, failures: tuple[Reason, ...]
) -> Route | tuple[Reason, ...]:
    """Rule R-303: run on CPUs where the user allows it, the class can, and no GPU fits."""
    if not need.request.cpu_fallback:
        return failures
    fallback = need.workload.cpu_fallback
    if not fallback.allowed:
        reason = Reason(
            rules.ROUTE_CPU_FALLBACK,
            f"{need.request.workload} jobs cannot fall back to CPUs at this site",
            value=need.request.workload,
            remedy="leave --fallback out, or choose a workload class that runs on CPUs",
        )
        return (*failures, reason)
    gpus = need.request.gpus or (need.request.gpus_per_node or 0) * (need.request.nodes or 1)
    bare = replace(need, request=replace(need.request, gpus=None, gpus_per_node=None, nodes=None))
    found = _without_gpus(bare, snapshot, policy, preferred=fallback.partitions)
    if not isinstance(found, Route):
        return (*failures, *found)
    largest = max(
        (node.cpus for node in snapshot.nodes if found.partition in node.partitions), default=1
    )
    cpus = min(gpus * fallback.cpus_per_gpu, largest)
    why = "; ".join(item.message for item in failures)
    reason = Reason(
        rules.ROUTE_CPU_FALLBACK,
        f"runs on {cpus} CPUs instead of {gpus} GPUs, as --fallback cpu allows: {why}",
        value=f"{cpus} CPUs",
    )
    return replace(found, cpus=cpus, reasons=(reason,))


def _without_gpus(
    need: Need, snapshot: Snapshot, policy: Policy, preferred: Sequence[str]
) -> Route | tuple[Reason, ...]:
    """Rule R-304: a job without GPUs goes to nodes without GPUs where a partition has such."""
    usable = [(node, 0) for node in snapshot.nodes if node.usable]
    order = _partition_order(need, preferred, [node for node, _ in usable], snapshot, policy)
    if isinstance(order, Reason):
        return (order,)
    if not need.request.partition:
        with_gpus = {name for node, _ in usable if node.gpus for name in node.partitions}
        order = sorted(order, key=lambda partition: partition.name in with_gpus)
    failures: list[Reason] = []
    everywhere = [(node, 0) for node in snapshot.nodes]
    for partition in order:
        here = [(node, 0) for node, _ in usable if partition.name in node.partitions]
        found = _fit_partition(need, None, partition, here, everywhere)
        if isinstance(found, Route):
            reason = Reason(
                rules.ROUTE_CPU, f"no GPU is asked for: partition {partition.name}", value="0"
            )
            return replace(found, reasons=(reason,))
        failures.append(found)
    return tuple(failures[:1]) or (Reason(rules.PARTITION, "no partition has usable nodes"),)
