"""Which factor prices have at which moment of the week, by the clock on the wall.

A moment lies in a band where a clock in the site's zone shows a time within it: in the night in
which the clock is put back, a band over it is an hour longer, and in spring an hour shorter.
Zones are asked once for each day, and days are worked out once, when something ran in them.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.units import MICRO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from slurm_gpu_policy.model.prices import Band

DAY_SECONDS: Final = 86_400
WEEK_SECONDS: Final = 7 * DAY_SECONDS
_FIRST_WEEKDAY = 3
"""Unix time begins on a Thursday; Monday is 0."""
_LAST_DAY = 47_482
"""2100-01-01. Nobody knows how clocks are set so far ahead: its offset stays, weeks repeat."""


@record
class _Day:
    """The factors of one day of UTC; times in seconds since it began."""

    starts: tuple[int, ...]
    factors: tuple[int, ...]
    sums: tuple[int, ...]
    """Factor x seconds from the day's beginning to each start."""
    total: int

    def until(self, second: int) -> int:
        """Return factor x seconds from the beginning to *second*."""
        place = bisect_right(self.starts, second) - 1
        return self.sums[place] + (second - self.starts[place]) * self.factors[place]


class Timetable:
    """The factors of :class:`Band` s, in millionths; one where no band is."""

    def __init__(self, bands: Sequence[Band], timezone: str) -> None:
        self._bands = tuple(bands)
        self._offset = _offset_in(timezone)
        self._days: dict[int, _Day] = {}
        marks = {second % DAY_SECONDS for band in bands for second in (band.start, band.end)}
        self._marks = tuple(sorted({0, *marks}))
        self.factors = frozenset(
            self._factor(weekday, second) for weekday in range(7) for second in self._marks
        )
        """All that occur in a week."""

    def weight(self, start: int, end: int) -> int:
        """Return the sum of the factor over the seconds of [start, end)."""
        first, last = start // DAY_SECONDS, end // DAY_SECONDS
        day = self._day(first)
        begun = day.until(start - first * DAY_SECONDS)
        if first == last:
            return day.until(end - first * DAY_SECONDS) - begun
        rest = self._day(last).until(end - last * DAY_SECONDS)
        return day.total - begun + self._whole_days(first + 1, last) + rest

    def factor(self, at: int) -> int:
        """Return the factor of one moment."""
        number = at // DAY_SECONDS
        day = self._day(number)
        return day.factors[bisect_right(day.starts, at - number * DAY_SECONDS) - 1]

    def pieces(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the times from which a factor holds, and the factor, from *start* to *end*.

        Pieces end with their day at the latest; two in a row may have the same factor.
        """
        number = start // DAY_SECONDS
        while number * DAY_SECONDS < end:
            day = self._day(number)
            for place, second in enumerate(day.starts):
                begin = number * DAY_SECONDS + second
                after = day.starts[place + 1] if place + 1 < len(day.starts) else DAY_SECONDS
                if begin >= end:
                    return
                if number * DAY_SECONDS + after > start:
                    yield max(begin, start), day.factors[place]
            number += 1

    def _whole_days(self, first: int, last: int) -> int:
        known = min(last, max(first, _LAST_DAY))
        total = sum(self._day(number).total for number in range(first, known))
        weeks, rest = divmod(last - known, 7)
        if weeks:
            total += weeks * sum(self._day(known + place).total for place in range(7))
        return total + sum(self._day(known + place).total for place in range(rest))

    def _day(self, number: int) -> _Day:
        if number > _LAST_DAY:
            number = _LAST_DAY + (number - _LAST_DAY) % 7
        found = self._days.get(number)
        if found is None:
            found = self._days[number] = self._make(number)
        return found

    def _make(self, number: int) -> _Day:
        begin = number * DAY_SECONDS
        starts: list[int] = []
        factors: list[int] = []
        for start, end, offset in self._offsets(begin, begin + DAY_SECONDS):
            midnight = (start + offset) // DAY_SECONDS
            walls = (
                (midnight + days) * DAY_SECONDS + mark for days in (0, 1) for mark in self._marks
            )
            for at in (start, *(wall - offset for wall in walls if start < wall - offset < end)):
                day, second = divmod(at + offset, DAY_SECONDS)
                factor = self._factor((day + _FIRST_WEEKDAY) % 7, second)
                if not factors or factors[-1] != factor:
                    starts.append(at - begin)
                    factors.append(factor)
        sums = [0]
        for place, factor in enumerate(factors[:-1]):
            sums.append(sums[-1] + (starts[place + 1] - starts[place]) * factor)
        total = sums[-1] + (DAY_SECONDS - starts[-1]) * factors[-1]
        return _Day(tuple(starts), tuple(factors), tuple(sums), total)

    def _offsets(self, begin: int, end: int) -> tuple[tuple[int, int, int], ...]:
        """Return (start, end, offset) for the one or two offsets that a day of UTC has."""
        day = min(begin, _LAST_DAY * DAY_SECONDS)
        before, after = self._offset(day), self._offset(day + end - begin)
        if before == after or day < begin:
            return ((begin, end, before),)
        low, high = begin, end
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._offset(middle) == before else (low, middle)
        return ((begin, high, before), (high, end, after))

    def _factor(self, weekday: int, second: int) -> int:
        """Return the factor of the first band that has this moment, by the clock on the wall."""
        for band in self._bands:
            if band.start < band.end:
                inside = weekday in band.days and band.start <= second < band.end
            else:
                inside = (weekday in band.days and second >= band.start) or (
                    (weekday - 1) % 7 in band.days and second < band.end
                )
            if inside:
                return band.factor
        return MICRO


def _offset_in(timezone: str) -> Callable[[int], int]:
    """Return what tells by how many seconds the clocks of a zone are ahead of UTC's."""
    if timezone == "UTC":
        return lambda _at: 0
    from datetime import datetime  # noqa: PLC0415 - few sites have such prices, and users wait
    from zoneinfo import ZoneInfo  # noqa: PLC0415

    zone = ZoneInfo(timezone)

    def offset(at: int) -> int:
        ahead = datetime.fromtimestamp(at, zone).utcoffset()
        return int(ahead.total_seconds()) if ahead is not None else 0

    return offset


def moment(text: str, timezone: str) -> int:
    """Return the Unix seconds of a date and time by the clock on the wall in a zone.

    Of a time that occurs twice the first is meant; one that is left out lies as long after the
    change as it says.
    """
    from datetime import UTC, datetime  # noqa: PLC0415
    from zoneinfo import ZoneInfo  # noqa: PLC0415

    zone = UTC if timezone == "UTC" else ZoneInfo(timezone)
    return int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp())
