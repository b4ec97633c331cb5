"""Telling people of budgets once, whatever fails on the way."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.errors import RecordsUnavailable, SlurmUnavailable
from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.ledger import Claim, Fund, LedgerState, Posting
from slurm_gpu_policy.model.prices import Cost
from slurm_gpu_policy.services.ledger.warn import BudgetWarnings
from tests.builders import NOW, make_policy, make_snapshot
from tests.fakes.books import FakeLedger
from tests.fakes.notifier import FakeNotifier

POLICY = make_policy(enforcement="enforce")


class World:
    """Books with one fund of 100, and what tells of it."""

    def __init__(self):
        self.ledger = FakeLedger()
        self.notifier = FakeNotifier()
        self.coordinators = {"nlp": frozenset({"c1"})}
        self.warnings = self.restarted()
        with self.ledger.writing() as books:
            fund, cluster = books.open_funds(
                [Fund("nlp", "nlp", end=NOW + 86400), Fund("", "", unlimited=True)]
            )
            self.fund_id, self.cluster_id = fund.fund_id, cluster.fund_id
            books.post(NOW, [self.posting("grant", "site", "available", 100)])

    def restarted(self):
        """The same as a new process would have."""
        self.notifier = FakeNotifier()
        return BudgetWarnings(self.ledger, self.notifier, self._coordinators)

    def _coordinators(self):
        if isinstance(self.coordinators, Exception):
            raise self.coordinators
        return self.coordinators

    def posting(self, kind, source, target, amount, **fields):
        return Posting(kind, self.fund_id, source, target, amount, "C-410", "test", **fields)

    def spend(self, amount):
        self.post(self.posting("charge", "available", "spent", amount))

    def post(self, *postings):
        with self.ledger.writing() as books:
            books.post(NOW, postings)

    def run(self):
        """What was told in a tick, in percent."""
        with self.ledger.reading() as books:
            views = books.views([self.fund_id, self.cluster_id])
        self.ledger.calls.clear()
        found = self.warnings.run(LedgerState(NOW, views), make_snapshot(), POLICY)
        return [each.percent for each in found if each.notice]

    @property
    def subjects(self):
        return [each.subject for each in self.notifier.sent]


@pytest.fixture
def world():
    return World()


def test_each_threshold_is_told_once_over_ticks_and_restarts(world):
    told = []
    for amount in (10, 39, 1, 5, 0, 45, 10):
        world.spend(amount)
        world.warnings = world.restarted()
        told.append(world.run() + world.run())
    assert told == [[], [], [50], [], [], [100], []]


def test_what_is_told_goes_to_who_coordinates_the_account(world):
    world.spend(80)
    world.run()
    (notice,) = world.notifier.sent
    assert notice.to == ("c1",)
    assert notice.subject == "80 % of the budget nlp of account nlp are spent"


def test_a_full_queue_is_tried_again_in_the_next_tick(world):
    world.spend(80)
    world.notifier.full = True
    assert world.run() == []
    world.notifier.full = False
    assert world.run() == [80]
    assert world.run() == []


def test_books_that_cannot_be_written_tell_nobody_twice(world):
    world.spend(80)

    full = RecordsUnavailable("disk full")

    def fail(name):
        if name == "commit":
            raise full

    world.ledger.on_call = fail
    with pytest.raises(RecordsUnavailable):
        world.run()
    world.ledger.on_call = lambda _name: None
    assert world.run() == [80]
    assert len(world.notifier.sent) == 1


def test_while_slurm_cannot_say_whom_it_concerns_nobody_is_told(world):
    world.spend(80)
    people, world.coordinators = world.coordinators, SlurmUnavailable("slurmdbd is away")
    assert world.run() == []
    world.coordinators = people
    assert world.run() == [80]


def test_a_grant_lets_it_be_told_again(world):
    world.spend(100)
    assert world.run() == [100]
    world.post(world.posting("grant", "site", "available", 100))
    assert world.run() == []
    world.spend(100)
    assert world.run() == [100]
    assert len(world.notifier.sent) == 2


def run_a_job(world, reserved, accrued):
    with world.ledger.writing() as books:
        (saved,) = books.save(
            [
                Claim(
                    "nlp", "u1", "running", JobId(7), NOW, start_time=NOW,
                    accrued=Cost(accrued, accrued), accrued_until=NOW,
                )
            ]
        )  # fmt: skip
        posting = world.posting(
            "reserve", "available", "reserved", reserved, claim_id=saved.claim_id
        )
        books.post(NOW, [posting])


def test_what_running_jobs_have_cost_so_far_counts(world):
    run_a_job(world, reserved=90, accrued=55)
    assert world.run() == [50]


def test_claims_are_read_only_where_they_make_a_difference(world):
    run_a_job(world, reserved=20, accrued=5)
    assert world.run() == []
    assert "open_claims" not in world.ledger.calls
    world.spend(40)
    assert world.run() == []
    assert "open_claims" in world.ledger.calls


def test_a_site_without_budgets_is_asked_nothing(world):
    with world.ledger.reading() as books:
        views = books.views([world.cluster_id])
    world.ledger.calls.clear()
    assert world.warnings.run(LedgerState(NOW, views), make_snapshot(), POLICY) == ()
    assert world.ledger.calls == []
