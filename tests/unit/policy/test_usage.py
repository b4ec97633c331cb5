from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from sys import float_info

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.policy.share_tree import Member
from slurm_gpu_policy.policy.usage import (
    Running,
    Usage,
    after_cycles,
    cycle_times,
    decay_over,
    decay_per_second,
    new_usage,
    next_reset,
)

DAY = 86400
MEMBERS = (
    Member("root", usage=1000.0),
    Member("a", parent="root", shares=None, usage=600.0),
    Member("a", "u", usage=600.0),
    Member("b", parent="root", usage=400.0),
    Member("b", "v", usage=400.0),
    Member("b", "v", "gpu", usage=0.0),
)


def usages(members) -> list[float]:
    return [member.usage for member in members]


def test_decay_is_slurms_three_digits_and_not_a_half_life():
    assert decay_per_second(DAY) == 1 - 0.693 / 86400
    assert decay_over(DAY, DAY) == pytest.approx(0.500072, abs=1e-6)
    assert decay_over(60, 60) == pytest.approx(0.498061, abs=1e-6)
    assert decay_over(DAY, DAY) != 0.5


def test_without_a_half_life_nothing_decays():
    assert decay_per_second(0) == decay_over(0, 10**9) == 1.0


def test_the_first_cycle_and_a_clock_set_back_decay_nothing():
    assert decay_over(DAY, 0) == decay_over(DAY, -5) == 1.0


def test_decay_never_reaches_zero():
    assert decay_over(1, 10**6) == float_info.min


def test_usage_of_a_period_is_as_old_as_its_begin():
    found = new_usage(54, 25.953125, DAY, tres={"cpu": 4, "energy": 9, "gres/gpu": 2})
    worth = 54 * (1 - 0.693 / DAY) ** 54
    assert found.raw == worth * 25.953125
    assert found.wall_seconds == worth
    assert found.tres_seconds == {"cpu": 4 * worth, "gres/gpu": 2 * worth}


def test_a_qos_without_decay_counts_every_second():
    assert new_usage(54, 2.0, DAY, no_decay=True).raw == 108.0


def test_the_usage_factor_counts_for_usage_wall_and_tres():
    plain, double = (new_usage(60, 3.0, DAY, usage_factor=f, tres={"cpu": 1}) for f in (1.0, 2.0))
    assert double.raw == 2 * plain.raw
    assert double.wall_seconds == 2 * plain.wall_seconds
    assert double.tres_seconds["cpu"] == 2 * plain.tres_seconds["cpu"]
    assert new_usage(60, 3.0, DAY, usage_factor=0.0) == Usage()
    assert new_usage(60, 3.0, DAY, usage_factor=-1.0) == new_usage(60, 3.0, DAY)


def test_a_job_that_did_not_run_adds_nothing():
    assert new_usage(-5, 3.0, DAY) == Usage()


def test_usages_add_up_and_decay():
    both = Usage(1.0, 2.0, {"cpu": 3.0}) + Usage(4.0, 5.0, {"cpu": 6.0, "mem": 7.0})
    assert both == Usage(5.0, 7.0, {"cpu": 9.0, "mem": 7.0})
    assert both.decayed(0.5) == Usage(2.5, 3.5, {"cpu": 4.5, "mem": 3.5})


def test_a_running_job_is_charged_to_its_user_and_all_accounts_above():
    job = Running("a", "u", start_time=100, billing=2.0)
    found = after_cycles(MEMBERS, [job], 0, last_cycle=90, cycles=[120])
    assert usages(found) == [1040.0, 640.0, 640.0, 400.0, 400.0, 0.0]


def test_a_cycle_decays_what_was_and_then_adds_what_is_new():
    job = Running("b", "v", start_time=0, billing=1.0, partition="gpu")
    found = after_cycles(MEMBERS, [job], DAY, last_cycle=1000, cycles=[1060])
    fresh = 60 * decay_per_second(DAY) ** 60
    assert found[4].usage == 400.0 * decay_over(DAY, 60)
    assert found[5].usage == fresh
    assert found[0].usage == 1000.0 * decay_over(DAY, 60) + fresh


def test_a_job_that_ended_between_cycles_was_charged_before_the_decay():
    job = Running("a", "u", start_time=0, billing=1.0, end_time=1020)
    found = after_cycles(MEMBERS, [job], DAY, last_cycle=1000, cycles=[1060, 1120])
    at_end = 20 * decay_per_second(DAY) ** 20
    expected = (600.0 + at_end) * decay_over(DAY, 60) * decay_over(DAY, 60)
    assert found[2].usage == pytest.approx(expected, rel=1e-15)


def test_a_job_that_starts_later_is_charged_from_its_start():
    job = Running("a", "u", start_time=1070, billing=1.0)
    found = after_cycles(MEMBERS, [job], 0, last_cycle=1000, cycles=[1060, 1120])
    assert found[2].usage == 650.0


def test_the_first_cycle_ever_charges_all_that_ran_and_decays_nothing():
    job = Running("a", "u", start_time=1000, billing=1.0)
    found = after_cycles(MEMBERS, [job], DAY, last_cycle=0, cycles=[1060])
    assert found[4].usage == 400.0
    assert found[2].usage == 600.0 + new_usage(60, 1.0, DAY).raw


def test_a_running_job_without_an_association_is_named():
    with pytest.raises(ValueError, match="no association 'a/nobody'"):
        after_cycles(MEMBERS, [Running("a", "nobody", 0, 1.0)], 0, 1, [2])


def test_a_circle_of_accounts_is_named():
    members = (Member("a", parent="b"), Member("b", parent="a"), Member("a", "u"))
    with pytest.raises(ValueError, match="above itself"):
        after_cycles(members, [Running("a", "u", 0, 1.0)], 0, 1, [2])


def test_cycles_come_every_period():
    assert list(cycle_times(1000, 60, 1200)) == [1060, 1120, 1180]
    assert list(cycle_times(1000, 60, 1059)) == []


@given(st.integers(60, 10**7), st.lists(st.integers(1, 10**5), min_size=1, max_size=8))
def test_decay_in_steps_is_decay_at_once(half_life, steps):
    total = 1.0
    for step in steps:
        total *= decay_over(half_life, step)
    if total > 1e-200:
        assert total == pytest.approx(decay_over(half_life, sum(steps)), rel=1e-9)


@given(st.integers(60, 10**7), st.integers(0, 10**5), st.integers(1, 10**5))
def test_usage_grows_with_time_until_a_period_is_too_long(half_life, run, more):
    # A period of more than half life / 0.693 ages its usage faster than it adds any.
    if run + more < half_life / 0.7:
        assert new_usage(run + more, 1.0, half_life).raw > new_usage(run, 1.0, half_life).raw


@given(
    st.lists(st.tuples(st.sampled_from("uv"), st.integers(0, 500), st.integers(1, 600),
                       st.floats(0, 100)), max_size=6),
    st.integers(1, 6),
)  # fmt: skip
def test_an_account_keeps_what_its_members_have(work, count):
    jobs = [
        Running("a" if who == "u" else "b", who, start, bill, end_time=start + length)
        for who, start, length, bill in work
    ]
    found = after_cycles(MEMBERS, jobs, DAY, 1, cycle_times(1, 100, 100 * count + 1))
    whole, a, u, b, v, w = usages(found)
    assert a == pytest.approx(u)
    assert b == pytest.approx(v + w)
    assert whole == pytest.approx(a + b)


@pytest.mark.parametrize(
    ("period", "last", "now", "due"),
    [
        ("DAILY", "2026-03-04 05:06", "2026-03-04 06:00", "2026-03-05"),
        ("DAILY", "2026-03-04 05:06", "2026-03-09 01:00", "2026-03-09"),
        ("WEEKLY", "2026-03-04 05:06", "2026-03-04 06:00", "2026-03-08"),
        ("WEEKLY", "2026-03-08 05:06", "2026-03-08 06:00", "2026-03-15"),
        ("MONTHLY", "2026-01-31", "2026-02-01", "2026-02-01"),
        ("MONTHLY", "2026-12-31", "2026-12-31", "2027-01-01"),
        ("QUARTERLY", "2026-05-31", "2026-06-01", "2026-07-01"),
        ("QUARTERLY", "2026-10-02", "2026-11-01", "2027-01-01"),
        ("YEARLY", "2026-10-02", "2026-11-01", "2027-01-01"),
        ("NONE", "2026-10-02", "2026-11-01", None),
        ("NOW", "2026-10-02", "2026-11-01", None),
    ],
)
def test_usage_is_next_reset_when_slurm_resets_it(period, last, now, due):
    local = datetime.fromisoformat
    assert next_reset(period, local(last), local(now)) == (due and local(due))


def test_what_is_predicted_keeps_everything_else_of_a_member():
    found = after_cycles(MEMBERS, [], 0, 1, [2])
    assert found == tuple(replace(member) for member in MEMBERS)
