from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.policy.ledger.periods import (
    Period,
    budget_period,
    cluster_fund,
    period_at,
    periods_since,
    users_by_account,
    wanted_funds,
)
from tests.builders import make_association, make_policy

BERLIN = "Europe/Berlin"


def at(text, zone=BERLIN):
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


@pytest.mark.parametrize(
    ("kind", "moment", "start", "end"),
    [
        ("month", "2030-03-31T23:59:59", "2030-03-01", "2030-04-01"),
        ("month", "2030-12-01", "2030-12-01", "2031-01-01"),
        ("quarter", "2030-06-30T12:00", "2030-04-01", "2030-07-01"),
        ("year", "2030-06-30T12:00", "2030-01-01", "2031-01-01"),
    ],
)
def test_periods_go_by_the_calendar_of_the_zone(kind, moment, start, end):
    assert period_at(kind, at(moment), BERLIN) == Period(at(start), at(end))


def test_march_has_an_hour_less_where_clocks_are_put_forward():
    march = period_at("month", at("2030-03-15"), BERLIN)
    assert march.end - march.start == 31 * 86_400 - 3600


def test_a_period_lies_within_the_budgets_own_dates():
    budget = make_policy(
        budgets={"nlp": {"amount": "1", "start": "2030-03-10", "end": "2030-05-20"}}
    ).budgets["nlp"]
    assert budget_period(budget, at("2030-03-09"), BERLIN) is None
    assert budget_period(budget, at("2030-03-12"), BERLIN) == Period(
        at("2030-03-10"), at("2030-04-01")
    )
    assert budget_period(budget, at("2030-05-12"), BERLIN) == Period(
        at("2030-05-01"), at("2030-05-20")
    )
    assert budget_period(budget, at("2030-05-20"), BERLIN) == Period(at("2030-05-20"), None)


@pytest.mark.parametrize(
    ("dates", "period"),
    [
        ({}, Period(0, None)),
        ({"start": "2030-01-01"}, Period(at("2030-01-01", "UTC"), None)),
        ({"end": "2031-01-01"}, Period(0, at("2031-01-01", "UTC"))),
    ],
)
def test_a_budget_for_once_has_one_period(dates, period):
    budget = make_policy(budgets={"nlp": {"amount": "1", "period": "once", **dates}}).budgets["nlp"]
    assert budget_period(budget, at("2030-06-01"), "UTC") == period


@given(
    st.sampled_from(["month", "quarter", "year"]),
    st.integers(0, 4_000_000_000),
    st.sampled_from(["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe"]),
)
def test_periods_follow_one_another_without_gap_or_overlap(kind, moment, zone):
    period = period_at(kind, moment, zone)
    assert period.start <= moment < period.end
    assert period_at(kind, period.end, zone).start == period.end
    assert period_at(kind, period.start - 1, zone).end == period.start


def test_months_beyond_the_calendar_are_no_defect():
    assert period_at("month", 253_402_300_000, "UTC") is not None


def test_funds_are_wanted_for_accounts_for_one_user_and_for_each():
    policy = make_policy(
        budgets={
            "NLP": {"amount": "5", "soft": 80, "overdraft": "1"},
            "of-one": {"account": "vision", "user": "u2", "gpu_hours": 2, "overdraft_gpu_hours": 1},
            "once-each": {"account": "nlp", "amount": "1", "each_user": True, "roll_over": 10},
        }
    )
    users = users_by_account(
        [make_association("nlp", ""), make_association("nlp", "u1"), make_association("nlp", "u2")]
    )
    found = [(one.fund, one.amount, one.roll_over) for one in wanted_funds(policy, users, 0)]
    assert [(f.account, f.user, f.unit, f.position, amount) for f, amount, _ in found] == [
        ("", "", "money", 0, 0),
        ("nlp", "", "money", 0, 5_000_000),
        ("vision", "u2", "gpu_seconds", 1, 7200),
        ("nlp", "u1", "money", 2, 1_000_000),
        ("nlp", "u2", "money", 2, 1_000_000),
    ]
    assert [f.overdraft for f, _, _ in found] == [0, 1_000_000, 3600, 0, 0]
    assert [f.soft for f, _, _ in found][1] == 800_000
    assert found[-1][2] == 10


def test_the_cluster_has_a_fund_without_a_limit_for_each_month():
    fund = cluster_fund(at("2030-03-15", "UTC"), "UTC").fund
    assert (fund.account, fund.budget, fund.unlimited) == ("", "", True)
    assert (fund.start, fund.end) == (at("2030-03-01", "UTC"), at("2030-04-01", "UTC"))


def test_periods_that_nobody_opened_are_told_in_their_order():
    policy = make_policy(budgets={"nlp": {"amount": "5"}})
    *_, wanted = wanted_funds(policy, {}, at("2030-05-10", "UTC"))
    found = list(periods_since(wanted, policy, at("2030-02-11", "UTC"), at("2030-05-10", "UTC")))
    assert [period.start for period, _ in found] == [
        at(text, "UTC") for text in ("2030-02-11", "2030-03-01", "2030-04-01", "2030-05-01")
    ]
    assert found[0][0].end == found[1][0].start
    assert {amount for _, amount in found} == {5_000_000}


def test_nothing_is_granted_after_a_budgets_end_nor_may_be_overdrawn():
    dates = {"amount": "5", "overdraft": "1", "end": "2030-04-01"}
    policy = make_policy(budgets={"nlp": dates})
    *_, wanted = wanted_funds(policy, {}, at("2030-05-10", "UTC"))
    assert (wanted.amount, wanted.fund.overdraft) == (0, 0)
    assert (wanted.fund.start, wanted.fund.end) == (at("2030-04-01", "UTC"), None)
    found = list(periods_since(wanted, policy, at("2030-03-01", "UTC"), at("2030-05-10", "UTC")))
    assert found == [
        (Period(at("2030-03-01", "UTC"), at("2030-04-01", "UTC")), 5_000_000),
        (Period(at("2030-04-01", "UTC"), None), 0),
    ]
