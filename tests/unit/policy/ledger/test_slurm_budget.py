"""GrpTRESMins that admit what the ledger would (rule B-008)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.model.account import Qos
from slurm_gpu_policy.model.cluster import ClusterConfig
from slurm_gpu_policy.model.ledger import Fund, FundView, LedgerState
from slurm_gpu_policy.model.limit_use import LimitUse
from slurm_gpu_policy.policy.ledger.slurm_budget import Room, limit, reset_is_near, rooms
from tests.builders import NOW, make_node, make_partition, make_policy, make_snapshot

HOUR = 3600
SETTINGS = {
    "PriorityType": "priority/multifactor",
    "PriorityDecayHalfLife": "00:00:00",
    "PriorityUsageResetPeriod": "YEARLY",
    "AccountingStorageEnforce": "associations,limits,qos,safe",
}


def world(settings=None, **fields):
    config = ClusterConfig("cluster", "22.05.8", {**SETTINGS, **(settings or {})})
    return make_snapshot(config=config, **fields)


def view(level=("nlp", ""), *, unit="gpu_seconds", committed=0, **fields):
    fields = {"available": 0, **fields}
    fund = Fund("b", *level, unit=unit, fund_id=abs(hash((level, fields.get("start")))), **fields)
    return FundView(fund, 0, 0, committed)


def of(*views, snapshot=None, **policy):
    return rooms(snapshot or world(), make_policy(**policy), LedgerState(NOW, views=views))


# --- room -----------------------------------------------------------------------------------


def test_room_is_what_is_available_may_be_overdrawn_and_is_set_aside_for_those_who_wait():
    found = of(view(available=HOUR, overdraft=600, committed=120))
    assert found.rooms == (Room(("nlp", ""), "gres/gpu", 72),)


def test_parts_of_a_minute_are_lost_and_nothing_is_negative():
    assert of(view(available=119)).rooms[0].minutes == 1
    assert of(view(available=-HOUR)).rooms[0].minutes == 0
    assert of(view(available=-HOUR, committed=60)).rooms[0].minutes == 1


def test_funds_of_another_time_unlimited_ones_and_the_clusters_are_no_limit():
    found = of(
        view(available=HOUR, start=NOW + 1),
        view(("lab", ""), available=HOUR, end=NOW),
        view(("free", ""), unlimited=True),
        view(("", ""), available=HOUR),
    )
    assert found.rooms == ()


def test_several_funds_of_one_level_are_one_room():
    found = of(view(available=HOUR, start=1), view(available=60, start=2))
    assert [room.minutes for room in found.rooms] == [61]


# --- where they are used --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"PriorityDecayHalfLife": "7-00:00:00"}, "decays"),
        ({"AccountingStorageEnforce": "associations,limits"}, "no safe"),
        ({"PriorityType": "priority/basic"}, "counts no usage"),
    ],
)
def test_where_slurm_could_not_hold_them_they_are_not_used_and_it_is_said(settings, words):
    found = of(view(available=HOUR), snapshot=world(settings))
    assert found.rooms == ()
    assert words in found.remarks[0]


def test_a_site_turns_them_off():
    found = of(view(available=HOUR), ledger={"slurm_limits": "off"})
    assert found.rooms == ()
    assert "slurm_limits is off" in found.remarks[0]


def test_a_qos_that_counts_less_than_is_used_forbids_them_unless_it_is_the_over_budget_one():
    half = world(qos=(Qos("normal"), Qos("idle", usage_factor=0.5)))
    assert "UsageFactor" in of(view(available=HOUR), snapshot=half).remarks[0]
    mine = of(view(available=HOUR), snapshot=half, submission={"over_budget_qos": "idle"})
    assert mine.rooms


def test_a_qos_with_such_a_limit_of_its_own_is_named():
    own = world(qos=(Qos("normal"), Qos("high", grp_tres_mins={"gres/gpu": 5})))
    found = of(view(available=HOUR), snapshot=own)
    assert found.rooms
    assert "jobs in QOS high are not bound" in found.remarks[0]


def test_nothing_is_said_where_there_is_no_budget():
    assert of(snapshot=world({"PriorityDecayHalfLife": "7-00:00:00"})).remarks == ()


# --- money ----------------------------------------------------------------------------------

PRICED = {"gpu_types": {"h100": {"price_per_hour": "2"}}}


def test_one_price_for_all_gpus_makes_money_gpu_minutes():
    found = of(view(unit="money", available=3_000_000), **PRICED)
    assert found.rooms == (Room(("nlp", ""), "gres/gpu", 90),)


@pytest.mark.parametrize(
    ("pricing", "words"),
    [
        ({"qos": {"high": "2"}}, "on the QOS"),
        ({"hours": [{"start": "20:00", "factor": "0.5"}]}, "on the hour"),
        ({"minimum_charge": "0.10"}, "minimum charge"),
        ({"memory_hour": "0.01"}, "memory has a price"),
        ({"changes": [{"since": "2027-01-16", "gpu_types": {"h100": "3"}}]}, "prices change"),
        ({"cpu_hour": "0.01"}, "not in the proportion"),
    ],
)
def test_prices_that_no_limit_says_exactly_are_named(pricing, words):
    found = of(view(unit="money", available=3_000_000), pricing=pricing, **PRICED)
    assert found.rooms == ()
    assert words in found.remarks[0]


def test_the_factor_of_the_over_budget_qos_does_not_matter():
    policy = {
        **PRICED,
        "pricing": {"qos": {"idle": "0"}},
        "submission": {"over_budget_qos": "idle"},
    }
    assert of(view(unit="money", available=3_000_000), **policy).rooms


def two_kinds(h100="40", a100="20", cpu="", flags=""):
    weights = {"GRES/gpu:h100": h100, "GRES/gpu:a100": a100} | ({"CPU": cpu} if cpu else {})
    return world(
        {"PriorityFlags": flags},
        nodes=(make_node("n1"), make_node("n2", gpu_type="a100")),
        partitions=(make_partition("gpu", "n1", "n2", billing_weights=weights),),
    )


TWO = {"gpu_types": {"h100": {"price_per_hour": "4"}, "a100": {"price_per_hour": "2"}}}


def test_weights_in_proportion_to_the_prices_make_money_billing_minutes():
    found = of(view(unit="money", available=4_000_000), snapshot=two_kinds(), **TWO)
    assert found.rooms == (Room(("nlp", ""), "billing", 40 * 60),)
    cpus = {**TWO, "pricing": {"cpu_hour": "0.1"}}
    assert of(view(unit="money", available=100_000), snapshot=two_kinds(cpu="1"), **cpus).rooms


@pytest.mark.parametrize(
    "snapshot",
    [two_kinds(a100="40"), two_kinds(cpu="1"), two_kinds(flags="MAX_TRES"),
     two_kinds(h100="0.4", a100="0.2")],
)  # fmt: skip
def test_weights_that_say_something_else_than_the_prices_are_not_used(snapshot):
    found = of(view(unit="money", available=4_000_000), snapshot=snapshot, **TWO)
    assert found.rooms == ()
    assert "are no limits in Slurm" in found.remarks[0]


# --- the limit ------------------------------------------------------------------------------


def admits(most, used, running, asked):
    """acct_policy.c, _validate_tres_usage_limits with safe limits; seconds cut to minutes."""
    used, running = used // 60, running // 60
    return not (used >= most or asked > most or asked + running > most - used)


@given(
    used=st.integers(0, 10**7),
    running=st.integers(0, 10**6),
    left=st.integers(0, 10**7),
    later=st.integers(0, 10**6),
)
def test_slurm_never_admits_more_than_is_left_and_loses_less_than_two_minutes(
    used, running, left, later
):
    now = LimitUse("nlp", used={"gres/gpu": used // 60}, running={"gres/gpu": running // 60})
    most = limit(Room(("nlp", ""), "gres/gpu", left // 60), now)
    assert not admits(most, used, running, left // 60 + 1)
    then = min(later, running)
    assert not admits(most, used + then, running - then, left // 60 + 1)
    surely = left // 60 - (1 if running >= 60 else 0)
    if surely > 0:
        assert admits(most, used, running, surely)


def test_a_level_at_rest_admits_a_job_that_takes_all_that_is_left():
    assert limit(Room(("nlp", ""), "gres/gpu", 60), LimitUse("nlp", used={"gres/gpu": 7})) == 67


def test_nothing_left_is_a_limit_that_admits_nothing():
    room = Room(("nlp", ""), "gres/gpu", 0)
    use = LimitUse("nlp", used={"gres/gpu": 7}, running={"gres/gpu": 3})
    assert not admits(limit(room, use), 7 * 60, 3 * 60, 1)
    assert limit(room, LimitUse("nlp")) == 0


def test_near_a_reset_the_limit_is_right_for_after_it():
    room = Room(("nlp", ""), "gres/gpu", 60)
    use = LimitUse("nlp", used={"gres/gpu": 500}, running={"gres/gpu": 11})
    assert limit(room, use, reset_is_near=True) == 70


@pytest.mark.parametrize(
    ("period", "date", "near"),
    [
        ("YEARLY", "2026-12-31T23:54", False),
        ("YEARLY", "2026-12-31T23:56", True),
        ("YEARLY", "2027-01-01T00:29", True),
        ("YEARLY", "2027-01-01T00:31", False),
        ("YEARLY", "2027-02-01T00:01", False),
        ("MONTHLY", "2027-02-01T00:01", True),
        ("QUARTERLY", "2027-02-01T00:01", False),
        ("QUARTERLY", "2027-04-01T00:01", True),
        ("WEEKLY", "2027-01-03T00:01", True),
        ("WEEKLY", "2027-01-04T00:01", False),
        ("DAILY", "2027-01-04T00:01", True),
        ("NOW", "2027-01-01T00:01", False),
    ],
)
def test_slurms_resets_are_foreseen_by_the_clock_of_its_zone(period, date, near):
    zone = "Europe/Berlin"
    now = int(datetime.fromisoformat(date).replace(tzinfo=ZoneInfo(zone)).timestamp())
    assert reset_is_near({"PriorityUsageResetPeriod": period}, now, zone) == near


def test_a_snapshot_without_configuration_is_no_reason_for_limits():
    found = of(view(available=HOUR), snapshot=replace(world(), config=None))
    assert found.rooms == ()
