"""What an interrupted action came to, by what Slurm has now."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.model.action import Action
from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.services.mending import found
from tests.builders import make_job

MARK = (("attempt", "1"), ("run", "1"))
MARKED = "gpu-policy(attempt=1;run=1)"
P, R, F, C = JobState.PENDING, JobState.RUNNING, JobState.FAILED, JobState.COMPLETING


def act(verb, **more):
    return Action(verb, JobId(1), "1", "X-100", "", "", "", **more)


@pytest.mark.parametrize(
    ("verb", "more", "job", "outcome"),
    [
        ("cancel", {}, {"state": F}, "done"),
        ("cancel", {}, {"state": R}, "failed"),
        ("hold", {}, {"state": P, "priority": 0}, "done"),
        ("hold", {}, {"state": P, "priority": 7}, "failed"),
        ("hold", {}, {"state": R}, "failed"),
        ("release", {}, {"state": P, "priority": 7}, "done"),
        ("release", {}, {"state": P, "priority": 0}, "failed"),
        ("release", {}, {"state": R, "priority": 7}, "done"),
        ("release", {}, {"state": F}, "failed"),
        ("requeue", {"mark": MARK}, {"state": F}, "failed"),
        ("requeue", {"mark": MARK}, {"state": F, "admin_comment": MARKED}, "done"),
        ("requeue", {"mark": MARK}, {"state": R, "admin_comment": MARKED}, "done"),
        ("requeue", {"mark": MARK}, {"state": P, "admin_comment": MARKED}, "done"),
        ("requeue", {"mark": MARK}, {"state": P}, "failed"),  # somebody else's
        ("requeue", {"mark": MARK}, {"state": C}, None),  # it is on its way
        ("requeue", {}, {"state": R}, "done"),
        ("modify", {"changes": (("qos", "low"),)}, {"state": P, "qos": "low"}, "done"),
        ("modify", {"changes": (("qos", "low"),)}, {"state": P, "qos": "high"}, "failed"),
        ("modify", {"changes": (("qos", "low"),)}, {"state": F, "qos": "low"}, "failed"),
        ("modify", {"mark": MARK}, {"state": R, "admin_comment": MARKED}, "done"),
        ("modify", {"mark": MARK}, {"state": R}, "failed"),
        ("modify", {"changes": (("begin_time", "1"),)}, {"state": P}, "unknown"),
        ("site_factor", {"site_factor": 5}, {"state": P}, "done"),
        ("site_factor", {"site_factor": 6}, {"state": P}, "failed"),
    ],
)
def test_slurm_knows_what_came_of_it(verb, more, job, outcome):
    assert found(act(verb, **more), make_job(**job), {JobId(1): 5}).outcome == outcome


@pytest.mark.parametrize(("verb", "outcome"), [("cancel", "done"), ("hold", "unknown")])
def test_a_job_that_slurm_has_forgotten_was_cancelled_at_least(verb, outcome):
    assert found(act(verb), None, {}).outcome == outcome
