"""What a snapshot becomes after some calculations."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.policy.usage import Running
from slurm_gpu_policy.services import standing
from slurm_gpu_policy.services.forecast import forecast
from tests.builders import NOW
from tests.unit.services.test_standing import pending, world

SETTINGS = {"PriorityDecayHalfLife": "01:00:00", "PriorityCalcPeriod": "00:01:00"}
FACTOR = (1 - 0.693 / 3600) ** 60


def usage_of(snapshot, account, user):
    return next(
        one.usage
        for one in snapshot.associations
        if (one.account, one.user, one.partition) == (account, user, "")
    )


def test_usage_decays_once_a_calculation_and_jobs_grow_older():
    snapshot = world(pending(), settings=SETTINGS, calculated_at=NOW)
    later = forecast(snapshot, NOW + 180)
    assert usage_of(later, "nlp", "u1") == pytest.approx(30 * FACTOR**3)
    assert standing.priorities(later)[0].terms.age == pytest.approx(1000 * 480 / 600)


def test_the_last_calculation_is_where_it_is_said_to_be():
    snapshot = world(settings=SETTINGS, calculated_at=NOW)
    late, early = forecast(snapshot, NOW + 122), forecast(snapshot, NOW + 119)
    a_second = 1 - 0.693 / 3600
    assert usage_of(late, "nlp", "u1") == pytest.approx(30 * a_second**122)
    assert usage_of(early, "nlp", "u1") == pytest.approx(30 * a_second**119)


def test_what_runs_meanwhile_counts_for_the_user_and_all_above():
    snapshot = world(settings=SETTINGS, calculated_at=NOW)
    run = Running(account="nlp", user="u2", start_time=NOW + 10, end_time=NOW + 40, billing=4.0)
    later = forecast(snapshot, NOW + 60, [run])
    used = 30 * (1 - 0.693 / 3600) ** 30 * 4.0
    assert usage_of(later, "nlp", "u2") == pytest.approx(used * FACTOR)
    assert usage_of(later, "nlp", "") == pytest.approx((30 + used) * FACTOR)
    assert usage_of(later, "root", "") == pytest.approx(used * FACTOR)


def test_jobs_that_become_eligible_until_then_have_a_priority_then():
    snapshot = world(pending(eligible_time=NOW + 100), settings=SETTINGS, calculated_at=NOW)
    assert standing.priorities(snapshot) == ()
    assert len(standing.priorities(forecast(snapshot, NOW + 120))) == 1
