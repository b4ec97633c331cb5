"""Setting amounts aside for submissions, on books and a cluster in memory."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.errors import NotAllowed, RequestError
from slurm_gpu_policy.model.caller import Caller
from slurm_gpu_policy.model.ledger import Fund, Posting
from slurm_gpu_policy.model.prices import Use
from slurm_gpu_policy.model.promise import Ask
from slurm_gpu_policy.policy.prices.pricing import price_book
from slurm_gpu_policy.services.directory import Directory
from slurm_gpu_policy.services.ledger import promising
from slurm_gpu_policy.services.ledger.promising import Promising, ask_fields, promise_of
from slurm_gpu_policy.units import MICRO
from tests.builders import make_policy
from tests.fakes.books import FakeLedger
from tests.fakes.clock import FakeClock
from tests.fakes.people import FakePeople
from tests.fakes.slurm import FakeSlurm

HOUR = 3600
ROOT = Caller(0, "root")
U1, U2 = Caller(6001, "u1"), Caller(6002, "u2")


class Site:
    """Books with a budget of 100 for the account nlp; a GPU costs 1 an hour."""

    def __init__(self, **fields):
        self.clock = FakeClock()
        self.slurm = FakeSlurm(clock=self.clock)
        self.ledger = FakeLedger()
        site = {"gpu_types": {"h100": {"price_per_hour": "1"}}, "budgets": {"nlp": {"amount": 100}}}
        self.policy = make_policy(**{**site, **fields})
        self.promising = Promising(
            ledger=self.ledger,
            slurm=self.slurm,
            policy=lambda: self.policy,
            clock=self.clock,
            directory=Directory(FakePeople(), lambda _: (), self.clock),
        )
        with self.ledger.writing() as books:
            books.record_tariffs(0, price_book(self.policy))

    def fund(self, amount, account="nlp", user="", **fields):
        with self.ledger.writing() as books:
            (fund,) = books.open_funds([Fund("b", account, user, **fields)])
            grant = Posting("grant", fund.fund_id, "site", "available", amount, "B-005", "policy")
            books.post(self.clock.now(), [grant])
        return fund.fund_id

    def ask(self, *asks, caller=U1, only_look=False):
        answer = self.promising.promise(
            caller, {"asks": [ask_fields(one) for one in asks], "only_look": only_look}
        )
        return [promise_of(one) for one in answer["promises"]]

    def available(self, fund_id):
        assert self.ledger.problems() == ()
        with self.ledger.reading() as books:
            (fund,) = [one for one in books.funds() if one.fund_id == fund_id]
        return fund.available


def ask(token="t1", gpus=1, hours=1, **fields):
    use = Use(gpus={"h100": gpus}, partition="gpu", qos="normal")
    return Ask(token, "nlp-pretrain", "u1", use, hours * HOUR, **fields)


@pytest.fixture
def site():
    return Site()


def test_what_a_job_may_cost_is_set_aside_and_what_is_left_is_told(site):
    fund = site.fund(100 * MICRO)
    (promise,) = site.ask(ask(gpus=4, hours=10, tasks=2))
    assert promise.covered
    (purse,) = promise.purses
    assert (purse.account, purse.needed, purse.left) == ("nlp", 80 * MICRO, 20 * MICRO)
    assert site.available(fund) == 20 * MICRO


def test_what_is_not_there_is_not_set_aside_and_the_level_is_named(site):
    fund = site.fund(10 * MICRO)
    (promise,) = site.ask(ask(hours=11))
    assert not promise.covered
    (purse,) = promise.short
    assert (purse.left, purse.needed, purse.budgets) == (10 * MICRO, 11 * MICRO, ("b",))
    assert site.available(fund) == 10 * MICRO


def test_of_several_jobs_all_are_covered_or_none(site):
    fund = site.fund(10 * MICRO)
    first, second = site.ask(ask("t1", hours=6), ask("t2", hours=6))
    assert first.covered
    assert not second.covered
    assert site.available(fund) == 10 * MICRO


def test_each_level_of_the_line_must_have_enough(site):
    account, user = site.fund(100 * MICRO), site.fund(5 * MICRO, "nlp-pretrain", "u1")
    (promise,) = site.ask(ask(hours=6))
    assert [(one.account, one.user) for one in promise.short] == [("nlp-pretrain", "u1")]
    assert (site.available(account), site.available(user)) == (100 * MICRO, 5 * MICRO)


def test_gpu_hours_are_counted_whatever_they_cost(site):
    fund = site.fund(8 * HOUR, unit="gpu_seconds")
    site.ask(ask(gpus=4, hours=1))
    assert site.available(fund) == 4 * HOUR


def test_the_same_token_again_sets_nothing_aside_twice(site):
    fund = site.fund(10 * MICRO)
    assert site.ask(ask(hours=6))[0].covered
    assert site.ask(ask(hours=6))[0].covered
    assert site.available(fund) == 4 * MICRO


def test_a_token_of_somebody_elses_submission_is_refused(site):
    site.fund(10 * MICRO)
    site.ask(ask())
    other = Ask("t1", "nlp-pretrain", "u1", Use(), HOUR)
    taken = Ask("t1", "vision", "u1", Use(), HOUR)
    assert site.ask(other)[0].covered
    with pytest.raises((RequestError, NotAllowed)):
        site.ask(taken)


def test_looking_sets_nothing_aside(site):
    fund = site.fund(10 * MICRO)
    assert site.ask(ask(hours=6), only_look=True)[0].covered
    assert site.available(fund) == 10 * MICRO


def test_what_was_not_submitted_is_given_back(site):
    fund = site.fund(10 * MICRO)
    site.ask(ask(hours=6))
    assert site.promising.withdraw(U1, {"tokens": ["t1", "unknown"]}) == {"withdrawn": 1}
    assert site.available(fund) == 10 * MICRO
    assert site.promising.withdraw(U1, {"tokens": ["t1"]}) == {"withdrawn": 0}


def test_nobody_spends_for_somebody_else(site):
    site.fund(10 * MICRO)
    with pytest.raises(NotAllowed, match="u2 may not spend for u1"):
        site.ask(ask(), caller=U2)
    site.ask(ask())
    with pytest.raises(NotAllowed):
        site.promising.withdraw(U2, {"tokens": ["t1"]})
    assert site.ask(ask("t2"), caller=ROOT)[0].covered


def test_nobody_spends_in_an_account_that_is_not_theirs(site):
    elsewhere = Ask("t1", "nobodys", "u1", Use(), HOUR)
    with pytest.raises(NotAllowed, match="u1 has no place in the account nobodys"):
        site.ask(elsewhere)


def test_without_a_budget_nothing_limits(site):
    (promise,) = site.ask(ask(gpus=1000, hours=1000))
    assert promise.covered
    assert promise.purses == ()


def test_a_job_without_a_time_limit_needs_an_hour(site):
    fund = site.fund(10 * MICRO)
    site.ask(ask(gpus=4, hours=0))
    assert site.available(fund) == 6 * MICRO


def test_an_overdraft_may_be_used_up(site):
    fund = site.fund(10 * MICRO, overdraft=5 * MICRO)
    assert site.ask(ask("t1", hours=15))[0].covered
    assert not site.ask(ask("t2", hours=1))[0].covered
    assert site.available(fund) == -5 * MICRO


def test_beyond_the_soft_limit_its_user_is_told(site):
    site.fund(10 * MICRO, soft=800_000)
    assert not site.ask(ask("t1", hours=7))[0].purses[0].soft_exceeded
    assert site.ask(ask("t2", hours=1))[0].purses[0].soft_exceeded


def test_a_job_of_the_over_budget_qos_needs_no_budget():
    site = Site(submission={"over_budget_qos": "spare"})
    fund = site.fund(0)
    use = Use(gpus={"h100": 8}, partition="gpu", qos="SPARE")
    assert site.ask(Ask("t1", "nlp-pretrain", "u1", use, 100 * HOUR))[0].covered
    assert site.available(fund) == 0


def test_one_user_cannot_fill_the_books_with_promises(site, monkeypatch):
    monkeypatch.setattr(promising, "_MOST_PROMISES", 3)
    site.ask(ask("t1"), ask("t2"))
    with pytest.raises(RequestError, match="too many submissions under way"):
        site.ask(ask("t3"), ask("t4"))
    assert site.ledger.problems() == ()


@pytest.mark.parametrize(
    "asks",
    [
        None,
        [],
        ["x"],
        [{"token": "t"}],
        [{**ask_fields(ask()), "tasks": 0}],
        [{**ask_fields(ask()), "seconds": -1}],
        [{**ask_fields(ask()), "seconds": True}],
        [{**ask_fields(ask()), "cpus": 2**63}],
        [{**ask_fields(ask()), "gpus": {"h100": "1"}}],
        [{**ask_fields(ask()), "gpus": [1]}],
        [{**ask_fields(ask()), "gpus": {"\x1b[31m": 1}}],
        [{**ask_fields(ask()), "gpus": {"x" * 256: 1}}],
        [{**ask_fields(ask()), "gpus": dict.fromkeys(map(str, range(65)), 0)}],
        [{**ask_fields(ask()), "token": "x\n"}],
        [{**ask_fields(ask()), "account": "x" * 256}],
        [ask_fields(ask()), ask_fields(ask())],
    ],
)
def test_a_request_that_makes_no_sense_is_refused(site, asks):
    with pytest.raises(RequestError):
        site.promising.promise(U1, {"asks": asks})


@pytest.mark.parametrize("tokens", [None, "t1", [1], ["x\n"], [{}], ["t"] * 1001])
def test_a_withdrawal_that_makes_no_sense_is_refused(site, tokens):
    with pytest.raises(RequestError):
        site.promising.withdraw(U1, {"tokens": tokens})


def test_where_no_books_are_kept_nothing_is_written():
    """Nobody would ever give it back."""
    site = Site(budgets={}, gpu_types={}, ledger={"keep": False})
    (promise,) = site.ask(ask())
    assert promise.covered
    with site.ledger.reading() as books:
        assert books.open_claims() == ()
