"""What prices hold when: from the policy file, and from what the controller recorded of it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from slurm_gpu_policy.model.prices import Band, Prices, Tariff
from slurm_gpu_policy.policy.prices.timetable import moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from slurm_gpu_policy.config.pricing import PriceSet
    from slurm_gpu_policy.config.schema import Policy

T = TypeVar("T")

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def price_book(policy: Policy) -> tuple[Tariff, ...]:
    """Return the prices of the policy file by date; the first are those without one."""
    pricing = policy.pricing
    if pricing is None:
        return (Tariff(0, _prices(policy, ())),)
    book = {0: _prices(policy, (pricing,))}
    sets: list[PriceSet] = [pricing]
    for since, change in sorted(
        ((moment(change.since, pricing.timezone), change) for change in pricing.changes),
        key=lambda pair: pair[0],
    ):
        sets.append(change)
        book[max(since, 0)] = _prices(policy, sets)
    return tuple(Tariff(since, prices) for since, prices in book.items())


def in_force(recorded: Sequence[tuple[int, tuple[Tariff, ...]]]) -> tuple[Tariff, ...]:
    """Return one book for the price books that were recorded, in the order in which they were.

    Each holds from the moment that it was recorded for until a later one's, the first since
    ever: what a later policy file says of the past changes nothing. One whose moment a later one
    has too, since a clock was put back, never holds.
    """
    flat: dict[int, Prices] = {}
    for place, (since, book) in enumerate(recorded):
        until = min((later for later, _ in recorded[place + 1 :]), default=None)
        begin = since if place else 0
        present = [tariff for tariff in book if tariff.since <= begin] or list(book[:1])
        for tariff in (*present[-1:], *(each for each in book if each.since > begin)):
            at = max(tariff.since, begin)
            if until is None or at < until:
                flat[at] = tariff.prices
    return tuple(Tariff(since, flat[since]) for since in sorted(flat))


def prices_at(book: Sequence[Tariff], at: int) -> Prices:
    """Return the prices of a moment (Unix seconds)."""
    found = [tariff for tariff in book if tariff.since <= at] or list(book[:1])
    return found[-1].prices if found else Prices()


def _prices(policy: Policy, sets: Sequence[PriceSet]) -> Prices:
    """Return the prices of the policy file with *sets* laid over, the last one uppermost."""
    by_name = {
        name: entry.price_per_hour
        for name, entry in policy.gpu_types.items()
        if entry.price_per_hour is not None
    }
    qos: dict[str, int] = {}
    partitions: dict[str, int] = {}
    for each in sets:
        by_name.update(each.gpu_types)
        qos.update((name.lower(), factor) for name, factor in each.qos.items())
        partitions.update(each.partitions)
    gpus = _by_gres_type(policy, by_name)
    bands = _last(each.hours for each in sets) or ()
    return Prices(
        gpus=MappingProxyType(gpus),
        gpus_by_partition=MappingProxyType(_by_partition(policy, by_name)),
        cpu=_last(each.cpu_hour for each in sets) or 0,
        memory_gib=_last(each.memory_hour for each in sets) or 0,
        qos=MappingProxyType(qos),
        partitions=MappingProxyType(partitions),
        bands=tuple(
            Band(
                frozenset(_DAYS.index(day) for day in band.days), band.start, band.end, band.factor
            )
            for band in bands
        ),
        timezone=policy.pricing.timezone if policy.pricing is not None else "UTC",
        minimum=policy.pricing.minimum_charge if policy.pricing is not None else 0,
    )


def _by_gres_type(policy: Policy, by_name: Mapping[str, int]) -> dict[str, int]:
    """Return the prices by Slurm's names; the highest counts where several types share one.

    So it does for GPUs without a type.
    """
    found: dict[str, int] = {}
    for name, price in by_name.items():
        entry = policy.gpu_types.get(name)
        gres_type = ((entry.gres_type if entry is not None else None) or name).lower()
        found[gres_type] = max(found.get(gres_type, 0), price)
    if found:
        found[""] = max(found.values())
    return found


def _by_partition(policy: Policy, by_name: Mapping[str, int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, price in by_name.items():
        entry = policy.gpu_types.get(name)
        for partition in entry.partitions if entry is not None else ():
            found[partition] = max(found.get(partition, 0), price)
    return found


def _last(values: Iterable[T | None]) -> T | None:
    """Return the last of *values* that is not left out."""
    found = None
    for value in values:
        found = found if value is None else value
    return found
