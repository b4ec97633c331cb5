from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import permutations, product
from math import inf, isnan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.policy.fair_tree import _extended, fair_tree
from slurm_gpu_policy.policy.share_tree import Member


def account(name: str, parent: str = "root", shares: int | None = 1, usage: float = 0.0) -> Member:
    return Member(name, parent=parent, shares=shares, usage=usage)


def user(name: str, of: str, shares: int | None = 1, usage: float = 0.0, partition="") -> Member:
    return Member(of, name, partition, shares=shares, usage=usage)


def root(usage: float = 0.0) -> Member:
    return Member("root", usage=usage)


def factors(members) -> dict[str, float | None]:
    return {one.member.user or one.member.account: one.fair_share for one in fair_tree(members)}


# An independent slow oracle: the notes' recursion, in long doubles made of fractions.


def long_double(value: Fraction) -> Fraction:
    if not value:
        return value
    exponent = 0
    while value * Fraction(2) ** -exponent >= 2**64:
        exponent += 1
    while value * Fraction(2) ** -exponent < 2**63:
        exponent -= 1
    return round(value * Fraction(2) ** -exponent) * Fraction(2) ** exponent


def slurm_says(members: list[Member]) -> list[float | None]:  # noqa: C901
    accounts = {one.account: one for one in members if not one.user}

    def parent(one: Member) -> Member | None:
        return accounts.get(one.account if one.user else one.parent)

    def fsp(one: Member) -> Member:
        above = parent(one)
        while above.shares is None and parent(above):
            above = parent(above)
        return above

    def children(of: Member) -> list[Member]:
        return [one for one in members if parent(one) and fsp(one) is of]

    def level(one: Member) -> float | Fraction:
        if one.shares is None:
            return inf if one.user else 4294967294.0
        above = fsp(one)
        total = sum(each.shares or 0 for each in children(above))
        s = Fraction(one.shares / total) if total else Fraction(0)
        if s == 0:
            return 0.0
        if not above.usage or not one.usage:
            return inf
        return long_double(s / long_double(Fraction(one.usage) / Fraction(above.usage)))

    found: dict[int, float] = {}
    users = sum(1 for one in members if one.user)
    state = {"rank": users, "rnt": users}

    def visit(siblings: list[Member], account_tied: bool) -> None:
        ordered = sorted(siblings, key=lambda one: (-level(one), not one.user))
        previous: float | Fraction = 4294967294.0
        for i, one in enumerate(ordered):
            tied = True if i == 0 and account_tied else previous == level(one)
            if one.user:
                if not tied:
                    state["rank"] = state["rnt"]
                found[id(one)] = state["rank"] / users
                state["rnt"] -= 1
            else:
                visit(children(one), tied)
            previous = level(one)

    visit(
        children(next(one for one in members if not one.user and not one.parent)),
        account_tied=False,
    )
    return [found.get(id(one)) for one in members]


@st.composite
def trees(draw) -> list[Member]:
    """Small trees with many ties: nested accounts, parent shares, no shares, idle users."""
    shares = st.sampled_from([None, 0, 1, 1, 2, 3, 7, 10])
    usage = st.sampled_from([0.0, 0.0, 1.0, 2.0, 3.0, 7.0, 10.0, 1 / 3, 1e-9, 12345.678])
    names = ["root"]
    members: list[Member] = []
    for number in range(draw(st.integers(0, 6))):
        members.append(account(f"a{number}", draw(st.sampled_from(names)), draw(shares)))
        names.append(f"a{number}")
    users = [
        user(f"u{number}", draw(st.sampled_from(names)), draw(shares), draw(usage))
        for number in range(draw(st.integers(0, 8)))
    ]
    totals = dict.fromkeys(names, 0.0)
    for one in users:
        totals[one.account] += one.usage
    for one in reversed(members):
        totals[one.parent] += totals[one.account]
    found = [replace(one, usage=totals[one.account]) for one in members]
    return [root(totals["root"]), *draw(st.permutations([*found, *users]))]


def test_tied_accounts_are_visited_one_after_the_other_and_not_merged():
    others = [user(f"x{number}", "root", usage=1.0) for number in range(8)]
    members = [
        root(8.0),
        account("a", shares=0),
        account("b", shares=0),
        *others,
        user("bin", "a", shares=2),
        user("daemon", "a", shares=0),
        user("sync", "b", shares=2),
        user("sys", "b", shares=0),
    ]
    found = factors(members)
    assert round(found["bin"], 6) == 0.333333
    assert found["daemon"] == 0.25
    assert found["sync"] == 0.25  # by merging it would be .333333
    assert round(found["sys"], 6) == 0.083333


def test_the_order_given_decides_which_tied_account_is_first():
    members = [root(), account("a"), account("b"), user("one", "a"), user("two", "b")]
    assert factors(members) == {"root": None, "a": None, "b": None, "one": 1.0, "two": 1.0}
    later = [*members, user("three", "a", shares=0)]
    assert factors(later)["two"] == 2 / 3  # tied to three, the last of the first account
    assert factors([later[0], later[2], later[1], *later[3:]])["two"] == 1.0


def test_idle_users_rank_first_and_together():
    members = [root(5.0), user("busy", "root", usage=5.0), user("idle", "root"),
               user("too", "root")]  # fmt: skip
    assert factors(members) == {"root": None, "busy": 1 / 3, "idle": 1.0, "too": 1.0}


def test_users_without_shares_rank_last_even_when_idle():
    members = [root(5.0), user("busy", "root", usage=5.0), user("none", "root", shares=0)]
    assert factors(members) == {"root": None, "busy": 1.0, "none": 0.5}


def test_an_account_over_its_share_puts_all_its_users_behind():
    members = [
        root(100.0), account("over", usage=90.0), account("under", usage=10.0),
        user("idle", "over"), user("greedy", "over", usage=90.0),
        user("heavy", "under", usage=9.0), user("light", "under", usage=1.0),
    ]  # fmt: skip
    found = factors(members)
    order = sorted(("idle", "greedy", "heavy", "light"), key=lambda name: -found[name])
    assert order == ["light", "heavy", "idle", "greedy"]


def test_users_of_a_parent_account_divide_with_its_siblings():
    members = [
        root(10.0), account("dept", usage=10.0), account("group", "dept", None, 10.0),
        user("u1", "dept", 1, 0.0), user("u2", "group", 3, 10.0),
    ]  # fmt: skip
    found = {one.member.user or one.member.account: one for one in fair_tree(members)}
    assert found["u1"].norm_shares == 0.25
    assert found["u2"].norm_shares == 0.75
    assert found["u2"].effective_usage == 1.0
    assert found["group"].level_fs == 4294967294
    assert found["group"].norm_shares == 1.0  # its divider's
    assert found["group"].fair_share is None


def test_a_user_with_parent_shares_ranks_highest():
    members = [root(5.0), user("free", "root", None, 4.0), user("other", "root", 1, 1.0)]
    found = fair_tree(members)
    assert found[1].level_fs == inf
    assert found[1].fair_share == 1.0
    assert found[2].norm_shares == 1.0


def test_the_columns_are_those_of_sshare():
    members = [root(100.0), account("a", shares=3, usage=60.0), account("b", shares=1, usage=40.0),
               user("u", "a", usage=60.0)]  # fmt: skip
    top, a, b, u = fair_tree(members)
    assert (top.norm_shares, top.effective_usage, top.fair_share) == (0.0, 1.0, None)
    assert isnan(top.level_fs)
    assert (a.norm_shares, a.effective_usage, a.level_fs) == (0.75, 0.6, 1.25)
    assert (b.norm_shares, b.norm_usage, b.level_fs) == (0.25, 0.4, 0.625)
    assert (u.norm_usage, u.effective_usage, u.level_fs) == (0.6, 1.0, 1.0)


def test_every_association_of_a_user_counts_also_those_of_a_partition():
    members = [root(), account("a"), user("u", "a"), user("u", "a", usage=0.0, partition="gpu"),
               user("v", "a", shares=0)]  # fmt: skip
    assert [one.fair_share for one in fair_tree(members)][2:] == [1.0, 1.0, 1 / 3]


def test_levels_are_compared_as_long_doubles():
    # As doubles all three are 1.0; Slurm ranks them, for .1 and .3 are no doubles.
    members = [root(1000.0), user("a", "root", 100, 100.0), user("b", "root", 300, 300.0),
               user("c", "root", 600, 600.0)]  # fmt: skip
    assert {one.level_fs for one in fair_tree(members)[1:]} == {1.0}
    assert [one.fair_share for one in fair_tree(members)] == slurm_says(members)
    assert len({one.fair_share for one in fair_tree(members)[1:]}) > 1


@pytest.mark.parametrize(
    ("value", "bits", "exponent"),
    [
        (Fraction(1, 3), 0xAAAAAAAAAAAAAAAB, -65),
        (Fraction(2, 3), 0xAAAAAAAAAAAAAAAB, -64),
        (Fraction(1), 1, 0),
        (Fraction(2**64 + 1), 2**64, 0),  # halves to even
        (Fraction(2**64 + 3), 2**64 + 4, 0),
        (Fraction(10**27, 7), 0xEC565A76CDDB7F1E, 23),
    ],
)
def test_a_long_double_has_64_bits(value, bits, exponent):
    assert _extended(value) == bits * Fraction(2) ** exponent


def test_a_tree_deeper_than_pythons_stack():
    chain = [root(), *(account(f"a{n}", f"a{n - 1}" if n else "root") for n in range(3000))]
    assert factors([*chain, user("u", "a2999")])["u"] == 1.0


def test_a_tree_without_users_has_no_factors():
    assert [one.fair_share for one in fair_tree([root(), account("a")])] == [None, None]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([], "0 roots"),
        ([root(), Member("other")], "2 roots"),
        ([root(), user("u", "gone")], "above 'u' is not in the tree"),
        ([root(), account("a"), account("a")], "'a' stands twice"),
        ([root(), account("a", "b"), account("b", "a")], "is not below root"),
    ],
)
def test_what_is_no_tree_is_refused(members, words):
    with pytest.raises(ValueError, match=words):
        fair_tree(members)


def test_all_small_trees_rank_as_slurm_ranks_them():
    shares = (None, 0, 1)
    for first, second, *rest in product(shares, repeat=4):
        for usages in product((0.0, 1.0), repeat=3):
            members = [
                root(sum(usages)),
                account("a", shares=first, usage=usages[0] + usages[1]),
                account("b", shares=second, usage=usages[2]),
                user("u", "a", rest[0], usages[0]),
                user("v", "a", 1, usages[1]),
                user("w", "b", rest[1], usages[2]),
                user("x", "b"),
            ]
            for order in permutations(members[1:3]):
                given_order = [members[0], *order, *members[3:]]
                found = [one.fair_share for one in fair_tree(given_order)]
                assert found == slurm_says(given_order)


@given(trees())
def test_a_tree_ranks_as_slurm_ranks_it(members):
    assert [one.fair_share for one in fair_tree(members)] == slurm_says(members)


@given(trees())
def test_the_best_user_has_all_and_no_rank_is_used_twice_without_a_tie(members):
    users = [one for one in fair_tree(members) if one.member.user]
    ranks = sorted((round(one.fair_share * len(users)) for one in users), reverse=True)
    if users:
        assert ranks[0] == len(users)
        # A rank is that of the first of those who share it.
        assert all(rank >= len(users) - place for place, rank in enumerate(ranks))
        assert all(rank == ranks[place - 1] or rank == len(users) - place
                   for place, rank in enumerate(ranks) if place)  # fmt: skip


@given(trees())
def test_users_of_distinct_levels_in_one_account_are_a_permutation(members):
    members = [replace(one, usage=float(place + 1), shares=1) if one.user else one
               for place, one in enumerate(members) if one.user or not one.parent]  # fmt: skip
    members = [replace(one, account="root") if one.user else one for one in members]
    whole = sum(one.usage for one in members if one.user)
    members = [one if one.user else replace(one, usage=whole) for one in members]
    found = [one for one in fair_tree(members) if one.member.user]
    count = len(found)
    assert sorted(round(one.fair_share * count) for one in found) == list(range(1, count + 1))
    by_usage = sorted(found, key=lambda one: one.member.usage)
    assert [one.fair_share for one in by_usage] == sorted(
        (one.fair_share for one in found), reverse=True
    )


@given(trees(), st.sampled_from([0.5, 0.25, 2.0]))
def test_decay_changes_no_rank(members, factor):
    decayed = [replace(one, usage=one.usage * factor) for one in members]
    assert factors(decayed) == factors(members)


@given(trees())
def test_a_parent_account_takes_no_share_and_gives_its_users_its_siblings(members):
    found = fair_tree(members)
    below: dict[str, float] = {}
    for one in found:
        if one.member.shares is not None and (one.member.user or one.member.parent):
            name = one.member.account if one.member.user else one.member.parent
            accounts = {each.account: each for each in members if not each.user}
            while accounts[name].shares is None and accounts[name].parent:
                name = accounts[name].parent
            below[name] = below.get(name, 0.0) + one.norm_shares
    assert all(total == pytest.approx(1) or total == 0 for total in below.values())
