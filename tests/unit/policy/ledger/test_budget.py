from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.model.ledger import Fund
from slurm_gpu_policy.model.prices import Cost
from slurm_gpu_policy.policy.ledger.budget import (
    Funds,
    Short,
    levels,
    present_funds,
    reserve,
    short_words,
)
from slurm_gpu_policy.policy.ledger.keeping import keeps_books
from tests.builders import make_policy

PARENTS = {"root": "", "science": "root", "nlp": "science"}
LINE = levels("nlp", "u1", PARENTS)


def fund(number, account="nlp", user="", **fields):
    return Fund(f"b{number}", account, user, fund_id=number, **fields)


def test_a_line_goes_from_the_user_up_to_the_cluster():
    assert LINE == (("nlp", "u1"), ("nlp", ""), ("science", ""), ("root", ""), ("", ""))


def test_accounts_that_are_each_others_parents_make_no_endless_line():
    assert levels("a", "u", {"a": "b", "b": "a"}) == (("a", "u"), ("a", ""), ("b", ""), ("", ""))


def test_a_job_without_an_account_is_the_clusters_alone():
    assert levels("", "u1", PARENTS) == (("", ""),)


@pytest.mark.parametrize(
    ("fields", "keeps"),
    [
        ({}, False),
        ({"pricing": {}}, True),
        ({"budgets": {"nlp": {"amount": "1"}}}, True),
        ({"pricing": {}, "ledger": {"keep": False}}, False),
        ({"ledger": {"keep": True}}, True),
    ],
)
def test_books_are_kept_where_there_is_something_to_keep_or_the_site_says_so(fields, keeps):
    assert keeps_books(make_policy(**fields)) is keeps


def test_funds_are_drawn_on_in_order_of_position_and_only_in_their_time():
    funds = [
        fund(1, position=2),
        fund(2, position=1, start=5, end=10),
        fund(3, position=0, closed=True),
        fund(4, "science"),
    ]
    assert [one.fund_id for one in present_funds(funds, ("nlp", ""), 5)] == [2, 1]
    assert [one.fund_id for one in present_funds(funds, ("nlp", ""), 10)] == [1]


def test_what_is_there_goes_before_what_may_be_overdrawn():
    funds = [fund(1, available=10, overdraft=5), fund(2, available=20, position=1)]
    postings = reserve(7, Cost(32), LINE, funds, 0, rule="B-003", actor="x")
    assert [(one.fund_id, one.amount) for one in postings] == [(1, 12), (2, 20)]
    assert {one.claim_id for one in postings} == {7}


def test_all_levels_that_are_short_are_told_and_nothing_is_taken():
    funds = [fund(1, available=5), fund(2, "science", available=50), fund(3, "root", available=3)]
    assert reserve(7, Cost(10), LINE, funds, 0, rule="B-003", actor="x") == (
        Short("nlp", "", ("b1",), "money", 5, 10),
        Short("root", "", ("b3",), "money", 3, 10),
    )


def test_what_must_be_had_is_taken_from_the_last_one_even_so():
    funds = [fund(1, available=5), fund(2, available=-3, position=1)]
    postings = reserve(7, Cost(10), LINE, funds, 0, rule="B-003", actor="x", must=True)
    assert [(one.fund_id, one.amount) for one in postings] == [(1, 5), (2, 5)]


def test_nothing_is_set_aside_without_a_limit_and_gpu_seconds_where_these_are_counted():
    funds = [fund(1, "", unlimited=True), fund(2, unit="gpu_seconds", available=100)]
    postings = reserve(7, Cost(999, 60), LINE, funds, 0, rule="B-003", actor="x")
    assert [(one.fund_id, one.amount) for one in postings] == [(2, 60)]


def test_what_costs_nothing_is_never_short():
    assert reserve(7, Cost(), LINE, [fund(1, available=-5)], 0, rule="B-003", actor="x") == ()


def test_one_claim_after_another_takes_from_what_the_first_has_left():
    funds = Funds([fund(1, available=10)], PARENTS, actor="x")
    line = funds.line("nlp", "u1")
    assert not funds.short(line, Cost(6), 0)
    funds.reserve(1, line, Cost(6), 0, rule="B-003")
    (short,) = funds.short(line, Cost(6), 0)
    assert (short.left, short.needed) == (4, 6)
    assert "4" in short_words(short, "EUR")


@given(
    st.lists(st.tuples(st.integers(-50, 50), st.integers(0, 20)), min_size=1, max_size=4),
    st.integers(0, 200),
)
def test_what_is_spread_over_funds_is_the_whole_and_within_limits_while_it_can_be(some, amount):
    made = [
        fund(number, available=available, overdraft=overdraft, position=number)
        for number, (available, overdraft) in enumerate(some)
    ]
    funds = Funds(made, PARENTS)
    taken = funds.spread(made, amount)
    assert sum(part for _, part in taken) == amount
    room = sum(max(one.available + one.overdraft, 0) for one in made)
    if amount <= room:
        assert all(part <= max(one.available + one.overdraft, 0) for one, part in taken)
