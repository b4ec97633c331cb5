"""The part of a tick that is about money: in its place, and out of the way where it cannot be."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.errors import NotAllowed, RecordsUnavailable, SlurmUnavailable
from slurm_gpu_policy.model.caller import Caller
from slurm_gpu_policy.model.ledger import LedgerState
from slurm_gpu_policy.services.controller import Controller
from slurm_gpu_policy.services.directory import Directory
from slurm_gpu_policy.services.ledger.charge import Charging
from slurm_gpu_policy.services.ledger.money import Money
from slurm_gpu_policy.services.ledger.treasury import Treasury
from tests.builders import make_policy
from tests.fakes.books import FakeLedger
from tests.fakes.clock import FakeClock
from tests.fakes.people import FakePeople
from tests.fakes.records import FakeRecords
from tests.fakes.slurm import FakeSlurm
from tests.unit.services.controlled import submitted

ROOT = Caller(0, "root")
BUDGETS = {
    "enforcement": "enforce",
    "gpu_types": {"h100": {"price_per_hour": "2"}},
    "budgets": {"nlp-pretrain": {"amount": "1"}},
}


class World:
    """A controller with books, on a fake cluster."""

    def __init__(self, **policy):
        self.clock = FakeClock()
        self.slurm = FakeSlurm(clock=self.clock, user="root")
        self.ledger = FakeLedger()
        self.reports = []
        self.followed = []
        self.forgotten = 0
        self.follower = lambda _snapshot, _policy, state: (self.followed.append(state), ())[1]
        directory = Directory(FakePeople(), lambda _user: (), self.clock)
        self.controller = Controller(
            policy=make_policy(**{**BUDGETS, **policy}),
            slurm=self.slurm,
            open_records=lambda _: FakeRecords(),
            clock=self.clock,
            directory=directory,
            observers=(),
            actor="gpu-policyd@test",
            holder="one",
            open_money=lambda _cluster, policy: Money(
                self.ledger,
                Charging(self.ledger, self.slurm, self.clock, "gpu-policyd@test"),
                Treasury(
                    ledger=self.ledger, slurm=self.slurm, policy=policy, clock=self.clock,
                    directory=directory,
                ),
                (lambda *of: self.follower(*of),),  # noqa: PLW0108 - it is set later
                self.forget,
            ),
        )  # fmt: skip
        assert self.controller.keep_lead()

    def forget(self):
        self.forgotten += 1

    def tick(self):
        report = self.controller.run_tick()
        self.clock.advance(60)
        self.controller.keep_lead()
        return report

    @property
    def told(self):
        return self.controller.status()["ledger"]


@pytest.fixture
def world():
    return World()


def held(world, job):
    return world.slurm.records[job].priority == 0


def test_a_job_that_no_budget_covers_is_held_in_the_tick_that_sees_it(world):
    job = submitted(world.slurm, "wait")
    report = world.tick()
    assert report.succeeded, report
    assert report.ledger.state.uncovered.keys() == {job}
    assert held(world, job)
    assert [entry.action.rule for entry in report.actions] == ["B-006"]


def test_the_report_and_the_status_tell_how_the_books_stand(world):
    submitted(world.slurm, "wait")
    report = world.tick()
    books = world.told
    assert report.ledger.entries == books["entries"] > 0
    assert report.ledger.accounting_lag_seconds == 0
    assert books == {
        "up_to_date": True, "time": report.ledger.state.time, "entries": report.ledger.entries,
        "accounting_until": report.ledger.accounting_until, "uncovered_jobs": 1, "problems": [],
    }  # fmt: skip


def test_books_are_not_up_to_date_while_slurm_cannot_be_read(world):
    world.tick()
    before = world.told
    world.slurm.unavailable(times=1)
    world.tick()
    assert world.told["up_to_date"] is False
    assert world.told["problems"]
    assert world.told["accounting_until"] == before["accounting_until"]


def test_without_budgets_or_prices_nothing_is_kept_and_nothing_said():
    world = World(budgets={})
    assert world.tick().ledger is None
    assert world.told is None
    assert world.ledger.calls == []
    assert world.followed == []


def test_books_that_cannot_be_written_stop_what_is_about_money_and_nothing_else():
    world = World(ordering={"kind": "fcfs"})
    job = submitted(world.slurm, "wait")
    world.ledger.failing = "disk full"
    report = world.tick()
    assert report.errors == ("RecordsUnavailable",)
    assert "nothing is done by them: disk full" in report.messages[0]
    assert {entry.action.rule for entry in report.actions} == {"P-603"}
    assert not held(world, job)
    assert world.followed == []
    assert (report.ledger, world.told["up_to_date"]) == (None, False)
    assert "disk full" in world.told["problems"][0]
    world.ledger.failing = ""
    assert world.tick().succeeded
    assert held(world, job)
    assert world.told["up_to_date"]


def test_an_entry_that_the_books_refuse_stops_what_is_about_money_and_nothing_else(
    world, monkeypatch
):
    def refuse(*_args, **_fields):
        raise ValueError("fund 1: a reservation would be negative")  # noqa: EM101, TRY003

    monkeypatch.setattr(world.controller._money._charging, "run", refuse)
    report = world.tick()
    assert report.errors == ("RecordsUnavailable",)
    assert "the books refuse an entry: fund 1" in report.messages[0]
    assert world.controller._money.state is None


def test_an_accounting_that_is_away_is_told_and_the_tick_goes_on(world, monkeypatch):
    job = submitted(world.slurm, "wait")

    def away(**_asked):
        msg = "slurmdbd is away"
        raise SlurmUnavailable(msg)

    monkeypatch.setattr(world.slurm, "accounting", away)
    report = world.tick()
    assert report.succeeded
    assert held(world, job)
    assert any("slurmdbd is away" in text for text in report.ledger.state.problems)
    assert any("slurmdbd is away" in text for text in world.told["problems"])


def test_who_cannot_lead_says_that_the_books_are_not_kept_and_why(world):
    world.tick()
    world.clock.advance(1000)
    assert world.told["problems"] == [
        "this controller does not lead: the one that does keeps the books"
    ]
    world.controller.failed(world.clock.now(), 0.1, RecordsUnavailable("the disk is full"))
    assert (world.told["up_to_date"], world.told["problems"]) == (False, ["the disk is full"])


@pytest.mark.parametrize("error", [RecordsUnavailable("gone"), SlurmUnavailable("away")])
def test_what_follows_from_the_books_may_fail_by_itself(world, error):
    def follower(*_of):
        raise error

    world.follower = follower
    report = world.tick()
    assert report.errors == (type(error).__name__,)
    assert report.ledger.entries is not None


def test_remarks_of_what_follows_are_told(world):
    world.follower = lambda *_: ("limits in Slurm are not kept",)
    assert world.tick().ledger.remarks == ("limits in Slurm are not kept",)
    assert world.told["problems"] == ["limits in Slurm are not kept"]


def test_what_follows_is_given_the_books_of_this_tick(world):
    world.tick()
    (state,) = world.followed
    assert isinstance(state, LedgerState)
    assert [view.fund.budget for view in state.views] == ["", "nlp-pretrain"]


def test_who_lost_the_lead_forgets_what_follows_remember(world):
    world.controller._tick.forget()
    assert world.forgotten == 1


def test_a_preview_writes_nothing_into_the_books(world):
    submitted(world.slurm, "wait")
    world.controller.preview()
    assert world.ledger.calls == []


def test_the_pace_of_budgets_reaches_the_order_of_jobs():
    world = World(
        budgets={"nlp-pretrain": {"amount": "1000"}},
        ordering={"kind": "slurm", "terms": {"budget_pace": {"weight": 100}}},
    )
    submitted(world.slurm, "wait")
    report = world.tick()
    (entry,) = (one for one in report.actions if one.action.site_factor is not None)
    assert "has spent 0.00 x" in entry.action.reason


def test_requests_to_the_books_go_to_them_and_may_go_beside_a_tick(world):
    world.tick()
    answer = world.controller.handle(ROOT, {"request": "verify"})
    assert answer["differences"] == []
    assert world.controller.may_go_beside({"request": "verify"})
    assert not world.controller.may_go_beside({"request": "reconcile", "repair": True})
    assert not world.controller.may_go_beside({"request": "approve"})
    assert not world.controller.may_go_beside({"request": ["budget"]})
    with pytest.raises(NotAllowed):
        world.controller.handle(Caller(6001, "u1"), {"request": "verify"})
