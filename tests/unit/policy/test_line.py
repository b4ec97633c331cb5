"""Labels keep their order whatever Slurm adds, and are written as rarely as can be."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_gpu_policy.policy.line import MOST_NICE, MOST_SITE, Room, labels, room_above

SPREAD = 22_200
ROOM = room_above(SPREAD, SPREAD)
LABELS = st.none() | st.integers(-MOST_SITE, MOST_SITE) | st.integers(0, 40 * SPREAD)
TIGHT = Room(gap=10, lowest=10, highest=10 + 10 * 40)


def are_apart(found, room):
    assert all(a - b >= room.gap for a, b in pairwise(found))
    assert all(room.lowest <= label <= room.highest for label in found)


@given(st.lists(LABELS, max_size=60))
def test_neighbours_are_a_gap_apart_whatever_stood_there(present):
    are_apart(labels(present, ROOM), ROOM)


@given(st.lists(LABELS | st.integers(0, 450), max_size=41))
def test_even_where_everything_is_just_as_tight_as_can_be(present):
    are_apart(labels(present, TIGHT), TIGHT)


@given(st.lists(LABELS | st.integers(0, 450), max_size=41), st.sampled_from([ROOM, TIGHT]))
def test_a_second_look_changes_nothing(present, room):
    once = labels(present, room)
    assert labels(once, room) == once


@given(st.lists(LABELS, min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_slurms_own_sum_never_changes_the_order_nor_passes_the_jobs_without_a_label(present, rng):
    line = labels(present, ROOM)
    for _ in range(5):
        sums = [label + rng.randint(0, SPREAD) for label in line]
        assert all(a > b for a, b in pairwise(sums))
        assert sums[-1] > SPREAD
        assert max(sums) <= 2**32 - 1


def test_equal_sums_cannot_happen_even_at_the_widest_spread():
    first, second = labels([None, ROOM.lowest + ROOM.gap], ROOM)
    assert first + 0 > second + SPREAD
    tight = labels([None, None], Room(ROOM.gap, ROOM.lowest, ROOM.lowest + ROOM.gap))
    assert tight[0] + 0 > tight[1] + SPREAD
    assert tight[1] + 0 > 0 + SPREAD


def test_labels_leave_room_for_nice():
    assert ROOM.highest + MOST_NICE <= MOST_SITE
    assert room_above(10, 2**32 - 10**9).highest + MOST_NICE + (2**32 - 10**9) <= 2**32 - 1


def test_more_than_the_room_holds_is_an_error():
    full = labels([None] * 41, TIGHT)
    assert len(full) == 41
    are_apart(full, TIGHT)
    with pytest.raises(ValueError, match="do not fit"):
        labels([None] * 42, TIGHT)


def test_a_room_without_room_has_no_places():
    assert room_above(2**31, 2**31).places == 0
    assert labels([], room_above(2**31, 2**31)) == []


@given(
    st.integers(2, 60),
    st.lists(st.tuples(st.booleans(), st.floats(0, 1, exclude_max=True)), max_size=30),
)
def test_one_job_that_comes_or_goes_moves_no_other_in_a_line_with_room(count, events):
    line = labels([None] * count, ROOM)
    for arrives, where in events[:3]:
        place = int(where * len(line))
        before = list(line)
        if arrives:
            line = labels([*line[:place], None, *line[place:]], ROOM)
            assert [*line[:place], *line[place + 1 :]] == before
        elif len(line) > 1:
            line = labels([*line[:place], *line[place + 1 :]], ROOM)
            assert line == [*before[:place], *before[place + 1 :]]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["last", "first", "anywhere", "one place"]))
def test_over_a_long_time_an_arrival_costs_a_few_changes(seed, where):
    rng = random.Random(seed)  # noqa: S311
    room = Room(gap=1000, lowest=1000, highest=4_000_000)
    assert room.places > 500
    line = labels([None] * 200, room)
    changes = 0
    arrivals = 3000
    for _ in range(arrivals):
        line.pop(-1 if where == "first" else 0)
        place = {"last": len(line), "first": 0, "one place": 100}.get(where)
        place = rng.randint(0, len(line)) if place is None else place
        asked = [*line[:place], None, *line[place:]]
        line = labels(asked, room)
        changes += sum(a != b for a, b in zip(asked, line, strict=True))
    are_apart(line, room)
    assert changes < arrivals * 8


@given(st.lists(st.integers(0, 99), unique=True, min_size=3, max_size=40), st.data())
def test_a_job_that_changes_its_place_is_the_only_one_moved(order, data):
    line = dict(zip(order, labels([None] * len(order), ROOM), strict=True))
    mover = data.draw(st.sampled_from(order))
    rest = [job for job in order if job != mover]
    place = data.draw(st.integers(0, len(rest)))
    wanted = [*rest[:place], mover, *rest[place:]]
    found = dict(zip(wanted, labels([line[job] for job in wanted], ROOM), strict=True))
    moved = {job for job in order if found[job] != line[job]}
    assert len(moved) <= 1
