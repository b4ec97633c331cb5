"""Run times are read rarely, piece by piece, and only where something is predicted from them."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.errors import SlurmUnavailable
from slurm_gpu_policy.services.history import History
from tests.builders import make_policy
from tests.fakes.clock import FakeClock
from tests.fakes.slurm import FakeSlurm

DAY = 86400
SJF = {"kind": "sjf", "run_time": "predicted"}


class Asked(FakeSlurm):
    """Remembers what spans were asked for."""

    def __init__(self, **more):
        super().__init__(**more)
        self.spans = []

    def accounting(self, *, start=None, end=None, **more):
        self.spans.append((start - self.clock.now(), end - self.clock.now()))
        return super().accounting(start=start, end=end, **more)


@pytest.fixture
def slurm():
    return Asked(clock=FakeClock(), user="root")


@pytest.mark.parametrize(
    "ordering",
    [
        None,
        {"kind": "fcfs", "run_time": "predicted"},
        {"kind": "sjf", "run_time": "limit"},
    ],
)
def test_nothing_is_read_where_nothing_is_predicted(slurm, ordering):
    history = History(slurm, slurm.clock)
    history.refresh(make_policy(**({"ordering": ordering} if ordering else {})))
    assert slurm.spans == []


def test_the_latest_day_is_read_first_then_one_further_back_each_time(slurm):
    history = History(slurm, slurm.clock)
    policy = make_policy(ordering=SJF, controller={"history_span": "3d"})
    for _ in range(6):
        history.refresh(policy)
    assert slurm.spans == [(-DAY, 0), (-2 * DAY, -DAY), (-3 * DAY, -2 * DAY)]


def test_new_runs_are_read_every_ten_minutes(slurm):
    history = History(slurm, slurm.clock)
    policy = make_policy(ordering=SJF, controller={"history_span": "1d"})
    history.refresh(policy)
    for _ in range(3):
        slurm.clock.advance(300)
        history.refresh(policy)
    assert slurm.spans[1:] == [(-900, 0)]


def test_what_is_known_stays_while_the_accounting_is_away(slurm):
    history = History(slurm, slurm.clock)
    policy = make_policy(ordering=SJF)
    history.refresh(policy)
    known = history.known
    slurm.clock.advance(600)
    slurm.unavailable()
    with pytest.raises(SlurmUnavailable):
        history.refresh(policy)
    assert history.known is known


def test_a_clock_that_is_put_back_begins_anew(slurm):
    history = History(slurm, slurm.clock)
    policy = make_policy(ordering=SJF)
    history.refresh(policy)
    slurm.clock.advance(-10 * DAY)
    history.refresh(policy)
    assert slurm.spans[-1] == (-DAY, 0)
