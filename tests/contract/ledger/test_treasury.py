"""Requests that write, many at once and repeated, on each of the three ledgers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from slurm_gpu_policy.errors import RequestError
from tests.builders import DAY, NOW
from tests.unit.services.treasuries import BOSS, MICRO, ROOT, U1, Site


@pytest.fixture
def site(ledger):
    made = Site(ledger)
    yield made
    made.sound()


def at_once(count, do):
    """Do something in many threads; return what came of it, errors as they are."""

    def one(number):
        try:
            return do(number)
        except RequestError as error:
            return error

    with ThreadPoolExecutor(8) as workers:
        return list(workers.map(one, range(count)))


def test_each_id_writes_once_whoever_repeats_it(site):
    site.open("nlp")
    answers = at_once(
        40,
        lambda number: site.write(
            ROOT, "grant", id=f"repeated-{number % 4}", account="nlp", amount="5", unit="money"
        ),
    )
    assert sum(one["written"] for one in answers) == 4
    assert len({one["entries"][0]["entry_id"] for one in answers}) == 4
    assert site.fund(1).granted == 100 * MICRO + 20


def test_of_many_transfers_as_many_go_as_are_covered(site):
    source, target = site.open("nlp-finetune", amount=100), site.open("nlp-pretrain", amount=0)
    ends = {"from": {"account": "nlp-finetune"}, "to": {"account": "nlp-pretrain"}}
    answers = at_once(
        20,
        lambda number: site.ask(
            BOSS, "transfer", id=f"transfer-{number}", reason="x", amount="30", unit="money", **ends
        ),
    )
    assert sum(isinstance(one, dict) for one in answers) == 3
    assert [site.fund(one.fund_id).available for one in (source, target)] == [10, 90]


def test_of_many_refunds_no_more_goes_back_than_was_charged(site):
    own, fund = site.own(), site.open("nlp-finetune")
    site.run(7, [own, fund], cost=100)
    answers = at_once(
        10,
        lambda number: site.ask(
            ROOT, "refund", id=f"refund-{number}", reason="x", job="7", percent=30
        ),
    )
    assert sum(isinstance(one, dict) for one in answers) == 3
    assert [site.fund(one.fund_id).spent for one in (own, fund)] == [10, 10]


def test_a_late_repetition_is_answered_as_the_first_time(site):
    site.open("nlp")
    grant = {"id": "the-first-one", "account": "nlp", "amount": "5", "unit": "money"}
    first = site.write(ROOT, "grant", **grant)
    for number in range(30):
        site.write(ROOT, "grant", account="nlp", amount=str(number + 1), unit="money")
        site.clock.advance(1000)
    assert site.write(ROOT, "grant", **grant) == {**first, "written": False}


def test_an_import_is_all_or_nothing(site):
    rows = [[n, "nlp", "", "1", "EUR", f"b{n}", "", "", "x"] for n in range(2, 60)]
    with pytest.raises(RequestError, match="line 60"):
        site.ask(ROOT, "import", rows=[*rows, [60, "nosuch", "", "1", "EUR", "", "", "", "x"]])
    assert site.ask(ROOT, "budget", all=True)["budgets"] == []
    answer = site.ask(ROOT, "import", rows=rows)
    assert (answer["written"], len(answer["entries"])) == (True, 58)
    assert site.ask(ROOT, "import", rows=rows) == {**answer, "written": False}


def test_views_and_pages_are_the_same_on_all(site):
    own, fund = site.own(), site.open("nlp-finetune")
    for job in range(1, 6):
        site.run(job, [own, fund], cost=job, user=f"u{job % 2 + 1}")
    answer = site.ask(U1, "statement", month="2027-01", account="nlp-finetune")
    assert (answer["total"]["cost"], [one["cost"] for one in answer["users"]]) == ("15", ["6"])
    found, after = [], 0
    while after is not None:
        some = site.ask(BOSS, "entries", account="nlp", after=after, limit=2)
        found, after = found + some["entries"], some["next"]
    assert [one["kind"] for one in found] == ["grant"] + ["charge"] * 5
    assert site.ask(ROOT, "verify")["differences"] == []
    (one,) = site.ask(U1, "forecast")["forecasts"]
    assert one["left"] == str(100 * MICRO - 15)
    assert site.fund(fund.fund_id).end == NOW + 20 * DAY


def test_closing_is_undone_by_nothing_but_a_grant(site):
    site.open("nlp", overdraft=7)
    site.write(ROOT, "close", account="nlp")
    (one,) = site.ask(U1, "budget")["budgets"]
    assert (one["granted"], one["available"], one["overdraft"]) == ("-7", "-7", "7")
