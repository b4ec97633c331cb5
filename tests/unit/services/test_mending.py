"""What an interrupted action came to, by what Slurm has now."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.model.action import Action, AuditEntry
from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.snapshot import Part
from slurm_gpu_policy.model.tag import CONTROLLER, read_tag
from slurm_gpu_policy.services.mending import found, mend
from tests.builders import NOW, make_job
from tests.fakes.clock import FakeClock
from tests.fakes.slurm import FakeSlurm
from tests.unit.services.controlled import submitted

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


def interrupted(slurm, job_id):
    """Return what mending makes of a requeue that was interrupted."""
    action = Action("requeue", job_id, str(job_id), "T-801", "", "", "", mark=MARK)
    entry = AuditEntry(1, NOW, "gpu-policyd@test", action, "enforce")
    snapshot = slurm.read(Part.JOBS, Part.ENDED, Part.PRIORITIES)
    return mend(slurm, [entry], snapshot, lambda: True)[1]


@pytest.fixture
def requeued():
    slurm = FakeSlurm(clock=FakeClock(), user="root")
    job_id = submitted(slurm, "fail")
    slurm.finish(job_id, exit_code=1)
    slurm.steer_many("requeue_held", [str(job_id)])
    return slurm, job_id


def test_a_requeue_that_left_its_job_held_is_brought_to_its_end(requeued):
    slurm, job_id = requeued
    assert interrupted(slurm, job_id).outcome == "done"
    (job,) = slurm.jobs([str(job_id)])
    assert job.reason != "JobHeldAdmin"
    assert read_tag(job.admin_comment, CONTROLLER)["attempt"] == "1"
    assert job.priority or not job.state.is_pending


def test_a_hold_that_somebody_has_put_on_since_is_left_alone(requeued):
    slurm, job_id = requeued
    slurm.hold(str(job_id))
    interrupted(slurm, job_id)
    (job,) = slurm.jobs([str(job_id)])
    assert (job.priority, job.reason) == (0, "JobHeldAdmin")
