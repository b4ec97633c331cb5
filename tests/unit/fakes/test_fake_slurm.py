"""What only the fake can do: fail when a test wants it to. The contract suite has the rest."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.errors import SlurmRefused, SlurmTimeout, SlurmUnavailable
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.snapshot import Part
from slurm_gpu_policy.model.submission import Submission
from tests.fakes.slurm import FakeSlurm


def job(*options, token="t1"):
    return Submission(script="", options=(("comment", f"(token={token})"), *options), token=token)


def test_the_controller_is_away_for_as_many_calls_as_told():
    slurm = FakeSlurm()
    slurm.unavailable(times=2)
    for _ in range(2):
        with pytest.raises(SlurmUnavailable):
            slurm.submit(job())
    assert slurm.submit(job()) == 1
    assert len(slurm.submissions) == 1


def test_a_submission_may_take_effect_without_an_answer():
    slurm = FakeSlurm()
    slurm.time_out_after_queueing()
    with pytest.raises(SlurmTimeout):
        slurm.submit(job(token="lost"))
    assert slurm.find("lost") == (1,)


def test_a_submission_may_be_lost_on_its_way():
    slurm = FakeSlurm()
    slurm.time_out_before_queueing()
    with pytest.raises(SlurmTimeout):
        slurm.submit(job(token="lost"))
    assert slurm.find("lost") == ()


def test_a_refusal_has_the_words_given():
    slurm = FakeSlurm()
    slurm.refuse("QOSMaxGRESPerUser")
    with pytest.raises(SlurmRefused, match="QOSMaxGRESPerUser"):
        slurm.submit(job())
    assert slurm.submit(job()) == 1


def test_jobs_wait_for_free_gpus_and_the_higher_priority_goes_first():
    slurm = FakeSlurm(user="root")
    slurm.user = "u1"
    first = slurm.submit(job(("gres", "gpu:8"), ("nodes", "2")))
    low, high = (slurm.submit(job(("gres", "gpu:8"), ("nodes", "2"))) for _ in range(2))
    slurm.user = "root"
    slurm.set_site_factors({high: 500})
    slurm.finish(first)
    states = {one.job_id: one.state for one in slurm.read(Part.JOBS).jobs}
    assert states == {high: JobState.RUNNING, low: JobState.PENDING}


def test_two_jobs_never_hold_the_same_gpu():
    slurm = FakeSlurm()
    for _ in range(20):
        slurm.submit(job(("gpus", "1")))
    slurm.read()
    held = [(one.node, index) for many in slurm.allocations().values()
            for one in many for index in one.gpu_indexes]  # fmt: skip
    assert len(held) == len(set(held)) == 16


def test_a_job_ends_at_its_time_limit_and_frees_its_gpus():
    slurm = FakeSlurm()
    job_id = slurm.submit(job(("gpus", "h100:8"), ("time", "10")))
    slurm.read()
    slurm.clock.advance(601)
    (ended,) = slurm.jobs([str(job_id)])
    assert ended.state is JobState.TIMEOUT
    assert sum(node.gpus[0].used for node in slurm.read(Part.NODES).nodes if node.gpus) == 0


def test_a_failing_node_sends_its_jobs_back_to_the_queue():
    slurm = FakeSlurm()
    job_id = slurm.submit(job(("gpus", "h100:8")))
    (running,) = slurm.jobs([str(job_id)])
    slurm.fail_node(running.node_list)
    (again,) = slurm.jobs([str(job_id)])
    assert again.node_list not in {"", running.node_list}
    assert [run.state for run in slurm.accounting(job_ids=[str(job_id)])] == [
        JobState.NODE_FAIL, JobState.RUNNING,
    ]  # fmt: skip


def test_slurm_forgets_ended_jobs_and_the_accounting_does_not():
    slurm = FakeSlurm()
    job_id = slurm.submit(job())
    slurm.cancel(str(job_id))
    slurm.clock.advance(301)
    assert slurm.jobs([str(job_id)]) == ()
    assert len(slurm.accounting(job_ids=[str(job_id)])) == 1
    assert slurm.find("t1") == (job_id,)


def test_a_drained_node_takes_no_job_until_it_is_resumed():
    slurm = FakeSlurm()
    for name in ("gpu01", "gpu02"):
        slurm.drain(name)
    assert slurm.would_start(job(("gpus", "1"))) is None
    job_id = slurm.submit(job(("gpus", "1")))
    assert slurm.jobs([str(job_id)])[0].state is JobState.PENDING
    slurm.resume("gpu02")
    assert slurm.jobs([str(job_id)])[0].node_list == "gpu02"


def test_a_dependent_job_waits_for_its_predecessor():
    slurm = FakeSlurm()
    first = slurm.submit(job())
    second = slurm.submit(job(("dependency", f"afterok:{first}")))
    assert slurm.jobs([str(second)])[0].reason == "Dependency"
    slurm.finish(first)
    assert slurm.jobs([str(second)])[0].state is JobState.RUNNING


def test_calls_are_written_down():
    slurm = FakeSlurm()
    slurm.read(Part.JOBS)
    slurm.submit(job())
    assert [call[0] for call in slurm.calls] == ["read", "submit"]
