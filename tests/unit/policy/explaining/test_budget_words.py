"""What a job's owner reads where its budget keeps it waiting."""

from __future__ import annotations

from dataclasses import replace

from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.policy.explaining.budget_words import (
    budget_facts,
    moved_words,
    waits_for_money,
)
from slurm_gpu_policy.policy.explaining.waiting import reason_words
from tests.builders import NOW, make_job, make_policy

HOUR = 3600
WAITS = replace(
    make_job(7, gpus=2, time_limit_seconds=2 * HOUR),
    state=JobState.PENDING, reason="JobHeldAdmin", priority=0,
    admin_comment="gpu-policy(money=held)",
)  # fmt: skip
POLICY = make_policy(
    currency="EUR",
    gpu_types={"h100": {"price_per_hour": "2"}},
    budgets={"nlp": {"amount": "10"}},
    submission={"over_budget_qos": "idle"},
)


def facts(left, job=WAITS):
    return list(budget_facts(job, left, {"nlp": "root"}, POLICY, NOW))


def test_the_queue_says_that_its_budget_holds_it_whoever_holds_it_for_slurm():
    for reason, mark in (("JobHeldAdmin", "held"), ("JobHeldUser", "hold")):
        job = replace(WAITS, reason=reason, admin_comment=f"gpu-policy(money={mark})")
        assert "its budget does not cover it" in reason_words(job).text
        assert "(rule B-006)" in reason_words(job).text
    assert "an operator" in reason_words(replace(WAITS, admin_comment="")).text


def test_what_is_left_what_it_needs_and_what_would_pass():
    assert facts({("nlp", ""): ("money", 3_000_000)}) == [
        "the budget of account nlp has 3.00 EUR left, and it may cost 8.00 EUR",
        "a time limit of 00:45:00 would pass",
    ]


def test_of_several_budgets_each_that_is_too_small_is_named_and_the_tightest_counts():
    left = {("nlp", "u1"): ("gpu_seconds", HOUR), ("nlp", ""): ("money", 2_000_000)}
    of_user, *rest = facts(left)
    assert of_user.startswith("the budget of user u1 in account nlp has 1.00 GPU-hours left")
    assert rest == [
        "the budget of account nlp has 2.00 EUR left, and it may cost 8.00 EUR",
        "a time limit of 00:30:00 would pass",
    ]


def test_where_nothing_would_pass_nothing_is_promised():
    assert facts({("nlp", ""): ("money", -5)}) == [
        "the budget of account nlp has -0.000005 EUR left, and it may cost 8.00 EUR"
    ]
    assert facts({("nlp", ""): ("money", 8_000_000), ("lab", ""): ("money", 0)}) == []


def test_who_waits_for_money_is_told_by_slurms_reason_too():
    assert waits_for_money(WAITS)
    bare = replace(WAITS, admin_comment="")
    assert waits_for_money(replace(bare, reason="AssocGrpGRESMinutes"))
    assert not waits_for_money(bare)


def test_a_job_on_idle_gpus_knows_by_which_rule():
    job = replace(WAITS, qos="idle", priority=1000)
    assert "(rule L-207)" in moved_words(replace(job, admin_comment=""), POLICY)
    assert "(rule B-007)" in moved_words(
        replace(job, admin_comment="gpu-policy(money=qos)"), POLICY
    )
    assert moved_words(replace(job, qos="normal"), POLICY) == ""
