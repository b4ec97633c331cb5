"""When people are told that a budget runs out, who, and in which words (rule B-010)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.ledger import Claim, Fund, FundView, Leg
from slurm_gpu_policy.model.prices import Cost
from slurm_gpu_policy.policy.ledger.warnings import Audience, running_costs, warnings
from tests.builders import NOW, make_job, make_policy

EUR = 1_000_000
END = 1_801_440_000  # 2027-02-01 in UTC
NOBODY = Audience({}, {})
POLICY = make_policy(currency="EUR", rules={"B-010": "enforce"})


def view(spent=0, in_flight=0, committed=0, granted=100, **fields):
    """How a fund stands; amounts in EUR."""
    defaults = {"budget": "nlp", "account": "nlp", "fund_id": 1, "end": END}
    fund = Fund(
        **{**defaults, **fields},
        available=(granted - spent - in_flight - committed) * EUR,
        reserved=(in_flight + committed) * EUR,
        spent=spent * EUR,
    )
    return FundView(fund, spent * EUR, in_flight * EUR, committed * EUR)


def told_of(one, told=0, running=0, audience=NOBODY, policy=POLICY):
    return warnings(
        [one],
        told={1: told} if told else {},
        running={1: running * EUR},
        audience=audience,
        policy=policy,
        now=NOW,
    )


def notice(*args, **fields):
    (warned,) = told_of(*args, **fields)
    return warned.notice


@pytest.mark.parametrize(
    ("spent", "percent"),
    [(0, None), (49, None), (50, 50), (79, 50), (80, 80), (99, 80), (100, 100), (250, 100)],
)
def test_the_highest_threshold_that_was_reached_is_told(spent, percent):
    assert [each.percent for each in told_of(view(spent))] == ([] if percent is None else [percent])


@pytest.mark.parametrize(("told", "is_told"), [(50, False), (80, False), (0, True)])
def test_each_threshold_is_told_once(told, is_told):
    assert bool([each for each in told_of(view(60), told) if each.notice]) is is_told


def test_what_running_jobs_have_cost_so_far_counts_and_what_is_set_aside_does_not():
    assert told_of(view(10, in_flight=90)) == ()
    (warned,) = told_of(view(10, in_flight=90), running=40)
    assert warned.percent == 50


@pytest.mark.parametrize(
    ("spent", "told", "kept"),
    [(99, 100, None), (96, 100, None), (94, 100, 80), (40, 100, 0), (46, 50, None), (44, 50, 0)],
)
def test_a_grant_lets_a_threshold_be_told_again_but_a_small_refund_does_not(spent, told, kept):
    found = told_of(view(spent), told)
    assert [each.percent for each in found] == ([] if kept is None else [kept])
    assert all(each.notice is None for each in found)


def test_after_a_grant_the_same_threshold_is_other_news():
    before, after = notice(view(80)), notice(view(160, granted=200))
    assert before.key != after.key
    assert notice(view(85)).key == before.key


@pytest.mark.parametrize("fund", [{"unlimited": True}, {"closed": True}, {"granted": 0}])
def test_a_fund_that_limits_nothing_is_not_told_of(fund):
    assert told_of(view(90, **fund)) == ()


def test_where_the_rule_is_only_observed_nobody_is_told():
    assert told_of(view(90), policy=make_policy(enforcement="observe")) == ()
    assert told_of(view(90), policy=make_policy(enforcement="advise"))


def test_a_site_chooses_the_thresholds():
    policy = make_policy(enforcement="enforce", ledger={"warn_at": [90, 10]})
    assert [each.percent for each in told_of(view(95), policy=policy)] == [90]
    assert [each.percent for each in told_of(view(85), policy=policy)] == [10]
    silent = make_policy(enforcement="enforce", ledger={"warn_at": []})
    assert told_of(view(95), policy=silent) == ()


@pytest.mark.parametrize(("spent", "severity"), [(50, "info"), (80, "warning"), (100, "critical")])
def test_the_more_is_spent_the_graver_it_is(spent, severity):
    assert notice(view(spent)).severity == severity


# --- whom ---------------------------------------------------------------------------------------

PEOPLE = Audience(
    coordinators={"nlp": frozenset({"c2", "c1"}), "science": frozenset({"boss"})},
    parents={"nlp": "science", "vision": "science", "science": "root"},
    jobs=(
        make_job(1, user="u1", account="nlp"),
        make_job(2, user="u2", account="vision", state=JobState.PENDING),
        make_job(3, user="u3", account="nlp", state=JobState.COMPLETED),
    ),
)


def test_a_users_own_budget_is_told_to_that_user():
    assert notice(view(100, user="u9"), audience=PEOPLE).to == ("u9",)


@pytest.mark.parametrize(
    ("account", "to"), [("nlp", ("c1", "c2")), ("vision", ("boss",)), ("other", ()), ("", ())]
)
def test_an_accounts_budget_is_told_to_who_coordinates_it_or_else_the_next_above(account, to):
    assert notice(view(50, account=account), audience=PEOPLE).to == to


@pytest.mark.parametrize(
    ("account", "to"), [("nlp", ("c1", "c2", "u1")), ("science", ("boss", "u1", "u2"))]
)
def test_once_it_is_spent_all_with_jobs_that_draw_on_it_are_told(account, to):
    assert notice(view(100, account=account), audience=PEOPLE).to == to


def test_a_ring_of_accounts_ends():
    ring = replace(PEOPLE, coordinators={}, parents={"a": "b", "b": "a"})
    assert notice(view(100, account="a"), audience=ring).to == ()


# --- words --------------------------------------------------------------------------------------


def test_the_words_add_up():
    found = notice(view(60, in_flight=35, committed=3), running=22)
    assert found.subject == "82 % of the budget nlp of account nlp are spent"
    assert found.text == (
        "Of the 100.00 EUR that the budget nlp of account nlp has until 2027-02-01, 82.00 EUR are "
        "spent: 82 %. 22.00 EUR of that are what jobs that still run have cost so far. Set aside "
        "are 13.00 EUR more for jobs that run, and 3.00 EUR for jobs that wait. 2.00 EUR are left."
        "\n\n`gpu-policy budget` shows how it stands, `gpu-policy budget statement` for what it "
        "was spent."
    )
    assert dict(found.values) == {
        "account": "nlp", "budget": "nlp", "member": "", "until": "2027-02-01", "percent": "82",
        "granted": "100.00 EUR", "spent": "82.00 EUR", "running": "13.00 EUR",
        "waiting": "3.00 EUR", "left": "2.00 EUR",
    }  # fmt: skip
    assert (found.rule, found.template, found.time) == ("B-010", "budget", NOW)


def test_what_is_exceeded_is_said():
    assert "It is 20.00 EUR short." in notice(view(120)).text


def test_gpu_hours_and_the_end_of_a_day_in_the_sites_zone_are_said():
    policy = make_policy(rules={"B-010": "enforce"}, pricing={"timezone": "Asia/Kolkata"})
    fund = Fund(
        budget="x", account="a", user="u1", unit="gpu_seconds", end=END, fund_id=1,
        available=1800, spent=5400,
    )  # fmt: skip
    text = notice(FundView(fund, 5400, 0, 0), policy=policy).text
    assert text.startswith(
        "Of the 2.00 GPU-hours that the budget x of u1 in account a has until 2027-02-01 05:30, "
        "1.50 GPU-hours are spent: 75 %. 0.50 GPU-hours are left."
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "Jobs that it does not cover are held until it does (rule B-006)."),
        ({"rules": {"B-006": "advise"}}, ""),
        ({"ledger": {"when_spent": "nothing"}}, ""),
        (
            {"ledger": {"when_spent": "qos"}, "submission": {"over_budget_qos": "idle"}},
            "Jobs that it does not cover go to the QOS idle (rule B-007).",
        ),
    ],
)
def test_what_follows_is_said_where_it_does(fields, words):
    policy = make_policy(enforcement="enforce", **fields)
    spent, nearly = notice(view(100), policy=policy).text, notice(view(80), policy=policy).text
    assert words in spent
    assert ("does not cover" in spent) is bool(words)
    assert "does not cover" not in nearly


# --- running jobs -------------------------------------------------------------------------------


def claim(accrued, *legs, state="running"):
    return Claim("nlp", "u1", state, JobId(1), 1, accrued=Cost(accrued, accrued * 10), legs=legs)


def test_a_running_job_has_cost_what_is_not_charged_yet_at_each_level():
    funds = [
        Fund("mine", "nlp", "u1", fund_id=1),
        Fund("last", "nlp", position=1, fund_id=2),
        Fund("first", "nlp", position=0, fund_id=3),
        Fund("hours", "science", unit="gpu_seconds", fund_id=4),
        Fund("old", "nlp", closed=True, fund_id=5),
    ]
    one = claim(
        100,
        Leg(1, reserved=500, charged=0),
        Leg(2, reserved=500),
        Leg(3, reserved=30),
        Leg(5, reserved=0, charged=20),
        Leg(4, reserved=9000, charged=100),
        Leg(77, reserved=1),
    )
    assert dict(running_costs([one], funds)) == {1: 100, 3: 30, 2: 50, 4: 900}


def test_only_running_jobs_have_a_cost_so_far():
    fund = Fund("b", "nlp", fund_id=1)
    for state in ("promised", "pending", "ended"):
        assert running_costs([claim(100, Leg(1, reserved=500), state=state)], [fund]) == {}


@given(
    accrued=st.integers(0, 10**12),
    charged=st.integers(0, 10**12),
    reserved=st.lists(st.integers(1, 10**12), min_size=1, max_size=4),
)
def test_the_shares_of_a_level_add_up_to_what_is_not_charged(accrued, charged, reserved):
    funds = [Fund("b", "nlp", position=n, fund_id=n) for n in range(len(reserved) + 1)]
    legs = [Leg(n, reserved=amount) for n, amount in enumerate(reserved)]
    costs = running_costs([claim(accrued, *legs, Leg(len(reserved), charged=charged))], funds)
    assert sum(costs.values()) == max(accrued - charged, 0)
    assert all(cost >= 0 for cost in costs.values())


@given(
    granted=st.integers(1, 10**15),
    parts=st.lists(st.integers(0, 10**15), min_size=3, max_size=3),
    told=st.sampled_from([0, 50, 80, 100]),
)
def test_whoever_was_told_is_told_more_only_when_more_is_spent(granted, parts, told):
    spent, in_flight, committed = parts
    fund = Fund(
        "b", "nlp", fund_id=1, end=END, spent=spent, reserved=in_flight + committed,
        available=granted - spent - in_flight - committed,
    )  # fmt: skip
    one = FundView(fund, spent, in_flight, committed)
    found = warnings([one], told={1: told}, running={}, audience=NOBODY, policy=POLICY, now=NOW)
    marks = [told, *(each.percent for each in found)]
    for each in found:
        assert (each.notice is not None) == (each.percent > told)
        if each.notice is not None:
            assert spent * 100 >= each.percent * granted
    again = warnings(
        [one], told={1: marks[-1]}, running={}, audience=NOBODY, policy=POLICY, now=NOW
    )
    assert again == (), "it is told a second time"
