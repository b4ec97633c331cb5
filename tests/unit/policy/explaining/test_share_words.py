"""Who used how much of their share, and which pair of siblings decides between two users."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.policy.explaining.share_words import ShareWords, times
from slurm_gpu_policy.policy.fair_share_classic import classic_fair_share
from slurm_gpu_policy.policy.fair_tree import Member, fair_tree

TREE = (
    Member("root", usage=100.0),
    Member("nlp", parent="root", shares=50, usage=80.0),
    Member("nlp", "u1", usage=60.0),
    Member("nlp", "u2", usage=20.0),
    Member("vision", parent="root", shares=50, usage=20.0),
    Member("seg", parent="vision", shares=1, usage=20.0),
    Member("seg", "u3", usage=20.0),
    Member("new", parent="root", shares=0),
    Member("new", "u4"),
)


@pytest.fixture
def words():
    return ShareWords(fair_tree(TREE))


def test_the_accounts_come_first_and_then_the_user(words):
    said = words.of(("nlp", "u1", ""))
    assert said == "account nlp used 1.6 x its share, user u1 used 1.5 x its share"


def test_who_shares_with_nobody_decides_nothing(words):
    assert words.of(("seg", "u3", "")) == "account vision used 0.40 x its share"


def test_below_who_used_nothing_nobody_is_named():
    tree = (
        Member("root", usage=1.0),
        Member("a", parent="root"),
        Member("a", "u1"),
        Member("a", "u2"),
        Member("b", parent="root", usage=1.0),
        Member("b", "u3", usage=1.0),
    )
    said = ShareWords(fair_tree(tree)).of(("a", "u1", ""))
    assert said == "account a used nothing of its share"


def test_an_account_without_shares_has_none(words):
    assert words.of(("new", "u4", "")) == "account new has no share"


def test_who_is_below_an_account_without_shares_has_none_either():
    """The classic algorithm's shares are parts of the whole: nothing of nothing is nothing."""
    tree = (
        Member("root", usage=10.0),
        Member("new", parent="root", shares=0, usage=10.0),
        Member("new", "u4", usage=10.0),
    )
    words = ShareWords(classic_fair_share(tree))
    assert words.of(("new", "u4", "")) == "account new has no share, user u4 has no share"


def test_between_two_accounts_the_siblings_below_their_common_ancestor_decide(words):
    said = words.against(("nlp", "u2", ""), ("seg", "u3", ""))
    assert said == "account vision used 0.40 x its share, account nlp used 1.6 x its share"


def test_between_users_of_one_account_they_decide_themselves(words):
    said = words.against(("nlp", "u1", ""), ("nlp", "u2", ""))
    assert said == "user u2 used 0.50 x its share, user u1 used 1.5 x its share"


def test_one_association_has_no_rival_in_itself(words):
    assert words.against(("nlp", "u1", ""), ("nlp", "u1", "gpu")) == ""


def test_who_is_not_in_the_tree_has_no_words(words):
    assert words.of(("gone", "u9", "")) == ""


def test_under_an_account_with_its_parents_shares_the_children_are_the_siblings():
    tree = (
        Member("root", usage=100.0),
        Member("group", parent="root", shares=None, usage=60.0),
        Member("group", "u1", usage=60.0),
        Member("other", parent="root", usage=40.0),
        Member("other", "u2", usage=40.0),
    )
    said = ShareWords(fair_tree(tree)).against(("group", "u1", ""), ("other", "u2", ""))
    assert said == "account other used 0.80 x its share, user u1 used 1.2 x its share"


def test_ratios_have_two_digits_or_all_before_the_point():
    assert [times(one) for one in (0.312, 2.44, 12.6, 1234.5)] == ["0.31", "2.4", "13", "1234"]
