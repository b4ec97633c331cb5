"""Where a request goes: the best GPU type and partition that can hold it (rules A-106, R-3xx)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slurm_gpu_policy.model.decision import Reason
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.fitting import Need, Route, fit_partition
from slurm_gpu_policy.policy.gpu_kinds import Kind, gpu_kinds, wanted_kinds
from slurm_gpu_policy.policy.prices.pricing import cost, has_price, prices_at, use_of_request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_gpu_policy.config.schema import Cluster, Policy
    from slurm_gpu_policy.model.cluster import Node, Partition
    from slurm_gpu_policy.model.request import Request
    from slurm_gpu_policy.model.snapshot import Snapshot


def route(
    need: Need, snapshot: Snapshot, policy: Policy, cluster: Cluster
) -> Route | tuple[Reason, ...]:
    """Return the best place for a request, or every reason why there is none."""
    if not need.request.wants_gpus:
        on_cpus = _without_gpus(need, snapshot, policy, preferred=())
        return _capped(need, on_cpus, policy.currency)
    prices = prices_at(need.book, need.now)
    kinds = gpu_kinds(snapshot.nodes, policy, cluster, prices)
    wanted, unknown = wanted_kinds(need.request, need.workload, kinds, policy)
    fits: list[Route] = []
    failures = list(unknown)
    for kind in wanted:
        found = _fit(need, kind, snapshot, policy)
        if isinstance(found, Route):
            fits.append(found)
        else:
            failures.append(found)
    if fits and need.request.max_cost_micros is not None:
        from slurm_gpu_policy.policy.prices.capping import cheapest  # noqa: PLC0415 - few ask for it

        chosen = cheapest(need, fits, need.request.max_cost_micros, policy.currency)
        if isinstance(chosen, Route):
            return chosen
        failures, fits = [*failures, chosen], []
    if fits:
        return _with_preference_reason(need, fits[0], failures)
    return _fall_back(need, snapshot, policy, tuple(failures))


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
    merged = _try_partitions(need, kind, order, usable, kind.nodes)
    if isinstance(merged, Reason):
        return merged
    return _priced(need, merged, snapshot)


def _priced(need: Need, found: Route, snapshot: Snapshot) -> Route:
    """Rules C-401, C-403: what all tasks cost if they start now and use their whole time limit."""
    use = use_of_request(need, found, snapshot)
    micros = None
    if found.time_seconds and has_price(use, prices_at(need.book, need.now)):
        one = cost(use, need.now, need.now + found.time_seconds, need.book)
        micros = one.micros * need.tasks
    return replace(found, use=use, cost_micros=micros)


def _try_partitions(
    need: Need,
    kind: Kind | None,
    order: Sequence[Partition],
    usable: Sequence[tuple[Node, int]],
    everywhere: Sequence[tuple[Node, int]],
) -> Route | Reason:
    """Return the first partition that fits; or all that do, of those the user named."""
    failures: list[Reason] = []
    routes: list[Route] = []
    for partition in order:
        here = [(node, count) for node, count in usable if partition.name in node.partitions]
        found = fit_partition(need, kind, partition, here, everywhere)
        if isinstance(found, Reason):
            failures.append(found)
            continue
        routes.append(found)
        if not need.request.partition:
            break
    if not routes:
        what = f"usable nodes with {kind.name} GPUs" if kind else "usable nodes"
        nowhere = Reason(rules.PARTITION, f"no partition has {what}", value=need.request.partition)
        return failures[0] if failures else nowhere
    left_out = [replace(item, message=f"left out: {item.message}") for item in failures]
    return replace(
        routes[0],
        partition=",".join(item.partition for item in routes),
        reasons=tuple(left_out) if need.request.partition else (),
    )


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
    return replace(chosen, reasons=(reason, *chosen.reasons))


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
    largest = _cpus_of_one_node(found.partition.split(",")[0], need.request, snapshot)
    tasks = need.request.ntasks or 1
    cpus = max(min(gpus * fallback.cpus_per_gpu, largest) // tasks, 1)
    why = "; ".join(item.message for item in failures)
    reason = Reason(
        rules.ROUTE_CPU_FALLBACK,
        f"runs on {cpus * tasks} CPUs instead of {gpus} GPUs, as --fallback cpu allows: {why}",
        value=f"{cpus * tasks} CPUs",
    )
    priced = _priced(bare, replace(found, cpus=cpus, reasons=(reason,)), snapshot)
    capped = _capped(bare, priced, policy.currency)
    return capped if isinstance(capped, Route) else (*failures, *capped)


def _capped(
    need: Need, found: Route | tuple[Reason, ...], currency: str
) -> Route | tuple[Reason, ...]:
    """Rule C-402 for a job without GPUs."""
    cap = need.request.max_cost_micros
    if cap is None or not isinstance(found, Route):
        return found
    from slurm_gpu_policy.policy.prices.capping import capped_on_cpus  # noqa: PLC0415 - few ask for it

    return capped_on_cpus(need, found, cap, currency)


def _cpus_of_one_node(partition: str, request: Request, snapshot: Snapshot) -> int:
    """Return the most CPUs a job can have on one node, with the memory that comes with them.

    Without a memory of its own a job gets DefMemPerCPU for each CPU, and Slurm refuses the job
    where a node has less.
    """
    settings = snapshot.config.settings if snapshot.config else {}
    each = settings.get("DefMemPerCPU", "")
    names_memory = request.memory_mb is not None or any(
        name in {"mem", "mem-per-cpu"} for name, _ in (*request.options, *request.script_options)
    )
    most = [
        min(node.cpus, node.memory_mb // int(each))
        if each.isdecimal() and int(each) and not names_memory
        else node.cpus
        for node in snapshot.nodes
        if partition in node.partitions and node.usable
    ]
    return max(most, default=1)


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
    everywhere = [(node, 0) for node in snapshot.nodes]
    found = _try_partitions(need, None, order, usable, everywhere)
    if isinstance(found, Reason):
        return (found,)
    reason = Reason(rules.ROUTE_CPU, f"no GPU is asked for: partition {found.partition}", value="0")
    return _priced(need, replace(found, reasons=(reason, *found.reasons)), snapshot)
