"""Prices that are right and yet hardly meant are found, others left in peace."""

from __future__ import annotations

from slurm_gpu_policy.policy.prices.price_checks import odd_prices
from tests.builders import NOW, make_policy

NIGHT = {"start": "20:00", "end": "08:00", "factor": 0.5}


def found(**pricing):
    policy = make_policy(pricing=pricing)
    return {".".join(map(str, odd.where)): odd.found for odd in odd_prices(policy, NOW)}


def test_without_prices_nothing_is_odd():
    assert not list(odd_prices(make_policy(), NOW))
    assert found(hours=[NIGHT], changes=[{"since": "2100-01-01", "cpu_hour": 1}]) == {}


def test_hours_that_others_before_have_are_found_where_they_stand():
    weekend = {"days": ["sat", "sun"], "factor": 0.2}
    assert found(hours=[weekend, NIGHT]) == {}
    assert found(hours=[{"factor": 1}, weekend]) == {"pricing.hours.1": "hours that never count"}
    late = {"days": ["mon"], "start": "22:00", "end": "02:00", "factor": 0.1}
    assert found(hours=[NIGHT, late]) == {"pricing.hours.1": "hours that never count"}
    evening = {"start": "19:59", "end": "20:01", "factor": 2}
    assert found(hours=[NIGHT, evening]) == {}
    over_the_week = {"days": ["sun"], "start": "23:00", "end": "01:00", "factor": 2}
    assert found(hours=[NIGHT, over_the_week]) == {"pricing.hours.1": "hours that never count"}


def test_hours_of_a_change_are_looked_at_as_well():
    change = {"since": "2100-01-01", "hours": [NIGHT, NIGHT]}
    assert found(hours=[NIGHT], changes=[change]) == {
        "pricing.changes.0.hours.1": "hours that never count"
    }


def test_a_price_change_in_the_past_is_named():
    changes = [{"since": "2020-01-01", "cpu_hour": 1}, {"since": "2100-01-01", "cpu_hour": 2}]
    assert found(changes=changes) == {
        "pricing.changes.0.since": "a price change in the past (2020-01-01T00:00)"
    }
