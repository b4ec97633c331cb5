"""What a run would cost if it started at another time (rules C-402, C-404).

As a function of its start a run's cost is straight between the moments at which its beginning or
its end meets a change of prices, so only these need be looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy.prices.pricing import changes, cost, longest_within, prices_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from slurm_gpu_policy.model.prices import Tariff, Use

_WEEK: Final = 7 * 86_400
_YEAR: Final = 366 * 86_400
"""Nothing waits longer for its start."""
_LEAST_SAVING = 100
"""A saving is worth words from one part in so many on."""


@record
class LaterStart:
    """A start that makes a run cheaper than it is now."""

    start: int
    """Unix seconds."""
    micros: int


def most_micros(use: Use, seconds: int, book: Sequence[Tariff], now: int) -> int:
    """Return the most that a run of *seconds* costs which starts now or within a year."""
    if seconds > _YEAR:  # whatever the hour: as if the dearest lasted
        moments = (now, *changes(book, now, now + 2 * _YEAR))
        dearest = max(cost(use, at, at + 3600, book).micros for at in moments)
        return max(-(-dearest * seconds // 3600), cost(use, now, now + seconds, book).micros)
    starts = {now, *_starts(seconds, book, now, now + _YEAR)}
    return max(cost(use, start, start + seconds, book).micros for start in starts)


def longest_whenever(use: Use, micros: int, book: Sequence[Tariff], now: int) -> int | None:
    """Return the most seconds, in whole minutes, that cost *micros* whenever the run starts.

    ``None`` where any time limit does.
    """
    most = longest_within(use, now, micros, book)
    if next(changes(book, now, now + _YEAR), None) is None:
        return None if most is None else most - most % 60
    high = (_YEAR if most is None else min(most, _YEAR)) // 60
    if most_micros(use, high * 60, book, now) <= micros:
        return None if most is None else high * 60
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        fits = most_micros(use, middle * 60, book, now) <= micros
        low, high = (middle, high) if fits else (low, middle)
    return low * 60


def later_start(use: Use, seconds: int, book: Sequence[Tariff], now: int) -> LaterStart | None:
    """Rule C-404: the first of the cheapest starts within a week, if it saves much."""
    found = [
        LaterStart(start, cost(use, start, start + seconds, book).micros)
        for start in _starts(seconds, book, now, now + _WEEK)
    ]
    best = min(found, key=lambda one: (one.micros, one.start), default=None)
    present = cost(use, now, now + seconds, book).micros
    if best is None or (present - best.micros) * _LEAST_SAVING < present or not present:
        return None
    return best


def _starts(seconds: int, book: Sequence[Tariff], first: int, last: int) -> Iterator[int]:
    """Yield the starts after *first* at which a run begins or ends with a change of prices."""
    for moment in changes(book, first, last + seconds):
        if moment <= last:
            yield moment
        if first < moment - seconds <= last:
            yield moment - seconds


def time_words(at: int, book: Sequence[Tariff]) -> str:
    """Return such as ``Fri 2030-05-03 20:00 CEST``, by the clocks of the site's prices."""
    from datetime import UTC, datetime  # noqa: PLC0415 - few need it, and users wait
    from zoneinfo import ZoneInfo  # noqa: PLC0415

    name = prices_at(book, at).timezone
    when = datetime.fromtimestamp(at, UTC if name == "UTC" else ZoneInfo(name))
    return when.strftime("%a %Y-%m-%d %H:%M %Z")
