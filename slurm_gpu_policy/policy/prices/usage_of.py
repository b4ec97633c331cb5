"""What a request, a job or a run holds, as far as prices ask for it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.errors import RequestError
from slurm_gpu_policy.model.prices import Use
from slurm_gpu_policy.policy.pending import controller_mark, points
from slurm_gpu_policy.units import parse_memory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slurm_gpu_policy.model.cluster import Node
    from slurm_gpu_policy.model.job import AccountingRecord, Job
    from slurm_gpu_policy.model.request import Request
    from slurm_gpu_policy.model.snapshot import Snapshot
    from slurm_gpu_policy.policy.fitting import Need, Route

_ALL_GPUS: Final = "gres/gpu"
_TYPED: Final = "gres/gpu:"
_MEMORY: Final = frozenset({"mem", "mem-per-cpu", "mem-per-gpu"})


def use_of_run(record: AccountingRecord) -> Use:
    """Return what a run held, from its allocated TRES."""
    tres = record.allocated_tres
    return Use(
        MappingProxyType(gpus_in(tres)),
        tres.get("cpu", 0),
        tres.get("mem", 0),
        record.partition,
        record.qos,
    )


def use_of_job(job: Job) -> Use:
    """Return what one task of a job holds, or would hold where it waits.

    Slurm's own sums count where it has them. A request may name a type that its TRES do not, and
    a job that waits may get more than it shows (``-N 1-4``): job_submit.lua has written how many.
    """
    gpus = gpus_in(job.tres)
    most = max(job.gpus, points(controller_mark(job), "most") or 0 if job.state.is_pending else 0)
    missing = max(most - sum(gpus.values()), 0) + (gpus.pop("", 0) if job.gpu_type else 0)
    if missing:
        gpus[job.gpu_type.lower()] = gpus.get(job.gpu_type.lower(), 0) + missing
    return Use(
        MappingProxyType(gpus),
        job.tres.get("cpu", 0) or job.cpus,
        job.tres.get("mem", 0) or job.memory_mb,
        ",".join(job.partitions),
        job.qos,
    )


def gpus_in(tres: Mapping[str, int]) -> dict[str, int]:
    """Return the GPUs among TRES by Slurm's name of the type in lower case; ``""``: without one.

    ``gres/gpu`` counts the typed ones again.
    """
    found: dict[str, int] = {}
    for name, count in tres.items():
        if name.startswith(_TYPED) and count:
            gpu_type = name[len(_TYPED) :].lower()
            found[gpu_type] = found.get(gpu_type, 0) + count
    rest = tres.get(_ALL_GPUS, 0) - sum(found.values())
    if rest > 0:
        found[""] = rest
    return found


def use_of_request(need: Need, route: Route, snapshot: Snapshot) -> Use:
    """Return what one task of a request will hold in the place it goes to.

    CPUs and memory are what it asks for, or what the cluster gives those who ask for none. Slurm
    may give more: whole cores, or more CPUs where memory for each is limited.
    """
    request = need.request
    nodes = _largest(route, snapshot)
    gpu_type = (route.kind.gres_type or "").lower() if route.kind else ""
    cpus = _cpus(request, route, nodes)
    return Use(
        MappingProxyType({gpu_type: route.gpus} if route.gpus else {}),
        cpus,
        _memory(request, route, cpus, nodes, snapshot),
        route.partition,
        need.qos,
    )


def _largest(route: Route, snapshot: Snapshot) -> list[Node]:
    """Return the largest nodes the job may get."""
    partition = route.partition.partition(",")[0]
    having = {node.name for node, _ in route.kind.nodes} if route.kind else None
    here = [
        node
        for node in snapshot.nodes
        if partition in node.partitions and (having is None or node.name in having)
    ]
    return sorted(here, key=lambda node: (node.cpus, node.memory_mb))[-route.nodes :]


def _asked(request: Request) -> Mapping[str, str | None]:
    return dict((*request.script_options, *request.options))


def _cpus(request: Request, route: Route, nodes: Sequence[Node]) -> int:
    asked = _asked(request)
    if request.is_exclusive:
        return sum(node.cpus for node in nodes)
    if each := _count(asked.get("cpus-per-gpu")):
        return each * route.gpus
    tasks = request.ntasks or (
        _count(asked.get("ntasks-per-node")) * route.nodes
        or _count(asked.get("ntasks-per-gpu")) * route.gpus
        or route.nodes
    )
    return tasks * (route.cpus or request.cpus_per_task or 1)


def _memory(
    request: Request, route: Route, cpus: int, nodes: Sequence[Node], snapshot: Snapshot
) -> int:
    """Return the MiB in all: asked for, else the cluster's default, else the nodes' whole."""
    typed = {name: value for name, value in request.options if name in _MEMORY}
    asked = typed or dict(request.script_options)
    whole = sum(node.memory_mb for node in nodes)
    if request.memory_mb:
        return request.memory_mb * route.nodes
    if "mem" in asked:  # --mem=0 asks for all there is
        return whole
    by_gpu = _mebibytes(asked.get("mem-per-gpu")) * route.gpus
    by_cpu = _mebibytes(asked.get("mem-per-cpu")) * cpus
    return by_gpu or by_cpu or _default_memory(route, cpus, whole, snapshot)


def _default_memory(route: Route, cpus: int, whole: int, snapshot: Snapshot) -> int:
    settings = snapshot.config.settings if snapshot.config else {}
    by_node = _count(settings.get("DefMemPerNode")) * route.nodes
    by_cpu = _count(settings.get("DefMemPerCPU")) * cpus
    if "MEMORY" not in settings.get("SelectTypeParameters", "").upper():
        whole = 0  # memory is nothing that Slurm gives away there
    return by_node or by_cpu or whole


def _count(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def _mebibytes(text: str | None) -> int:
    try:
        return parse_memory(text) if text else 0
    except RequestError:  # sbatch says what is wrong with it
        return 0
