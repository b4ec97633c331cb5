"""How fast a budget is spent, and when it runs out if that goes on: an estimate, and how sure."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Final, Literal

from slurm_gpu_policy.model.record import record

if TYPE_CHECKING:
    from collections.abc import Sequence

DAY_SECONDS: Final = 86_400
Certainty = Literal["none", "low", "fair", "good"]
_LOW_DAYS, _FAIR_DAYS = 3, 7
_UNEVEN, _FAIR = 1.0, 0.5
"""Deviation of the days from their mean, over the mean, above which it is low, or only fair."""
_FARTHEST_SECONDS: Final = 20 * 366 * DAY_SECONDS
"""Beyond this nothing is said."""


@record
class Piece:
    """Some time in which something was spent, evenly; Unix seconds, and the fund's unit."""

    start: int
    end: int
    amount: int


@record
class Burn:
    """How a budget is spent."""

    per_day: float
    """In the fund's unit."""
    days: float
    """How many were looked at."""
    certainty: Certainty
    runs_out: int | None = None
    """Unix seconds; ``None`` where nobody can say, or it is years away."""
    earliest: int | None = None
    latest: int | None = None
    """Within the deviation of the days from each other; ``None`` as above."""


def burn(pieces: Sequence[Piece], left: int, since: int, now: int) -> Burn:
    """Return how what is *left* is spent, by what was spent in [since, now).

    The burn is taken to be even. Less than a day of history says nothing; few days, and days
    that are unlike each other, say little.
    """
    seconds = now - since
    if seconds < DAY_SECONDS:
        return Burn(0.0, max(seconds, 0) / DAY_SECONDS, "none")
    spent = _by_day(pieces, since, now)
    days = seconds / DAY_SECONDS
    mean = sum(spent) / days
    if mean <= 0:
        return Burn(0.0, days, "none")
    whole = spent[: seconds // DAY_SECONDS]  # the last day may not be over
    spread = sqrt(sum((each - mean) ** 2 for each in whole) / len(whole))
    error = spread / sqrt(len(whole))
    return Burn(
        mean,
        days,
        _certainty(days, spread / mean),
        _when(left, mean, now),
        _when(left, mean + error, now),
        _when(left, mean - error, now),
    )


def _by_day(pieces: Sequence[Piece], since: int, now: int) -> list[float]:
    spent = [0.0] * -(-(now - since) // DAY_SECONDS)
    for piece in pieces:
        start, end = max(piece.start, since), min(piece.end, now)
        length = piece.end - piece.start
        while start < end:
            day = (start - since) // DAY_SECONDS
            until = min(end, since + (day + 1) * DAY_SECONDS)
            spent[day] += piece.amount * (until - start) / length
            start = until
    return spent


def _certainty(days: float, unevenness: float) -> Certainty:
    if days < _LOW_DAYS or unevenness > _UNEVEN:
        return "low"
    return "fair" if days < _FAIR_DAYS or unevenness > _FAIR else "good"


def _when(left: int, per_day: float, now: int) -> int | None:
    if left <= 0:
        return now
    seconds = left / per_day * DAY_SECONDS if per_day > 0 else _FARTHEST_SECONDS
    return now + round(seconds) if seconds < _FARTHEST_SECONDS else None
