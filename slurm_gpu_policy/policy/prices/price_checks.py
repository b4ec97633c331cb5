"""Prices in the policy file that are right and yet hardly meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy.prices.tariffs import price_book
from slurm_gpu_policy.policy.prices.timetable import DAY_SECONDS, WEEK_SECONDS, moment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from slurm_gpu_policy.config.pricing import Hours
    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.prices import Band

_MINUTE = 60


@record
class OddPrice:
    """Something at ``where`` in the file (as keys and places) that is worth a second look."""

    where: tuple[str | int, ...]
    found: str
    wanted: str


def odd_prices(policy: Policy, now: int) -> Iterator[OddPrice]:
    """Yield hours that never count, and price changes that are past at *now* (Unix seconds)."""
    pricing = policy.pricing
    if pricing is None:
        return
    for place, change in enumerate(pricing.changes):
        since = moment(change.since, pricing.timezone)
        if since <= now:
            yield OddPrice(
                ("pricing", "changes", place, "since"),
                f"a price change in the past ({change.since})",
                "it holds now, but nothing that ran before the controller read it is charged by "
                "it; it could stand in pricing itself",
            )
    books = {tariff.since: tariff.prices.bands for tariff in price_book(policy)}
    sets: list[tuple[tuple[str | int, ...], int, tuple[Hours, ...] | None]] = [
        (("pricing",), 0, pricing.hours)
    ]
    sets += [
        (("pricing", "changes", n), max(moment(each.since, pricing.timezone), 0), each.hours)
        for n, each in enumerate(pricing.changes)
    ]
    for at, since, hours in sets:
        if hours:
            for place in _never(books[since]):
                yield OddPrice(
                    (*at, "hours", place),
                    "hours that never count",
                    "those before it have all of its time: the first that fits counts",
                )


def _never(bands: Sequence[Band]) -> Iterator[int]:
    """Yield the places of those bands whose whole week others before have."""
    taken: set[int] = set()
    for place, band in enumerate(bands):
        own = set(_minutes(band))
        if own <= taken:
            yield place
        taken |= own


def _minutes(band: Band) -> Iterator[int]:
    """Yield the minutes of the week that a band has; its times are whole minutes."""
    seconds = band.end - band.start + (0 if band.end > band.start else DAY_SECONDS)
    for day in band.days:
        begin = day * DAY_SECONDS + band.start
        for second in range(begin, begin + seconds, _MINUTE):
            yield second % WEEK_SECONDS // _MINUTE
