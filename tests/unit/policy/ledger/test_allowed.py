"""Who may see and move which money."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.model.ledger import Fund
from slurm_gpu_policy.policy.ledger.allowed import Rights

PARENTS = {"root": "", "nlp": "root", "tune": "nlp", "deep": "tune", "vision": "root"}
ACCOUNTS = [*PARENTS, "gone", ""]


def rights(*, accounts=(), coordinated=(), operates=False, user="u1"):
    return Rights(user, operates, PARENTS, frozenset(accounts), frozenset(coordinated))


def test_a_line_goes_up_to_the_root_and_ends_even_in_a_loop():
    assert rights().line("deep") == ("deep", "tune", "nlp", "root")
    assert rights().line("") == ()
    assert Rights("u", parents={"a": "b", "b": "a"}).line("a") == ("a", "b")


def test_a_coordinator_manages_the_account_and_all_below_but_none_above_or_beside():
    boss = rights(coordinated=["tune"])
    assert [name for name in ACCOUNTS if boss.manages(name)] == ["tune", "deep"]
    assert [name for name in ACCOUNTS if boss.sees(name)] == ["tune", "deep"]


def test_a_member_sees_the_accounts_that_pay_and_manages_none():
    member = rights(accounts=["tune"])
    assert [name for name in ACCOUNTS if member.sees(name)] == ["root", "nlp", "tune"]
    assert not any(member.manages(name) for name in ACCOUNTS)
    assert member.sees_of("tune", "u1")
    assert not member.sees_of("tune", "u2")


@pytest.mark.parametrize("account", ["", "gone"])
def test_what_slurm_has_no_account_for_is_the_operators_alone(account):
    everywhere = rights(accounts=PARENTS, coordinated=PARENTS)
    assert not everywhere.manages(account)
    assert not everywhere.sees_fund(Fund("b", account, unlimited=True))
    assert rights(operates=True).sees_fund(Fund("b", account))


some = st.lists(st.sampled_from(list(PARENTS)), max_size=3)


@given(some, some, st.sampled_from(ACCOUNTS), st.sampled_from(["", "u1", "u2"]))
def test_nobody_sees_a_fund_that_is_neither_theirs_nor_paid_from_nor_managed(
    accounts, coordinated, account, user
):
    person = rights(accounts=accounts, coordinated=coordinated)
    fund = Fund("b", account, user)
    line = set(person.line(account))
    own = user == "u1" and account != ""
    pays = not user and any(account in person.line(one) for one in accounts)
    manages = bool(line & set(coordinated))
    assert person.sees_fund(fund) == (account != "" and (own or pays or manages))
    assert not person.draws_on(fund) or person.sees_fund(fund) or account == ""
