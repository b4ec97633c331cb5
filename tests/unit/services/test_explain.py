"""Explaining one job, whatever became of it."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.errors import (
    JobNotFound,
    RequestError,
    SlurmRefused,
    SlurmUnavailable,
)
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.snapshot import Part
from slurm_gpu_policy.model.submission import Submission
from slurm_gpu_policy.services.explain import explain
from slurm_gpu_policy.services.selecting import holds
from tests.fakes.clock import FakeClock
from tests.fakes.slurm import FakeSlurm


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def slurm(clock):
    return FakeSlurm(clock=clock)


def submit(slurm, gpus=1, nodes=1, **options):
    options = {"gres": f"gpu:h100:{gpus}", "nodes": str(nodes), "partition": "gpu", **options}
    return str(slurm.submit(Submission("#!/bin/bash\n", tuple(options.items()), "t")))


def test_a_waiting_job_has_words_facts_and_a_place(slurm):
    submit(slurm, gpus=8, nodes=2)
    submit(slurm)
    found = explain(slurm, submit(slurm, gpus=2))
    assert "waits for 2 h100 GPUs" in found.words.text
    assert found.words.facts == ("0 of 16 h100 GPUs that it could use are free now; it asks for 2",)
    assert [(place.partition, place.place, place.of) for place in found.places] == [("gpu", 2, 2)]
    assert found.estimated_start is None
    assert found.ending == ""


def test_limits_are_read_only_for_a_job_that_waits_for_one(slurm, monkeypatch):
    submit(slurm, gpus=8, nodes=2)
    job = submit(slurm)
    slurm.calls.clear()
    explain(slurm, job)
    assert ("read", Part.JOBS, Part.NODES, Part.PARTITIONS) in slurm.calls
    monkeypatch.setattr(slurm, "_why_not", lambda _job: "QOSMaxGRESPerUser")
    slurm.calls.clear()
    explain(slurm, job)
    reads = [call for call in slurm.calls if call[0] == "read"]
    assert Part.QOS in reads[0]
    assert Part.ASSOCIATIONS in reads[0]


def test_a_running_job_has_its_gpus_on_each_node(slurm):
    found = explain(slurm, submit(slurm, gpus=2, nodes=2))
    assert [(held.node, held.gpu_indexes) for held in found.detail.allocations] == [
        ("gpu01", (0, 1)),
        ("gpu02", (0, 1)),
    ]
    assert found.words.text == ""


def test_a_job_that_just_ended_says_how(slurm):
    job = submit(slurm)
    slurm.jobs([job])
    slurm.finish(job, JobState.FAILED, exit_code=3)
    found = explain(slurm, job)
    assert found.job.state is JobState.FAILED
    assert found.ending == "it failed: exit code 3"


def test_a_job_that_left_memory_is_remembered_by_accounting(slurm, clock):
    job = submit(slurm, time="01:00:00")
    slurm.jobs([job])
    clock.advance(3600)
    slurm.jobs([job])
    clock.advance(3600)
    found = explain(slurm, job)
    assert found.job is None
    assert found.records[-1].state is JobState.TIMEOUT
    assert found.ending.startswith("Slurm stopped it at its time limit")


def test_an_unknown_job_is_said_to_be_unknown(slurm):
    with pytest.raises(SlurmRefused, match="there is no job 99"):
        explain(slurm, "99")


def test_without_accounting_an_unknown_job_is_still_only_unknown(slurm, monkeypatch):
    def refuse(**_):
        msg = "Slurm accounting storage is disabled"
        raise SlurmRefused(msg)

    monkeypatch.setattr(slurm, "accounting", refuse)
    with pytest.raises(JobNotFound):
        explain(slurm, "99")


def test_when_slurm_is_away_nothing_is_said_about_the_job(slurm):
    slurm.unavailable()
    with pytest.raises(SlurmUnavailable):
        explain(slurm, "1")


@pytest.mark.parametrize(
    "job_id", ["", "x", "1 2", "-1", "1_", "_1", "1+", "1.batch", "1;2", "٣", "1_[", "1\n2", "%41"]
)
def test_what_is_no_job_id_is_refused_before_slurm_is_asked(slurm, job_id):
    with pytest.raises(RequestError, match="is not a job id"):
        explain(slurm, job_id)
    assert slurm.calls == []


@pytest.mark.parametrize("job_id", ["0", "4294967294", "99999999999999999999"])
def test_an_id_no_job_can_have_is_unknown_without_asking(slurm, job_id):
    with pytest.raises(JobNotFound):
        explain(slurm, job_id)
    assert slurm.calls == []


# --- arrays -----------------------------------------------------------------------------------


def test_a_whole_array_is_explained_by_its_waiting_rest(slurm):
    base = submit(slurm, gpus=8, array="0-4")
    found = explain(slurm, base)
    assert found.job.display_id == f"{base}_[2-4]"
    assert sorted(job.display_id for job in found.group) == [
        f"{base}_0", f"{base}_1", f"{base}_[2-4]",
    ]  # fmt: skip
    assert "waits for 8 h100 GPUs" in found.words.text


def test_a_task_of_an_array_is_explained_alone(slurm):
    base = submit(slurm, gpus=8, array="0-4")
    found = explain(slurm, f"{base}_1")
    assert (found.job.display_id, found.job.state) == (f"{base}_1", JobState.RUNNING)
    assert found.detail.allocations[0].gpu_indexes == tuple(range(8))
    assert found.group == ()


def test_a_task_that_waits_with_the_rest_is_explained_by_it(slurm):
    base = submit(slurm, gpus=8, array="0-4")
    found = explain(slurm, f"{base}_3")
    assert found.job.state is JobState.PENDING
    assert holds(found.job.array_task, 3)


def test_a_task_the_array_does_not_have_is_unknown(slurm):
    base = submit(slurm, gpus=8, array="0-4")
    with pytest.raises(SlurmRefused):
        explain(slurm, f"{base}_7")


def test_the_own_number_of_a_task_means_that_task(slurm):
    base = submit(slurm, gpus=1, array="0-2")
    found = explain(slurm, str(int(base) + 1))
    assert found.job.display_id == f"{base}_1"
    assert found.group == ()


@pytest.mark.parametrize(
    ("tasks", "number", "expected"),
    [
        ("5-9%2", 7, True),
        ("5-9%2", 4, False),
        ("1,3-9:2", 5, True),
        ("1,3-9:2", 6, False),
        ("[1-3]", 2, True),
        ("", 0, False),
        ("1,...", 9, False),
    ],
)
def test_a_task_list_holds_its_numbers(tasks, number, expected):
    assert holds(tasks, number) is expected
