"""From an order to labels: site factors that put jobs into a line, whatever Slurm adds to them.

Slurm sorts by ``base + site factor - nice``, where the base (age, fair share, size, QOS …) moves
with time, within a known spread. Labels that are further apart than that spread keep their
order for ever, so nothing need be written again while a job waits. New labels are put between
those that stand, and of those as many as possible stay.
"""

from __future__ import annotations

from bisect import bisect_right
from math import isqrt
from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.model.record import record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST_SITE: Final = 2**31 - 4
"""The largest site factor scontrol takes (src/scontrol/update_job.c)."""
MOST_NICE: Final = 10_000_000
"""A nice value beyond this is left to Slurm; up to it, labels make up for it."""
_MOST_PRIORITY: Final = 2**32 - 1
_STEP: Final = 16
"""Gaps between new neighbours: room for jobs that come between them later."""
_SPARE: Final = 4
"""A line is at most this part of what could stand in the room, or each arrival moves many."""


@record
class Room:
    """Where labels may be. Neighbours are ``gap`` apart, or more."""

    gap: int
    lowest: int
    highest: int

    @property
    def places(self) -> int:
        """How many labels can stand here and still let others in between; may be 0."""
        return max(0, (self.highest - self.lowest) // (self.gap * _SPARE))


def room_above(spread: int, highest_base: int) -> Room:
    """Return the room for labels in front of all jobs without one.

    *spread* is the most by which two jobs' bases can ever differ, *highest_base* the most a base
    can be, both in points and without nice. A base is never below 0.
    """
    gap = spread + 1
    most = min(MOST_SITE, _MOST_PRIORITY - highest_base) - MOST_NICE
    return Room(gap, gap, most)


def labels(present: Sequence[int | None], room: Room) -> list[int]:
    """Return a label for each place of the line, first to last; ``present`` are those of now.

    As many as possible of the present ones are kept (a longest subsequence that has the right
    order, with room for all in between); where the room has become too tight for that, all are
    laid out anew. Laying out what this returned changes nothing.

    Raises:
        ValueError: the line is longer than ``room`` can hold at all.
    """
    if not present:
        return []
    if (len(present) - 1) * room.gap > room.highest - room.lowest:
        msg = f"{len(present)} labels {room.gap} apart do not fit into {room}"
        raise ValueError(msg)
    kept = _kept(present, room.gap, room)
    labelled = sum(label is not None and room.lowest <= label for label in present)
    some = isqrt(len(present))
    if labelled - len(kept) > some and len(_kept(present, 1, room)) - len(kept) > some:
        kept = []
    return _filled(present, kept, room)


def _kept(present: Sequence[int | None], gap: int, room: Room) -> list[int]:
    """Return the places whose labels can stay, *gap* apart.

    Labels of places i < j can both stay with all between them if ``label_i - label_j`` is at
    least ``(j - i) * gap``, that is if ``label + place * gap`` does not grow: so the most that
    can stay are a longest subsequence of these sums that does not grow.
    """
    first_sum = room.highest
    last_sum = room.lowest + (len(present) - 1) * gap
    tails: list[int] = []  # negated sums, growing: the best end of a subsequence of each length
    ends: list[int] = []  # and its place
    before = [-1] * len(present)
    for place, label in enumerate(present):
        if label is None or not last_sum <= (total := label + place * gap) <= first_sum:
            continue
        length = bisect_right(tails, -total)
        before[place] = ends[length - 1] if length else -1
        tails[length : length + 1] = [-total]
        ends[length : length + 1] = [place]
    kept = []
    place = ends[-1] if ends else -1
    while place >= 0:
        kept.append(place)
        place = before[place]
    return kept[::-1]


def _filled(present: Sequence[int | None], kept: Sequence[int], room: Room) -> list[int]:
    """Return the kept labels, and new ones between them."""
    result: list[int] = []
    count = len(present)
    above: int | None = None
    for place in (*kept, count):
        below = present[place] if place < count else None
        result.extend(_between(above, below, place - len(result), room))
        if below is not None:
            result.append(below)
        above = below
    return result


def _between(above: int | None, below: int | None, count: int, room: Room) -> Iterator[int]:
    """Yield *count* labels, first to last, between two neighbours or beside one."""
    if not count:
        return
    step = _STEP * room.gap
    if above is not None and below is not None:
        for number in range(1, count + 1):
            yield above - (above - below) * number // (count + 1)
        return
    if below is not None:
        step = min(step, (room.highest - below) // count)
        first = below + step * count
    elif above is not None:
        step = min(step, (above - room.lowest) // count)
        first = above - step
    else:
        whole = room.highest - room.lowest
        step = min(step, whole // max(1, count - 1))
        first = (room.highest + room.lowest + step * (count - 1)) // 2
    for number in range(count):
        yield first - step * number
