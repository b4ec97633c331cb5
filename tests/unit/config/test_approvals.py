"""The parts `retries` and `approvals` of the policy file."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.errors import PolicyFileError
from tests.builders import make_policy


def test_a_fresh_policy_retries_nothing_by_itself_and_asks_for_no_approval():
    policy = make_policy()
    assert (policy.retries.default, policy.approvals.thresholds) == (0, ())
    assert policy.operators == ()


def test_units_are_read():
    policy = make_policy(
        approvals={
            "thresholds": [{"time": "2d", "cost": "1.50"}],
            "approvers": {"coordinators": True},
            "expires": "7d",
        },
        retries={"first_delay": "5m"},
    )
    assert policy.approvals.thresholds[0].time == 172_800
    assert policy.approvals.thresholds[0].cost == 1_500_000
    assert (policy.approvals.expires, policy.retries.first_delay) == (604_800, 300)


def test_approvals_that_nobody_could_give_are_a_mistake():
    threshold = {"thresholds": [{"gpus": 1}]}
    for part in ({}, {"approvers": {"users": ["ann"]}, "needed": 2}):
        with pytest.raises(PolicyFileError, match="at least"):
            make_policy(approvals={**threshold, **part})
    several = {"thresholds": [{"gpus": 1, "needed": 2}], "approvers": {"users": ["ann"]}}
    with pytest.raises(PolicyFileError, match="at least 2"):
        make_policy(approvals=several)
    assert make_policy(approvals={**several, "approvers": {"groups": ["board"]}})


@pytest.mark.parametrize(
    ("field", "value", "place"),
    [
        ("approvals", {"thresholds": [{}]}, "approvals.thresholds.0"),
        ("approvals", {"thresholds": [{"needed": "2"}]}, "approvals.thresholds.0"),
        ("approvals", {"thresholds": [{"gpu": "2"}]}, "approvals.thresholds.0.gpu"),
        ("approvals", {"needed": "0"}, "approvals.needed"),
        ("approvals", {"expires": "1s"}, "approvals.expires"),
        (
            "approvals",
            {"thresholds": [{"workloads": ["dreaming"]}], "approvers": {"groups": ["g"]}},
            "workloads.0",
        ),
        ("retries", {"ends": ["cancelled"]}, "retries.ends.0"),
        ("retries", {"factor": "0"}, "retries.factor"),
        ("retries", {"first_delay": "soon"}, "retries.first_delay"),
    ],
)
def test_what_is_wrong_is_named(field, value, place):
    with pytest.raises(PolicyFileError) as caught:
        make_policy(**{field: value})
    (problem,) = caught.value.problems
    assert place in problem
