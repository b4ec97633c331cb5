"""What a budget means for a request: reasons, and what would pass."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slurm_gpu_policy.model.decision import Decision, Reason
from slurm_gpu_policy.model.prices import Use
from slurm_gpu_policy.model.promise import Promise, Purse
from slurm_gpu_policy.policy.ledger.affording import (
    amount_words,
    judged,
    remedies,
    unasked,
)
from slurm_gpu_policy.policy.prices.pricing import price_book
from slurm_gpu_policy.units import MICRO
from tests.builders import make_policy

HOUR = 3600
NOW = 1_800_000_000  # Friday 08:00 UTC
ENFORCED = {"gpu_types": {"h100": {"price_per_hour": "1"}}, "enforcement": "enforce"}
JOB = Decision(
    "admit",
    (Reason("R-301", "because"),),
    gpus=8,
    gpu_type="h100",
    time_seconds=10 * HOUR,
    use=Use(gpus={"h100": 8}, partition="gpu"),
)


def short(left, needed=80 * MICRO, unit="money"):
    purse = Purse("nlp", "", ("nlp",), unit, left, needed, 100 * MICRO)
    return Promise("t1", (purse,), covered=False)


def passing(promise, policy=None, job=JOB, others=()):
    book = price_book(policy or make_policy(**ENFORCED))
    return remedies(job, promise, book, NOW, lambda: iter(others))


@pytest.mark.parametrize(
    ("amount", "unit", "words"),
    [
        (12_500_000, "money", "12.50 EUR"),
        (-1, "money", "-0.000001 EUR"),
        (5400, "gpu_seconds", "1.50 GPU-hours"),
        (3599, "gpu_seconds", "0.99 GPU-hours"),
        (-3600, "gpu_seconds", "-1.00 GPU-hours"),
    ],
)
def test_amounts_read_in_their_unit(amount, unit, words):
    assert amount_words(amount, unit, "EUR") == words


def test_a_job_beyond_the_budget_is_refused_with_what_is_left_and_needed():
    decision = judged(JOB, short(30 * MICRO), "less", make_policy(**ENFORCED))
    assert decision.kind == "refuse"
    (reason,) = decision.reasons
    assert reason.rule == "B-001"
    assert (reason.value, reason.limit, reason.remedy) == (
        "80.00 credits",
        "30.00 credits",
        "less",
    )
    assert "account nlp has 30.00 credits left" in reason.message


@pytest.mark.parametrize("level", ["observe", "advise"])
def test_where_the_rule_is_not_enforced_it_is_said_and_nothing_more(level):
    policy = make_policy(**ENFORCED, rules={"B-001": level})
    decision = judged(JOB, short(30 * MICRO), None, policy)
    assert decision.kind == "admit"
    assert [one.rule for one in decision.reasons] == ["B-001", "R-301"]


def test_a_covered_job_hears_what_is_left_where_that_is_least():
    roomy = Purse("nlp", "", ("nlp",), "money", 90 * MICRO, 10 * MICRO, 100 * MICRO)
    tight = Purse("nlp", "u1", ("mine",), "money", 5 * MICRO, 10 * MICRO, 20 * MICRO)
    decision = judged(JOB, Promise("t1", (tight, roomy)), None, make_policy(**ENFORCED))
    assert decision.kind == "admit"
    last = decision.reasons[-1]
    assert last.rule == "B-003"
    assert last.message == "the budget of u1 in account nlp has 5.00 credits left after this job"


def test_beyond_a_soft_limit_the_job_goes_with_a_warning():
    purse = Purse("nlp", "", ("nlp",), "money", 5 * MICRO, MICRO, 100 * MICRO, soft_exceeded=True)
    decision = judged(JOB, Promise("t1", (purse,)), None, make_policy(**ENFORCED))
    assert decision.kind == "admit"
    assert decision.reasons[0].rule == "B-002"
    assert "5.00 credits left of 100.00 credits" in decision.reasons[0].message


@pytest.mark.parametrize(
    ("unreachable", "level", "kind"),
    [
        ("open", "enforce", "admit"),
        ("closed", "enforce", "refuse"),
        ("closed", "advise", "admit"),
    ],
)
def test_books_that_cannot_be_asked_stop_only_whom_the_site_says(unreachable, level, kind):
    policy = make_policy(ledger={"unreachable": unreachable}, rules={"B-001": level})
    decision = unasked(JOB, "it is away", policy)
    assert decision.kind == kind
    assert "cannot be found out: it is away" in decision.reasons[0].message


def test_less_time_or_fewer_gpus_would_pass():
    words = passing(short(30 * MICRO))
    assert "--time=03:45:00 at most" in words
    assert "2 GPUs" in words


def test_time_is_cut_to_whole_minutes_because_slurm_rounds_up():
    assert "--time=00:07:00 at most" in passing(short(MICRO))


def test_where_nothing_is_left_nothing_would_pass():
    assert passing(short(0)) is None
    assert passing(short(-5 * MICRO)) is None


def test_gpu_hours_too_say_how_much_would_pass():
    words = passing(short(16 * HOUR, needed=80 * HOUR, unit="gpu_seconds"))
    assert "--time=02:00:00 at most" in words
    assert "1 GPU" in words


def test_a_cheaper_type_that_fits_is_named_and_one_that_does_not_is_not():
    policy = make_policy(
        gpu_types={"h100": {"price_per_hour": "1"}, "l4": {"price_per_hour": "0.1"},
                   "a100": {"price_per_hour": "0.9"}},
    )  # fmt: skip
    others = [
        replace(JOB, gpu_type=name, use=Use(gpus={name: 8}, partition="gpu"))
        for name in ("a100", "l4")
    ]
    words = passing(short(30 * MICRO), policy, others=others)
    assert "--gpu-type l4" in words
    assert "a100" not in words


def test_a_start_at_a_cheaper_hour_is_named_where_it_would_pass():
    night = {"hours": [{"start": "20:00", "end": "08:00", "factor": "0.25"}]}
    policy = make_policy(**ENFORCED, pricing=night)
    words = passing(short(30 * MICRO), policy)
    assert "--begin=now+720minutes" in words
    assert "--begin" not in passing(short(10 * MICRO), policy)
