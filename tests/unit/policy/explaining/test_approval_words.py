"""How the approval of a held job stands."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.policy.explaining.approval_words import approval_of
from tests.builders import NOW, make_job, make_policy, make_snapshot

POLICY = make_policy(
    approvals={
        "thresholds": [{"gpus": 4}],
        "approvers": {"users": ["boss", "chief"]},
        "needed": 2,
        "expires": "2d",
    }
)


def held(**fields):
    return make_job(state=JobState.PENDING, priority=0, gpus=8, **fields)


def test_a_job_that_waits_for_approvals_says_how_many_of_whom_and_until_when():
    found = approval_of(held(comment="gpu-submit(approval=asked)"), make_snapshot(), POLICY)
    assert (found.state, found.rule, found.needed) == ("pending", "V-901", 2)
    assert found.approvers == "boss, chief"
    assert found.asks_for == "8 GPUs for 01:00:00"
    assert found.expires == NOW + 2 * 86400


@pytest.mark.parametrize(("state", "rule"), [("denied", "V-904"), ("expired", "V-905")])
def test_the_controllers_word_goes_before_the_users(state, rule):
    job = held(comment="gpu-submit(approval=asked)", admin_comment=f"gpu-policy(approval={state})")
    found = approval_of(job, make_snapshot(), POLICY)
    assert (found.state, found.rule) == (state, rule)


def test_one_that_nobody_holds_or_nobody_asked_for_waits_for_none():
    asked = "gpu-submit(approval=asked)"
    free = make_job(state=JobState.PENDING, comment=asked)
    assert approval_of(free, make_snapshot(), POLICY) is None
    assert approval_of(held(), make_snapshot(), POLICY) is None
    done = held(admin_comment="gpu-policy(approval=approved)")
    assert approval_of(done, make_snapshot(), POLICY) is None
