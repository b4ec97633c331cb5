"""Never two leaders at once, and never none for long."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_gpu_policy.errors import RecordsUnavailable
from slurm_gpu_policy.model.action import Lease
from slurm_gpu_policy.services.leading import Leading
from tests.fakes.clock import FakeClock
from tests.fakes.records import FakeRecords

SECONDS = 90.0
TICK = 60.0
"""The default: a lease of one and a half ticks."""


def make_pair(seconds=SECONDS):
    records, clock = FakeRecords(), FakeClock()
    return (
        records,
        clock,
        Leading(records, clock, "a", seconds),
        Leading(records, clock, "b", seconds),
    )


def test_a_controller_that_is_alone_leads_at_once():
    _, _, a, _ = make_pair()
    assert not a.is_leader()
    assert a.tick()
    assert a.is_leader()
    assert a.leader == "a"


def test_the_second_controller_stands_by_while_the_first_renews():
    _, clock, a, b = make_pair()
    a.tick()
    for _ in range(100):
        assert not b.tick()
        assert b.leader == "a"
        clock.advance(a.heartbeat_seconds)
        assert a.tick()


def test_a_leader_stops_by_itself_when_its_lease_has_run_out():
    _, clock, a, _ = make_pair()
    a.tick()
    assert a.seconds_left() == SECONDS
    clock.advance(SECONDS - 1)
    assert a.is_leader()
    clock.advance(1)
    assert not a.is_leader()
    assert a.seconds_left() == 0


def test_time_spent_in_a_renewal_counts_against_it():
    records, clock, a, _ = make_pair()
    records.on_call = lambda method, moment: (
        clock.advance(SECONDS / 2) if (method, moment) == ("take", "after") else None
    )
    assert a.tick()
    assert a.seconds_left() == SECONDS / 2


def test_a_renewal_that_took_longer_than_the_lease_makes_no_leader():
    records, clock, a, _ = make_pair()
    records.on_call = lambda method, _: clock.advance(SECONDS) if method == "take" else None
    assert not a.tick()
    assert not a.is_leader()


def test_another_takes_over_within_two_ticks_of_a_leader_that_was_killed():
    _, clock, a, b = make_pair()
    a.tick()
    b.tick()
    ended = clock.monotonic()
    while not b.tick():
        clock.advance(b.heartbeat_seconds)
        assert not (a.is_leader() and b.is_leader())
    assert clock.monotonic() - ended <= 2 * TICK
    assert b.leader == "b"


def test_another_takes_over_at_once_from_a_leader_that_resigned():
    _, _, a, b = make_pair()
    a.tick()
    b.tick()
    a.resign()
    assert not a.is_leader()
    assert b.tick()


def test_a_leader_that_cannot_resign_still_stops():
    records, clock, a, b = make_pair()
    a.tick()
    records.fail_next()
    with pytest.raises(RecordsUnavailable):
        a.resign()
    assert not a.is_leader()
    b.tick()
    clock.advance(1.2 * SECONDS)
    assert b.tick()


def test_a_leader_that_was_stopped_for_long_finds_that_another_leads():
    _, clock, a, b = make_pair()
    a.tick()
    b.tick()
    clock.advance(1.2 * SECONDS)  # a is stopped
    assert b.tick()
    assert not a.is_leader()
    assert not a.tick()
    assert b.is_leader()


def test_a_leader_goes_on_while_the_database_is_away_until_its_lease_has_run_out():
    records, clock, a, b = make_pair()
    a.tick()
    b.tick()
    records.failing = "gone"
    for _ in range(8):
        clock.advance(a.heartbeat_seconds)
        for each in (a, b):
            with pytest.raises(RecordsUnavailable):
                each.tick()
        assert (a.is_leader(), b.is_leader()) == (True, False)
    clock.advance(SECONDS)
    assert (a.is_leader(), b.is_leader()) == (False, False)
    records.failing = ""
    assert b.tick()
    assert not a.tick()


def test_a_renewal_whose_answer_was_lost_is_renewed_again():
    records, clock, a, _ = make_pair()
    a.tick()

    def lose(method, moment):
        if (method, moment) == ("take", "after"):
            raise RecordsUnavailable

    records.on_call = lose
    clock.advance(10)
    with pytest.raises(RecordsUnavailable):
        a.tick()
    assert a.seconds_left() == SECONDS - 10  # as if it had not been
    records.on_call = lambda *_: None
    assert a.tick()
    assert records.lease() == Lease("a", 3)


def test_a_restarted_controller_waits_like_any_other():
    records, clock, a, _ = make_pair()
    a.tick()
    restarted = Leading(records, clock, "a-2", SECONDS)
    assert not restarted.tick()
    clock.advance(1.2 * SECONDS)
    assert restarted.tick()


def test_a_database_set_back_to_an_older_state_makes_no_second_leader():
    records, clock, a, b = make_pair()
    a.tick()
    for _ in range(3):
        clock.advance(10)
        a.tick()
        b.tick()
    records._lease = Lease("a", 1)
    assert not b.tick()
    assert a.tick()


# --- any order of events -------------------------------------------------------------------------


class OwnClock:
    """One controller's monotonic clock: its own beginning, and a pace of its own."""

    def __init__(self, world, start, pace):
        self._world, self._start, self._pace = world, start, pace

    def monotonic(self):
        return self._start + self._world.time * self._pace


class World:
    """Controllers on machines of their own, on one database; time passes when it is told to.

    A controller can be stopped (SIGSTOP) in the middle of a call to the database, before or
    after its effect, while time passes and the others go on; and any call can fail on the way
    there or on the way back.
    """

    def __init__(self, machines):
        self.time = 0.0
        self.records = FakeRecords()
        self.records.on_call = self._on_call
        self.controllers = [
            Leading(self.records, OwnClock(self, start, pace), f"c{number}", SECONDS)
            for number, (start, pace) in enumerate(machines)
        ]
        self._busy = []
        self._pauses = []

    def do(self, step):
        kind, number, seconds, pauses = step
        controller = self.controllers[number % len(self.controllers)]
        if kind == "wait":
            self.advance(seconds)
        elif controller not in self._busy:
            self._pauses.append(list(pauses))
            self._busy.append(controller)
            with suppress(RecordsUnavailable):
                if kind == "tick":
                    controller.tick()
                else:
                    controller.resign()
            self._busy.pop()
            self._pauses.pop()
        self.check()

    def advance(self, seconds):
        for _ in range(4):  # so that a short overlap is not jumped over
            self.time += seconds / 4
            self.check()

    def check(self):
        leaders = [each for each in self.controllers if each.is_leader()]
        assert len(leaders) <= 1

    def _on_call(self, _method, _moment):
        """A controller is in the midst of a call: its next planned mishap happens now."""
        if self._pauses and self._pauses[-1]:
            mishap = self._pauses[-1].pop(0)
            if mishap == "fail":
                raise RecordsUnavailable
            for step in mishap:
                self.do(step)


KINDS = st.sampled_from(["tick", "tick", "tick", "wait", "wait", "resign"])
SPANS = st.one_of(
    st.sampled_from([0.0, 1.0, 9.0, 45.0, 89.0, 90.0, 91.0, 98.0, 99.0, 100.0, 300.0]),
    st.floats(0, 200),
)


def steps(mishaps):
    return st.lists(st.tuples(KINDS, st.integers(0, 2), SPANS, mishaps), max_size=12)


QUIET = steps(st.just(()))
MISHAPS = st.lists(st.one_of(st.just(()), st.just("fail"), QUIET), max_size=4)
MACHINES = st.lists(st.tuples(st.floats(0, 1e6), st.floats(0.97, 1.03)), min_size=2, max_size=3)


def test_a_leader_whose_clock_is_slow_has_stopped_before_another_begins():
    world = World([(0.0, 0.95), (1e6, 1.0)])
    slow, other = world.controllers
    slow.tick()
    while not other.tick():
        world.advance(1)
    assert not slow.is_leader()


@settings(max_examples=600, deadline=None)
@given(MACHINES, st.lists(st.tuples(KINDS, st.integers(0, 2), SPANS, MISHAPS), max_size=40))
def test_there_are_never_two_leaders_at_once(machines, plan):
    world = World(machines)
    for step in plan:
        world.do(step)


@settings(max_examples=150, deadline=None)
@given(MACHINES, QUIET, st.integers(0, 2))
def test_whatever_went_before_one_that_is_left_leads_within_two_ticks(machines, plan, left):
    world = World(machines)
    for step in plan:
        world.do(step)
    survivor = world.controllers[left % len(machines)]
    ended = world.time
    while not survivor.tick():
        world.advance(survivor.heartbeat_seconds)
    assert world.time - ended <= 2 * TICK


@settings(max_examples=150, deadline=None)
@given(MACHINES, QUIET)
def test_while_all_is_well_the_leader_stays_the_same(machines, plan):
    world = World(machines)
    for step in plan:
        world.do(step)
    for _ in range(30):
        world.advance(10)
        for each in world.controllers:
            each.tick()
    (leader,) = [each for each in world.controllers if each.is_leader()]
    for _ in range(60):
        for each in world.controllers:
            assert each.tick() == (each is leader)
        world.advance(leader.heartbeat_seconds)
