from __future__ import annotations

from types import MappingProxyType

from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.model.ledger import Claim, Fund, Leg
from slurm_gpu_policy.model.prices import Cost, Prices, Tariff, Use
from slurm_gpu_policy.policy.ledger.budget import Funds
from slurm_gpu_policy.policy.ledger.charging import Part, Priced, Sheet, parts_of, pending_since

USE = Use(MappingProxyType({"h100": 2}), 4, 1024, "gpu", "normal")
BOOK = (Tariff(0, Prices(gpus=MappingProxyType({"h100": 3_600_000}))),)


def claim(*legs, **fields):
    return Claim("nlp", "u1", "running", claim_id=1, legs=legs, **fields)


def entered(sheet_funds):
    return [
        (one.kind, one.fund_id, one.source, one.target, one.amount, one.gpu_seconds)
        for one in sheet_funds.postings
    ]


def fund(number, **fields):
    return Fund(f"b{number}", "nlp", fund_id=number, **fields)


def test_a_run_is_cut_where_a_period_of_any_of_its_levels_ends():
    funds = Funds([fund(1, end=50), fund(2, start=50), Fund("s", "science", start=80, fund_id=3)],
                  {"nlp": "science"})  # fmt: skip
    line = funds.line("nlp", "u1")
    cuts = (10, *line.cuts(10, 90), 90)
    assert cuts == (10, 50, 80, 90)
    parts = parts_of(USE, cuts, Priced(BOOK))
    assert [part.cost for part in parts] == [
        Cost(80_000, 80), Cost(60_000, 60), Cost(20_000, 20),
    ]  # fmt: skip


def test_what_is_set_aside_for_a_run_is_charged_first_and_the_rest_from_what_is_left():
    funds = Funds([fund(1, available=5, reserved=8), fund(2, available=100, position=1)], {})
    sheet = Sheet(funds, claim(Leg(1, reserved=8)))
    sheet.charge(funds.line("nlp", "u1"), [Part(0, 10, Cost(20, 30))])
    assert entered(funds) == [
        ("charge", 1, "reserved", "spent", 8, 12),
        ("charge", 1, "available", "spent", 5, 7),
        ("charge", 2, "available", "spent", 7, 11),
    ]


def test_the_last_fund_is_overdrawn_where_none_has_enough():
    funds = Funds([fund(1, available=5), fund(2, available=1, position=1)], {})
    Sheet(funds, claim()).charge(funds.line("nlp", "u1"), [Part(0, 10, Cost(20, 30))])
    assert [(one.fund_id, one.amount) for one in funds.postings] == [(1, 5), (2, 15)]
    assert sum(one.gpu_seconds for one in funds.postings) == 30


def test_a_part_outside_every_period_is_charged_to_nobody():
    funds = Funds([fund(1, start=100)], {})
    Sheet(funds, claim()).charge(funds.line("nlp", "u1"), [Part(0, 10, Cost(20, 30))])
    assert funds.postings == []


def test_a_closed_fund_has_what_it_had_after_a_late_charge():
    funds = Funds([fund(1, end=50, closed=True, available=3)], {})
    sheet = Sheet(funds, claim())
    sheet.charge(funds.line("nlp", "u1"), [Part(0, 10, Cost(20, 30))])
    sheet.finish()
    assert entered(funds)[1:] == [("expire", 1, "site", "available", 20, 0)]
    assert funds.available[1] == 3


def test_what_waits_is_priced_at_a_moment_that_stands_still():
    book = (*BOOK, Tariff(100, BOOK[0].prices), Tariff(900, BOOK[0].prices))
    waiting = claim(known_since=50)
    assert pending_since(waiting, None, book, 60) == 50
    assert pending_since(waiting, None, book, 200) == 100
    assert pending_since(waiting, 400, book, 200) == 400
    assert pending_since(waiting, 400, book, 1000) == 900


amounts = st.integers(0, 1000)


@given(
    st.lists(st.tuples(amounts, amounts), min_size=1, max_size=4),
    st.lists(st.tuples(amounts, st.booleans()), min_size=1, max_size=3),
    st.lists(st.tuples(amounts, amounts), min_size=1, max_size=4),
)
def test_charging_twice_enters_nothing_and_another_target_the_difference(first, some, second):
    """One fund for all time and one for each of two periods on the same level, in any balance."""
    funds = [
        fund(number, available=available, position=number, start=0 if whole else number * 10,
             end=None if whole else number * 10 + 10)
        for number, (available, whole) in enumerate(some, 1)
    ]  # fmt: skip

    def parts(costs):
        return [
            Part(number * 10, number * 10 + 10, Cost(micros, seconds))
            for number, (micros, seconds) in enumerate(costs)
        ]

    def after(book, legs):
        return claim(*(Leg(i, leg.reserved, leg.charged, leg.refunded, leg.gpu_seconds)
                       for i, leg in legs.items()))  # fmt: skip

    one = claim()
    for costs in (first, second, first):
        books = Funds(funds, {})
        line = books.line("nlp", "u1")
        sheet = Sheet(books, one)
        sheet.charge(line, parts(costs))
        covered = [part for part in parts(costs) if line.shelves[0].covering(part.start)]
        assert sum(leg.charged for leg in sheet.legs.values()) == sum(
            part.cost.micros for part in covered
        )
        assert sum(leg.gpu_seconds for leg in sheet.legs.values()) == sum(
            part.cost.gpu_seconds for part in covered
        )
        assert all(leg.charged >= 0 for leg in sheet.legs.values())
        one = after(books, sheet.legs)
        again = Funds(funds, {})
        Sheet(again, one).charge(again.line("nlp", "u1"), parts(costs))
        assert again.postings == []
