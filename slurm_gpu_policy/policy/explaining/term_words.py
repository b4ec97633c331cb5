"""What a priority is made of, in words, and by which term one job is ahead of another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy.priority import age_factor
from slurm_gpu_policy.units import counted, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from slurm_gpu_policy.policy.priority import Claim, Settings, Terms

NAMES: Final[Mapping[str, str]] = {
    "fair_share": "fair share",
    "age": "age",
    "qos": "QOS",
    "partition": "partition",
    "job_size": "job size",
    "tres": "TRES",
    "association": "account",
    "site": "site factor",
    "nice": "nice",
}
"""The terms by their names in JSON."""


@record
class TermWords:
    """One term: ``points`` as it counts (nice is negative), and a sentence."""

    name: str
    points: float
    text: str


def points(found: Terms) -> dict[str, float]:
    """Return the points of each term as they count: TRES together, nice as what it takes."""
    return {
        "fair_share": found.fair_share,
        "age": found.age,
        "qos": found.qos,
        "partition": found.partition,
        "job_size": found.job_size,
        "tres": sum(found.tres.values()),
        "association": found.association,
        "site": float(found.site),
        "nice": float(-found.nice),
    }


def term_words(
    claim: Claim, found: Terms, settings: Settings, now: int, more: Mapping[str, str]
) -> tuple[TermWords, ...]:
    """Return the terms of one claim in words, the weightiest first.

    A term without weight and points is left out. *more* adds a reason to a term, by its name.
    """
    if found.direct:
        text = f"somebody set its priority {found.priority:,} by hand, so no term counts"
        return (TermWords("direct", float(found.priority), text),)
    said = sorted(_each(claim, found, settings, now), key=lambda one: (-abs(one[1]), one[0]))
    return tuple(
        TermWords(name, number, f"{text}: {more[name]}" if more.get(name) else text)
        for name, number, text in said
    )


def _each(
    claim: Claim, found: Terms, settings: Settings, now: int
) -> Iterator[tuple[str, float, str]]:
    weights, place = settings.weights, claim.place
    if weights.fair_share:
        share = _of(found.fair_share, weights.fair_share)
        yield "fair_share", found.fair_share, f"fair share {place.fair_share:.2f} ({share})"
    if weights.age:
        yield "age", found.age, f"age: {_age(claim, settings, now)}, {_of(found.age, weights.age)}"
    if weights.qos:
        share = _share(found.qos, weights.qos, settings, "QOS")
        most = settings.max_qos_priority
        text = f"QOS {place.qos}: {share} (its priority {place.qos_priority}, the highest {most})"
        yield "qos", found.qos, text
    if weights.partition:
        share = _share(found.partition, weights.partition, settings, "PART")
        yield "partition", found.partition, f"partition {place.partition}: {share}"
    if weights.job_size:
        size = f"{counted(claim.min_nodes, 'node')} and {counted(claim.cpus, 'CPU')}"
        share = _of(found.job_size, weights.job_size)
        yield "job_size", found.job_size, f"job size, {size}: {share} ({_kind(settings)})"
    if weights.association:
        share = _share(found.association, weights.association, settings, "ASSOC")
        yield "association", found.association, f"priority of its account: {share}"
    for name, number in found.tres.items():
        share = _share(number, weights.tres.get(name, 0.0), settings, "TRES")
        yield "tres", number, f"{_amount(name, claim.tres.get(name, 0))}: {share}"
    if found.site:
        yield "site", float(found.site), f"site factor: {found.site:+,} points"
    if found.nice:
        yield "nice", float(-found.nice), f"nice: {-found.nice:+,} points"


def _amount(name: str, count: int) -> str:
    if name == "mem":
        return f"{count:,} MiB of memory"
    if name == "gres/gpu" or name.startswith("gres/gpu:"):
        return counted(count, f"{name[len('gres/gpu:') :]} GPU".strip())
    return counted(count, {"cpu": "CPU"}.get(name, name))


def _of(number: float, weight: float) -> str:
    return f"{number:,.0f} of {weight:,.0f} points"


def _share(number: float, weight: float, settings: Settings, what: str) -> str:
    """Return points as a part of the weight, unless that is no bound (``NO_NORMAL_*``)."""
    if settings.flags.isdisjoint(("NO_NORMAL_ALL", f"NO_NORMAL_{what}")):
        return _of(number, weight)
    return f"{number:,.0f} points"


def _age(claim: Claim, settings: Settings, now: int) -> str:
    if not claim.accrue_time:
        return "it does not count yet"
    most = settings.max_age_seconds
    if age_factor(claim.accrue_time, now, most) == 1:
        return f"waited longer than the {format_duration(most)} that count"
    waited = format_duration(max(now - claim.accrue_time, 0))
    return f"waited {waited} of the {format_duration(most)} that count"


def _kind(settings: Settings) -> str:
    if "SMALL_RELATIVE_TO_TIME" in settings.flags:
        return "short jobs that are small first" if settings.favor_small else "by size and time"
    return "small jobs first" if settings.favor_small else "large jobs first"


def decided_by(mine: Terms, theirs: Terms) -> tuple[str, float]:
    """Return the term that puts the other job ahead most, and by how many points.

    ``("direct", 0)`` where a priority was set by hand, ``("", 0)`` where no term does.
    """
    if mine.direct or theirs.direct:
        return "direct", 0.0
    own = points(mine)
    gaps = {name: number - own[name] for name, number in points(theirs).items()}
    name = max(gaps, key=lambda each: gaps[each])
    return (name, gaps[name]) if gaps[name] > 0 else ("", 0.0)
