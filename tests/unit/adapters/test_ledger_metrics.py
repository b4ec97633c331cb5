"""The books among the metrics."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from slurm_gpu_policy.adapters.ledger_metrics import LedgerMetrics
from slurm_gpu_policy.model.ledger import Fund, FundView, LedgerState
from slurm_gpu_policy.model.tick import LedgerReport, TickReport

NOW = 1_800_000_000
CLUSTER = FundView(Fund("", "", unlimited=True, spent=99, fund_id=1), 99, 0, 0)
NLP = Fund("nlp", "nlp", available=50, reserved=30, spent=20, fund_id=2)
USER = Fund("each", "nlp", "u1", unit="gpu_seconds", available=-5, spent=15, fund_id=3)
STATE = LedgerState(
    NOW,
    views=(CLUSTER, FundView(NLP, 20, 10, 20), FundView(USER, 15, 0, 0)),
    uncovered={7: "no money"},
)
TICK = TickReport(NOW, 1.0, leading=True, ledger=LedgerReport(STATE, 12, NOW - 40))


@pytest.fixture
def metrics():
    return LedgerMetrics()


def samples(metrics):
    registry = CollectorRegistry()
    registry.register(metrics)
    text = generate_latest(registry).decode()
    return {
        (
            sample.name.removeprefix("slurm_gpu_policy_"),
            *dict(sorted(sample.labels.items())).values(),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_nothing_is_shown_before_the_books_were_kept(metrics):
    assert samples(metrics) == {}
    metrics.ticked(TickReport(NOW, 1.0, leading=True))
    assert samples(metrics) == {}


def test_each_budget_is_shown_in_the_unit_it_has(metrics):
    metrics.ticked(TICK)
    found = samples(metrics)
    nlp, user = ("nlp", "nlp", "micros", ""), ("nlp", "each", "gpu_seconds", "u1")
    assert {key[0]: value for key, value in found.items() if key[1:] == nlp} == {
        "budget_granted": 100, "budget_settled": 20, "budget_in_flight": 10,
        "budget_committed": 20, "budget_available": 50,
    }  # fmt: skip
    assert found["budget_available", *user] == -5
    assert not any(key[1:2] == ("",) for key in found)


def test_how_far_the_books_are_is_shown(metrics):
    metrics.ticked(TICK)
    found = samples(metrics)
    assert found["ledger_entries_total",] == 12
    assert found["ledger_last_success_timestamp_seconds",] == NOW
    assert found["ledger_accounting_lag_seconds",] == 40
    assert found["budget_uncovered_jobs",] == 1
    assert found["budget_series_dropped",] == 0


def test_a_lag_that_nobody_knows_is_no_number(metrics):
    metrics.ticked(replace(TICK, ledger=LedgerReport(STATE)))
    assert math.isnan(samples(metrics)["ledger_accounting_lag_seconds",])


def test_books_that_could_not_be_kept_stay_as_they_were_last(metrics):
    metrics.ticked(TICK)
    metrics.ticked(TickReport(NOW + 60, 1.0, leading=True, errors=("RecordsUnavailable",)))
    assert samples(metrics)["ledger_last_success_timestamp_seconds",] == NOW


def test_who_stands_by_shows_nothing(metrics):
    metrics.ticked(TICK)
    metrics.ticked(TickReport(NOW + 60, 0.0, leading=False))
    assert samples(metrics) == {}


def test_two_periods_of_a_budget_are_one_series(metrics):
    late = FundView(replace(NLP, fund_id=4, start=9, available=1, spent=0, reserved=0), 0, 0, 0)
    state = replace(STATE, views=(*STATE.views, late))
    metrics.ticked(replace(TICK, ledger=LedgerReport(state, 12, NOW)))
    assert samples(metrics)["budget_available", "nlp", "nlp", "micros", ""] == 51


def test_of_very_many_budgets_some_are_counted_only(metrics):
    funds = [FundView(replace(NLP, user=f"u{n}", fund_id=n + 9), 0, 0, 0) for n in range(2100)]
    metrics.ticked(replace(TICK, ledger=LedgerReport(replace(STATE, views=tuple(funds)), 1, NOW)))
    found = samples(metrics)
    assert found["budget_series_dropped",] == 100
    assert sum(key[0] == "budget_granted" for key in found) == 2000
