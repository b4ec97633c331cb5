from __future__ import annotations

from dataclasses import replace
from math import isnan, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.policy.fair_share_classic import classic_factor, classic_fair_share
from slurm_gpu_policy.policy.share_tree import Member

# Usage 100: a used 80 of it with 3 of 4 shares, b 20 with 1.
MEMBERS = (
    Member("root", usage=100.0),
    Member("a", parent="root", shares=3, usage=80.0),
    Member("b", parent="root", shares=1, usage=20.0),
    Member("a", "u", shares=1, usage=60.0),
    Member("a", "v", shares=1, usage=20.0),
    Member("b", "w", shares=1, usage=20.0),
)


def by_name(members, **options):
    found = classic_fair_share(members, **options)
    return {one.member.user or one.member.account: one for one in found}


def test_shares_are_of_the_whole_cluster():
    found = by_name(MEMBERS)
    assert {name: one.norm_shares for name, one in found.items()} == {
        "root": 1.0, "a": 0.75, "b": 0.25, "u": 0.375, "v": 0.375, "w": 0.25,
    }  # fmt: skip


def test_effective_usage_takes_a_part_of_what_the_siblings_used():
    found = by_name(MEMBERS)
    assert found["root"].effective_usage == 1.0
    assert found["a"].effective_usage == 0.8
    assert found["u"].effective_usage == pytest.approx(0.6 + (0.8 - 0.6) / 2)
    assert found["v"].effective_usage == pytest.approx(0.2 + (0.8 - 0.2) / 2)
    assert found["w"].effective_usage == pytest.approx(0.2)


def test_the_factor_halves_with_each_share_used():
    found = by_name(MEMBERS)
    assert found["u"].fair_share == pytest.approx(2 ** -(0.7 / 0.375))
    assert found["w"].fair_share == pytest.approx(2**-0.8)
    assert found["root"].fair_share == 0.5
    assert isnan(found["u"].level_fs)


def test_dampening_makes_usage_count_less():
    damped = by_name(MEMBERS, dampening=5)
    assert damped["u"].fair_share == pytest.approx(2 ** -(0.7 / 0.375 / 5))


def test_users_without_shares_have_no_factor():
    assert classic_factor(0.0, 0.0) == 0.0
    members = [*MEMBERS, Member("b", "x", shares=0)]
    assert by_name(members)["x"].fair_share == 0.0


def test_parent_shares_are_the_accounts_own():
    found = by_name([*MEMBERS, Member("a", "p", shares=None, usage=5.0)])
    for name in ("norm_shares", "effective_usage", "fair_share"):
        assert getattr(found["p"], name) == getattr(found["a"], name)


def test_an_account_with_parent_shares_is_no_factor_in_its_users_shares():
    members = [*MEMBERS, Member("c", parent="a", shares=None), Member("c", "y", shares=2)]
    found = by_name(members)
    assert found["y"].norm_shares == pytest.approx(0.75 * 2 / 4)
    assert found["u"].norm_shares == pytest.approx(0.75 * 1 / 4)


def test_where_nobody_has_shares_the_usage_is_the_parents():
    members = [*MEMBERS[:3], Member("a", "u", shares=0, usage=80.0)]
    assert by_name(members)["u"].effective_usage == 0.8


def test_depth_does_not_matter_where_the_parent_is_balanced():
    members = [
        Member("root", usage=100.0),
        Member("a", parent="root", shares=1, usage=50.0),
        Member("b", parent="root", shares=1, usage=50.0),
        Member("a", "u", shares=1, usage=40.0),
        Member("a", "v", shares=1, usage=10.0),
    ]
    found = by_name(members, depth_oblivious=True)
    assert found["u"].fair_share == pytest.approx(2 ** -(0.4 / 0.25))
    assert found["v"].fair_share == pytest.approx(2 ** -(0.1 / 0.25))


def test_a_parent_far_from_balance_damps_what_would_bring_its_users_back():
    found = by_name(MEMBERS, depth_oblivious=True)
    ratio, local = 0.8 / 0.75, (0.2 / 0.375) / (0.8 / 0.75)
    damping = 1 / (1 + (5 * log(ratio)) ** 2)
    assert found["v"].effective_usage == pytest.approx(ratio * local**damping * 0.375)
    # u is above its share as its account is: nothing is damped.
    assert found["u"].effective_usage == pytest.approx(0.6)


def test_idle_users_have_no_effective_usage_in_a_depth_oblivious_tree():
    members = [*MEMBERS, Member("a", "idle", shares=1)]
    assert by_name(members, depth_oblivious=True)["idle"].fair_share == 1.0


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.none() | st.integers(0, 10), st.floats(0, 1e6)),
             min_size=1, max_size=8),
    st.booleans(),
)  # fmt: skip
def test_factors_are_between_nothing_and_all(users, depth_oblivious):
    totals = {name: sum(usage for where, _, usage in users if where == name) for name in "ab"}
    members = [
        Member("root", usage=sum(totals.values())),
        *(Member(name, parent="root", shares=2, usage=totals[name]) for name in "ab"),
        *(Member(where, f"u{n}", shares=shares, usage=usage)
          for n, (where, shares, usage) in enumerate(users)),
    ]  # fmt: skip
    found = classic_fair_share(members, depth_oblivious=depth_oblivious)
    assert all(0 <= one.fair_share <= 1 for one in found)
    assert [one.member for one in found] == members
    idle = classic_fair_share([replace(one, usage=0.0) for one in members],
                              depth_oblivious=depth_oblivious)  # fmt: skip
    assert all(
        one.fair_share == (1.0 if one.norm_shares else 0.0)
        for one in idle
        if one.member.parent and not one.member.user
    )


def test_a_parent_user_whose_divider_is_root_has_roots_factor():
    found = classic_fair_share(
        [
            Member("root", usage=100.0),
            Member("a", parent="root", shares=None, usage=0.0),
            Member("a", "u1", shares=None),
        ],
        dampening=3,
    )
    assert found[2].effective_usage == 0.0
    assert f"{found[2].fair_share:.6f}" == "0.793701"  # as sshare and sprio 26.05 have it
