"""The GPU types of a cluster, and which of them a request may use (rules A-103, R-301)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.model.decision import Reason
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy import rules

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slurm_gpu_policy.config.schema import Cluster, Policy, Workload
    from slurm_gpu_policy.model.cluster import Node
    from slurm_gpu_policy.model.prices import Prices
    from slurm_gpu_policy.model.request import Request


@record
class Kind:
    """A GPU type as this cluster offers it: the site's entry joined with the nodes that have it.

    ``gres_type`` is ``None`` where requests name no type.
    """

    name: str
    gres_type: str | None
    features: tuple[str, ...]
    partitions: tuple[str, ...]
    price_micros: int | None
    """Of one GPU for an hour, without any factor; to compare types by."""
    nodes: tuple[tuple[Node, int], ...]
    """Each node that has it, with how many GPUs of it the node has in all."""


def gpu_kinds(
    nodes: Iterable[Node], policy: Policy, cluster: Cluster, prices: Prices
) -> dict[str, Kind]:
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
            price = prices.gpus.get((entry.gres_type or name).lower())
            kinds[name] = Kind(name, gres_type, entry.features, entry.partitions, price, found)
    types = sorted({gpus.type for node in nodes for gpus in node.gpus} - listed)
    for slurm_type in types:
        if not cluster.typed and listed:
            break
        gres_type = slurm_type if cluster.typed and slurm_type else None
        found = tuple((node, n) for node in nodes if (n := _count(node, gres_type)))
        name = gres_type or "gpu"
        price = prices.gpus.get((gres_type or "").lower())
        kinds.setdefault(name, Kind(name, gres_type, (), (), price, found))
    return kinds


def _count(node: Node, gres_type: str | None) -> int:
    return sum(gpus.total for gpus in node.gpus if gres_type in (None, gpus.type))


def wanted_kinds(
    request: Request, workload: Workload, kinds: dict[str, Kind], policy: Policy
) -> tuple[list[Kind], list[Reason]]:
    """Rule A-103, R-301: the types to try, in order, and those asked for that do not exist."""
    asked = request.gpu_types
    if not asked and policy.defaults.gpu_type and not workload.pools:
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
    pools = workload.pools
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
        f"this cluster has none of the GPU types that {request.workload} jobs use",
        value=", ".join(pools),
        limit=", ".join(kinds) or "no GPUs at all",
        remedy="name one with --gpu-type" if kinds else "ask for no GPU",
    )
    return [], [reason]


def _price_then_name(kind: Kind) -> tuple[bool, int, str]:
    return (kind.price_micros is None, kind.price_micros or 0, kind.name)
