"""Moving money where it would make some, or where it would take too long."""

from __future__ import annotations

import time

import pytest

from slurm_gpu_policy.errors import NotAllowed, RequestError
from tests.unit.services.treasuries import BOSS, MICRO, ROOT, U1, Site


@pytest.fixture
def site():
    return Site()


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ({"account": "nlp-finetune"}, {"account": "nlp"}),
        ({"account": "nlp-finetune", "user": "u1"}, {"account": "nlp-finetune"}),
        ({"account": "nlp-finetune", "user": "u1"}, {"account": "nlp"}),
        ({"account": "nlp-finetune", "user": "u1"}, {"account": "nlp-pretrain"}),
    ],
)
def test_a_coordinator_does_not_raise_what_operators_granted_an_account(site, source, target):
    """A job draws on all levels: what a lower one may spend is not there twice."""
    site.open("nlp")
    site.open("nlp-finetune")
    site.open("nlp-pretrain")
    site.open("nlp-finetune", "u1")
    before = [entry.entry_id for entry in site.entries()]
    ask = {"amount": "1", "unit": "money", "from": source, "to": target}
    with pytest.raises(NotAllowed, match="operators may"):
        site.write(BOSS, "transfer", **ask)
    assert [entry.entry_id for entry in site.entries()] == before
    assert site.write(ROOT, "transfer", **ask)["written"]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ({"account": "nlp"}, {"account": "nlp-finetune"}),
        ({"account": "nlp-finetune"}, {"account": "nlp-pretrain"}),
        ({"account": "nlp-finetune"}, {"account": "nlp-finetune", "user": "u1"}),
        ({"account": "nlp-finetune", "user": "u1"}, {"account": "nlp-finetune", "user": "u2"}),
    ],
)
def test_a_coordinator_moves_money_down_and_beside(site, source, target):
    site.open("nlp")
    site.open("nlp-finetune")
    site.open("nlp-pretrain")
    site.open("nlp-finetune", "u1")
    site.open("nlp-finetune", "u2")
    ask = {"amount": "1", "unit": "money", "from": source, "to": target}
    assert site.write(BOSS, "transfer", **ask)["written"]
    site.sound()


@pytest.mark.parametrize(
    "level", [{"account": "nlp-finetune"}, {"account": "nlp-finetune", "user": "u1"}]
)
def test_a_coordinator_grants_and_closes_below_an_account_that_has_a_limit_itself(site, level):
    site.open("nlp")
    site.open("nlp-finetune", level.get("user", ""))
    gift = {**level, "amount": "5", "unit": "money"}
    assert site.write(BOSS, "grant", **gift)["written"]
    assert site.write(BOSS, "grant", **{**gift, "amount": "-5"})["written"]
    with pytest.raises(NotAllowed):
        site.write(U1, "grant", **gift)
    assert site.write(BOSS, "close", **level)["written"]
    site.sound()


@pytest.mark.parametrize("level", [{"account": "nlp"}, {"account": "vision"}, {"account": "none"}])
def test_a_coordinator_grants_nothing_to_their_own_account_nor_to_others(site, level):
    site.open("nlp")
    site.open("vision")
    for name, more in (("grant", {"amount": "5", "unit": "money"}), ("close", {})):
        with pytest.raises(NotAllowed, match="operators may"):
            site.write(BOSS, name, **level, **more)
    assert len(site.entries()) == 2


def test_a_coordinator_does_not_insist_where_something_is_set_aside(site):
    site.open("nlp")
    fund = site.open("nlp-finetune")
    more = str(-(fund.available + 1))
    with pytest.raises(RequestError, match="available"):
        site.write(BOSS, "grant", account="nlp-finetune", amount=more, unit="money", force=True)


def test_a_long_table_is_imported_in_seconds(site):
    """Nobody else writes meanwhile."""
    rows = [
        [line, "nlp-finetune", "u1", "1", "money", f"grant-{line}", "", "2030-01-01", "because"]
        for line in range(2000)
    ]
    began = time.monotonic()
    assert len(site.write(ROOT, "import", rows=rows)["entries"]) == 2000
    assert time.monotonic() - began < 10
    assert site.fund(1).available == MICRO
