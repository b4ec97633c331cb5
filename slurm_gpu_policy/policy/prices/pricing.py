"""What a run costs (rules C-401, C-405, C-410): whole seconds times exact prices.

Amounts are summed over one common denominator and rounded once, up to a whole micro-unit. The
parts of a run are differences of that rounded sum, so they add up to the whole whatever the cuts
are, and what a part costs does not depend on what comes after it.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.model.prices import Cost
from slurm_gpu_policy.policy.prices.tariffs import in_force, price_book, prices_at
from slurm_gpu_policy.policy.prices.timetable import Timetable
from slurm_gpu_policy.policy.prices.usage_of import use_of_job, use_of_request, use_of_run
from slurm_gpu_policy.units import MICRO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from slurm_gpu_policy.model.prices import Prices, Tariff, Use

__all__ = [
    "HOUR_SECONDS",
    "changes",
    "cost",
    "costs",
    "has_price",
    "hourly_micros",
    "in_force",
    "longest_within",
    "minimum_adds",
    "price_book",
    "prices_at",
    "use_of_job",
    "use_of_request",
    "use_of_run",
    "varies",
]

HOUR_SECONDS: Final = 3600
_MIB_PER_GIB = 1024
_SCALE: Final = _MIB_PER_GIB * HOUR_SECONDS * MICRO**3
"""Into so many parts a micro-unit is divided: MiB of a GiB, seconds of an hour, three factors."""
_HORIZON_SECONDS = 10 * 366 * 86_400
_MOST_BOOKS = 16


def costs(
    use: Use, cuts: Sequence[int], book: Sequence[Tariff], *, minimum: int = 0
) -> tuple[Cost, ...]:
    """Return what a run that began at ``cuts[0]`` costs in each of [cuts[i], cuts[i + 1]).

    Rule C-405: from its first second on a run costs *minimum* at least, or the one of the prices
    that it began under, if that is more; unless it costs nothing at all.

    Raises:
        ValueError: the cuts (Unix seconds) are not in order.
    """
    prices = _of(book)
    gpus = use.gpu_count
    minimum = max(minimum, prices.minimum(cuts[0]) if cuts else 0)
    exact = before = 0
    parts = []
    for start, end in pairwise(cuts):
        if end < start:
            msg = f"the cuts of a run must be in order: {start} comes before {end}"
            raise ValueError(msg)
        exact += prices.exact(use, start, end)
        after = max(-(-exact // _SCALE), minimum) if exact else 0
        parts.append(Cost(after - before, gpus * (end - start)))
        before = after
    return tuple(parts)


def cost(use: Use, start: int, end: int, book: Sequence[Tariff], *, minimum: int = 0) -> Cost:
    """Return what a run over [start, end) costs."""
    return costs(use, (start, end), book, minimum=minimum)[0]


def longest_within(  # noqa: PLR0913 - what costs() takes, and the amount
    use: Use,
    start: int,
    micros: int,
    book: Sequence[Tariff],
    tasks: int = 1,
    *,
    minimum: int = 0,
) -> int | None:
    """Return the most seconds that *tasks* runs from *start* may take so as to cost *micros*.

    ``None`` where they cost nothing however long they run. Where prices differ by the hour, ten
    years are the most that it says.
    """
    each = micros // max(tasks, 1)
    if each < 0:
        return 0
    prices = _of(book)
    left = each * _SCALE if each >= max(minimum, prices.minimum(start)) else 0
    return prices.seconds_for(use, start, left)


def changes(book: Sequence[Tariff], start: int, end: int) -> Iterator[int]:
    """Yield the moments after *start* and before *end* at which prices may change, in order."""
    return _of(book).changes(start, end)


def varies(book: Sequence[Tariff], now: int) -> bool:
    """Whether prices may be others at some moment from now on."""
    return any(tariff.since > now for tariff in book) or bool(prices_at(book, now).bands)


def hourly_micros(use: Use, at: int, book: Sequence[Tariff]) -> int:
    """Return the price of an hour at the rate of one moment, rounded up to a micro-unit."""
    rate = _of(book).exact(use, at, at + 1)
    return -(-rate * HOUR_SECONDS // _SCALE)


def minimum_adds(use: Use, start: int, end: int, book: Sequence[Tariff]) -> int:
    """Rule C-405: return the micro-units of a run's cost that its time alone would not cost."""
    prices = _of(book)
    exact = prices.exact(use, start, end)
    return max(prices.minimum(start) + -exact // _SCALE, 0) if exact else 0


def has_price(use: Use, prices: Prices) -> bool:
    """Whether the site has set a price for the GPUs that are used, or else for CPUs or memory."""
    if use.gpu_count:
        return all(
            _gpu_price(gpu_type, use.partition, prices) is not None
            for gpu_type, count in use.gpus.items()
            if count
        )
    return bool(prices.cpu or prices.memory_gib)


def _gpu_price(gpu_type: str, partition: str, prices: Prices) -> int | None:
    """Return the price of one GPU for an hour, by Slurm's name of its type."""
    if not gpu_type and partition in prices.gpus_by_partition:
        return prices.gpus_by_partition[partition]
    return prices.gpus.get(gpu_type.lower())


def _rate(use: Use, prices: Prices) -> int:
    """Return the price of an hour in micro-units x 1024 x 10^12, without the hour's factor.

    Of several partitions in which a job may start the dearest counts.
    """
    if "," in use.partition:
        return max(_rate_in(name, use, prices) for name in use.partition.split(","))
    return _rate_in(use.partition, use, prices)


def _rate_in(partition: str, use: Use, prices: Prices) -> int:
    base = use.cpus * prices.cpu
    for gpu_type, count in use.gpus.items():
        base += count * (_gpu_price(gpu_type, partition, prices) or 0)
    base = base * _MIB_PER_GIB + use.memory_mb * prices.memory_gib
    qos = prices.qos.get(use.qos.lower(), MICRO) if prices.qos else MICRO
    return base * qos * prices.partitions.get(partition, MICRO)


class _Book:
    """A price book with the factors of its hours worked out."""

    def __init__(self, book: Sequence[Tariff]) -> None:
        self.book = book
        self._since = [tariff.since for tariff in book]
        self._prices = [tariff.prices for tariff in book]
        tables: dict[tuple[object, str], Timetable] = {}
        self._tables: list[Timetable | None] = []
        for prices in self._prices:
            key = (prices.bands, prices.timezone)
            if prices.bands and key not in tables:
                tables[key] = Timetable(prices.bands, prices.timezone)
            self._tables.append(tables.get(key))

    def minimum(self, start: int) -> int:
        """Return the least that a run costs which begins then."""
        if not self._since:
            return 0
        return self._prices[max(bisect_right(self._since, start) - 1, 0)].minimum

    def exact(self, use: Use, start: int, end: int) -> int:
        """Return what [start, end) costs, in parts of a micro-unit (``_SCALE``)."""
        total = 0
        place = max(bisect_right(self._since, start) - 1, 0)
        while start < end and place < len(self._since):
            until = min(self._until(place, end), end)
            rate = _rate(use, self._prices[place])
            if rate:
                table = self._tables[place]
                seconds = (until - start) * MICRO if table is None else table.weight(start, until)
                total += rate * seconds
            start = until
            place += 1
        return total

    def seconds_for(self, use: Use, start: int, left: int) -> int | None:
        """Return the most seconds from *start* on that cost *left* parts of a micro-unit."""
        at, horizon = start, start + _HORIZON_SECONDS
        for place in range(max(bisect_right(self._since, start) - 1, 0), len(self._since)):
            rate, table = _rate(use, self._prices[place]), self._tables[place]
            factors = frozenset({MICRO}) if table is None else table.factors
            last = place == len(self._since) - 1
            if last and (not rate or len(factors) == 1):  # the same for ever
                price = rate * min(factors)
                return at - start + left // price if price else None
            until = horizon if last else self._until(place, horizon)
            pieces: Iterable[tuple[int, int]] = ((at, MICRO),)
            if table is not None and rate:
                pieces = table.pieces(at, until)
            for (begin, factor), (end, _) in pairwise((*pieces, (until, 0))):
                price = rate * factor
                if price and left < price * (end - begin):
                    return begin - start + left // price
                left -= price * (end - begin)
            at = until
        return at - start if self._since else None

    def changes(self, start: int, end: int) -> Iterator[int]:
        """Yield the moments in (start, end) at which the tariff or the factor changes."""
        at = start
        for place in range(max(bisect_right(self._since, start) - 1, 0), len(self._since)):
            until = min(self._until(place, end), end)
            table = self._tables[place]
            before = None
            for moment, factor in table.pieces(at, until) if table is not None else ():
                if moment > at and factor != before:
                    yield moment
                before = factor
            if until >= end:
                return
            yield until
            at = until

    def _until(self, place: int, end: int) -> int:
        return self._since[place + 1] if place + 1 < len(self._since) else end


_BOOKS: dict[int, _Book] = {}
"""The last few price books, by identity: the same one prices thousands of runs, and a book has
mappings, which cannot be hashed. Each is kept alive here, so its id is not given to another."""


def _of(book: Sequence[Tariff]) -> _Book:
    found = _BOOKS.get(id(book))
    if found is None or found.book is not book:
        if len(_BOOKS) >= _MOST_BOOKS:
            _BOOKS.clear()
        found = _BOOKS[id(book)] = _Book(book)
    return found
