"""A job's priority exactly as Slurm's priority/multifactor computes it.

Everything is a double, added in Slurm's order, because the sum is truncated: one last bit can
be one point. PM is ``src/plugins/priority/multifactor/priority_multifactor.c`` of slurm-25.11;
docs/priority.md has the formulas in one place.
"""

from __future__ import annotations

from dataclasses import field
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from slurm_gpu_policy.model.record import record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_NO_TRES: Mapping[str, int] = MappingProxyType({})
_NO_POINTS: Mapping[str, float] = MappingProxyType({})
HIGHEST: Final = 2**32 - 1
"""No priority is higher; Slurm keeps it in 32 bits."""
_HIGHEST: Final = float(HIGHEST)
_UNLIMITED_MINUTES: Final = 2**32 - 1
"""slurm.h INFINITE: what Slurm divides by where a job may run for ever."""
_WIRE: Final = 1_000_000.0
"""Slurm multiplies a double by this to send it and divides it again (pack.c, FLOAT_MULT)."""

Share = tuple[str, float, float]
"""A weighted TRES: its name, what counts as all of it, its weight."""
_Points = tuple[float, float, float, float, float, float, tuple[Share, ...], int]
"""Age, association, fair share, job size, partition, QOS; the weighted TRES; the priority."""


@record
class Weights:
    """PriorityWeight*; ``tres`` per TRES name in lower case, in the order of Slurm's TRES table.

    A name has Slurm's form ``gres/gpu:h100``; memory's weight is for MiB.
    """

    age: int = 0
    association: int = 0
    fair_share: int = 0
    job_size: int = 0
    partition: int = 0
    qos: int = 0
    tres: Mapping[str, float] = field(default_factory=lambda: _NO_POINTS)


@record
class Settings:
    """What the cluster says once for all jobs; policy/priority_settings.py reads it."""

    weights: Weights = field(default_factory=Weights)
    max_age_seconds: int = 7 * 86400
    flags: frozenset[str] = frozenset()
    """PriorityFlags as slurm.conf writes them (``ACCRUE_ALWAYS``)."""
    favor_small: bool = False
    cluster_cpus: int = 1
    nodes: int = 1
    """Nodes Slurm has records of (``active_node_record_count``)."""
    max_association_priority: int = 0
    max_qos_priority: int = 0
    max_partition_factor: int = 1


@record
class Place:
    """Where a job stands: its partition, QOS and association; one object serves many jobs.

    ``fair_share`` is the association's factor of the last cycle, ``partition_tres`` the
    partition's totals per TRES name with memory in MiB.
    """

    partition: str = ""
    qos: str = ""
    fair_share: float = 0.0
    association_priority: int = 0
    qos_priority: int = 0
    partition_factor: int = 1
    """PriorityJobFactor."""
    partition_tres: Mapping[str, int] = field(default_factory=lambda: _NO_TRES)


@record
class Claim:
    """What one job brings in one place; a job with a list of partitions has one claim for each.

    Times are Unix seconds, memory in ``tres`` is in MiB.
    """

    place: Place
    accrue_time: int | None = None
    """When its age began to grow (:func:`age_start`); ``None`` while it does not."""
    min_nodes: int = 1
    cpus: int = 0
    time_limit_minutes: int | None = None
    """Its own limit, else its partition's MaxTime; ``None`` is unlimited."""
    tres: Mapping[str, int] = field(default_factory=lambda: _NO_TRES)
    """Counts it holds or, while it waits, asks for."""
    site: int = 0
    nice: int = 0
    direct_priority: int | None = None
    """Set by hand (``scontrol update priority=N``); 0 while held; ``None`` as a rule."""
    one_of_several: bool = False
    """Whether the job lists several partitions or QOS: Slurm then adds in another order."""


@record
class Terms:
    """The weighted points of one claim, and the priority that Slurm makes of them."""

    site: int
    age: float
    association: float
    fair_share: float
    job_size: float
    partition: float
    qos: float
    nice: int
    tres: Mapping[str, float]
    priority: int
    direct: bool = False
    """Whether the priority was set by hand; no term counts then and all are zero."""


def terms(claim: Claim, settings: Settings, now: int) -> Terms:
    """Return the terms and the priority of *claim* at *now* (PM:579-721).

    *now* is the second of Slurm's last calculation: a cycle, or an update of the job. A held job
    has priority 0, one with a direct priority that one, and neither has any terms (PM:587-595).
    """
    if claim.direct_priority is not None:
        return Terms(
            0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, _NO_POINTS, claim.direct_priority, direct=True
        )
    found = next(_each((claim,), settings, now))
    age, association, fair_share, job_size, partition, qos, shares, priority = found
    return Terms(
        site=claim.site,
        age=age,
        association=association,
        fair_share=fair_share,
        job_size=job_size,
        partition=partition,
        qos=qos,
        nice=claim.nice,
        tres=MappingProxyType({share[0]: _tres_sum(claim.tres, (share,)) for share in shares}),
        priority=priority,
    )


def priorities(claims: Iterable[Claim], settings: Settings, now: int) -> list[int]:
    """Return only the priorities of many claims, in their order; each as :func:`terms` has it."""
    return [found[-1] for found in _each(claims, settings, now)]


def age_start(flags: frozenset[str], submit_time: int, accrue_time: int | None) -> int | None:
    """Return when a job's age begins: with ACCRUE_ALWAYS at submission, else where Slurm says."""
    return submit_time if "ACCRUE_ALWAYS" in flags else accrue_time


def age_factor(accrue_time: int | None, now: int, max_age_seconds: int) -> float:
    """Return the age factor, from 0 to 1 at PriorityMaxAge (PM, set_priority_factors)."""
    if not accrue_time:
        return 0.0
    waited = now - accrue_time if now > accrue_time else 0
    return waited / max_age_seconds if waited < max_age_seconds else 1.0


def job_size_factor(
    min_nodes: int, cpus: int, time_limit_minutes: int | None, settings: Settings
) -> float:
    """Return the size factor, from 0 to 1: large jobs first, or small ones, or short ones.

    Slurm subtracts CPUs in 32 unsigned bits: with PriorityFavorSmall a job that asks for more
    than the cluster has counts as the smallest. It stays pending, and we say what Slurm says.
    """
    all_nodes, all_cpus = settings.nodes, settings.cluster_cpus
    if not (all_nodes and all_cpus):
        return 0.0
    if "SMALL_RELATIVE_TO_TIME" in settings.flags:
        size = float(min_nodes) * all_cpus / all_nodes
        size = float(cpus) if cpus > size else size
        minutes = _UNLIMITED_MINUTES if time_limit_minutes is None else time_limit_minutes
        size = (size / minutes if minutes else inf) / all_cpus
        if settings.favor_small:
            size = 1.0 - size
    elif settings.favor_small:
        size = (all_nodes - min_nodes) / all_nodes if all_nodes > min_nodes else 0.0
        if cpus:
            size = (size + ((all_cpus - cpus) & 0xFFFFFFFF) / all_cpus) / 2
    else:
        size = min_nodes / all_nodes
        if cpus:
            size = (size + cpus / all_cpus) / 2
    return min(max(size, 0.0), 1.0)


def kept_priority(before: int, computed: int, settings: Settings) -> int:
    """Return the priority a cycle leaves on a job: a hold stays; INCR_ONLY never lowers."""
    if before == 0 or ("INCR_ONLY" in settings.flags and before > computed):
        return before
    return computed


def recalculates(settings: Settings, *, pending: bool) -> bool:
    """Return whether Slurm computes a job's priority anew: running ones with CALCULATE_RUNNING."""
    return pending or "CALCULATE_RUNNING" in settings.flags


def shown_priority(found: Terms) -> int:
    """Return what ``sprio`` prints as PRIORITY (sprio/print.c:81-113).

    It adds the terms again, in its own order and after their way over the wire, and knows no
    highest priority: it can be a point beside the job's own.
    """
    if found.direct:
        return found.priority
    total = (
        _sent(found.age)
        + _sent(found.association)
        + _sent(found.fair_share)
        + _sent(found.job_size)
        + _sent(found.partition)
        + _sent(found.qos)
        + found.site
        - found.nice
    )
    for points in found.tres.values():
        total += _sent(points)
    return int(total) if total >= 1 else 1


def shown_term(points: float) -> int:
    """Return what ``sprio`` prints of one term: rounded, halves to even (``%.0f``)."""
    return round(_sent(points))


def shown_factor(points: float, weight: float, digits: int = 7) -> str:
    """Return what ``sprio -n`` prints of one term; of a TRES with 2 *digits*."""
    return f"{_sent(points) / weight if weight else 0.0:.{digits}f}"


def _each(claims: Iterable[Claim], settings: Settings, now: int) -> Iterator[_Points]:
    """Yield the points of each claim, its weighted TRES, and its priority.

    The formula stands here once, in Slurm's order of adding: PM:630-648 for one partition, and
    PM:477-576 for one of a list. What few values have in common is computed once a value.
    """
    max_age, weights = settings.max_age_seconds, settings.weights
    weight_age, weight_size = float(weights.age), float(weights.job_size)
    weight_share = float(weights.fair_share)
    of_association = _Once(
        _normal("ASSOC", settings, settings.max_association_priority, weights.association)
    )
    of_partition = _Once(
        _normal("PART", settings, settings.max_partition_factor, weights.partition)
    )
    of_qos = _Once(_normal("QOS", settings, settings.max_qos_priority, weights.qos))
    of_shape = _Once(
        lambda shape: job_size_factor(shape[0], shape[1], shape[2], settings) * weight_size
    )
    # Totals are kept beside what is made of them, so that their id stays their own.
    kept: dict[int, tuple[tuple[Share, ...], Mapping[str, int]]] = {}
    for claim in claims:
        if claim.direct_priority is not None:
            yield 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, (), claim.direct_priority
            continue
        place = claim.place
        totals = place.partition_tres
        if id(totals) not in kept:
            kept[id(totals)] = (_shares(totals, settings), totals)
        shares = kept[id(totals)][0]
        age = age_factor(claim.accrue_time, now, max_age) * weight_age
        association = of_association[place.association_priority]
        fair_share = place.fair_share * weight_share
        size = of_shape[claim.min_nodes, claim.cpus, claim.time_limit_minutes]
        partition = of_partition[place.partition_factor]
        qos = of_qos[place.qos_priority]
        tres = _tres_sum(claim.tres, shares)
        site, nice = float(claim.site), float(claim.nice)
        if claim.one_of_several:
            total = partition + (age + association + fair_share + size + qos + tres + site - nice)
        else:
            total = age + association + fair_share + size + partition + qos + tres + site - nice
        # 0 is for held jobs, nothing is rounded, and 32 bits are all there is (PM:650-660).
        priority = 1 if total < 1.0 else int(total) if total < _HIGHEST else HIGHEST
        yield age, association, fair_share, size, partition, qos, shares, priority


class _Once(dict[Any, float]):
    """Values of a function, each computed once."""

    def __init__(self, function: Callable[[Any], float]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, key: Any) -> float:
        value = self[key] = self._function(key)
        return value


def _normal(what: str, settings: Settings, most: int, weight: int) -> Callable[[int], float]:
    """Return the function from a priority to its points, as a part of the most there is."""
    if _is_raw(settings, what):
        return lambda value: float(value) * weight
    return lambda value: value / most * weight if most else 0.0


def _shares(totals: Mapping[str, int], settings: Settings) -> tuple[Share, ...]:
    raw = _is_raw(settings, "TRES")
    return tuple(
        (name, 1.0 if raw else float(totals.get(name, 0)) or inf, weight)
        for name, weight in settings.weights.tres.items()
    )


def _is_raw(settings: Settings, what: str) -> bool:
    return not settings.flags.isdisjoint(("NO_NORMAL_ALL", f"NO_NORMAL_{what}"))


def _tres_sum(counts: Mapping[str, int], shares: tuple[Share, ...]) -> float:
    """Return the points of the weighted TRES; one that the partition lacks has none.

    One after the other, as Slurm does: ``sum`` adds more exactly from Python 3.12 on.
    """
    points = 0.0
    for name, total, weight in shares:
        count = counts.get(name)
        if count:
            points += count / total * weight
    return points


def _sent(value: float) -> float:
    """Return *value* as it arrives in another program (pack.c, packdouble and unpackdouble)."""
    return value * _WIRE / _WIRE
