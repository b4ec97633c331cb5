"""``gpu-policy explain``: the words, the JSON, and the exit codes."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.model.job import JobState

QUEUE_FIELDS = {
    "job_id", "display_id", "name", "user", "account", "partition", "state", "reason",
    "reason_text", "gpus", "gpu_type", "nodes", "gpu_indexes", "submit_time", "estimated_start",
}  # fmt: skip


def test_a_waiting_job_is_explained(gpu_policy, submit):
    submit(gpus=8, nodes=2)
    job = submit(gpus=4, time="02:00:00", **{"job-name": "train"})
    result = gpu_policy("explain", job)
    assert result.code == 0
    for words in (
        f"job {job}: train is pending",
        "waits for 4 h100 GPUs",
        "0 of 16 h100 GPUs that it could use are free now",
        "what to do nothing is wrong",
        "Slurm has no plan yet",
        "1 of 1 waiting in partition gpu",
        "4 h100 GPUs, 1 node, 1 CPU, 8000 MiB of memory, 02:00:00 of time",
        "user u1, account nlp-pretrain, QOS normal",
    ):
        assert words in result.out


def test_a_running_job_shows_gpus_and_elapsed_time_against_its_limit(gpu_policy, submit, slurm):
    job = submit(gpus=2, nodes=2, time="02:00:00")
    slurm.jobs([job])
    slurm.clock.advance(90)
    out = gpu_policy("explain", job).out
    assert "gpu01: GPUs 0-1\n" in out
    assert "gpu02: GPUs 0-1\n" in out
    assert "00:01:30 of the limit 02:00:00" in out


def test_an_ended_job_says_how_it_ended(gpu_policy, submit, slurm):
    job = submit()
    slurm.jobs([job])
    slurm.finish(job, JobState.FAILED, exit_code=3)
    assert "it failed: exit code 3" in gpu_policy("explain", job).out


def test_a_job_from_accounting_says_so(gpu_policy, submit, slurm):
    job = submit(time="00:10:00")
    slurm.jobs([job])
    for _ in range(2):
        slurm.clock.advance(3600)
        slurm.jobs([job])
    result = gpu_policy("explain", job)
    assert "Slurm stopped it at its time limit" in result.out
    assert "it left the controller's memory" in result.out
    assert "1 h100 GPU on gpu01" in result.out
    answer = gpu_policy("explain", job, "--json").json
    assert (answer["source"], answer["state"]) == ("accounting", "TIMEOUT")
    assert (answer["gpus"], answer["gpu_type"]) == (1, "h100")
    assert len(answer["runs"]) == 1


def test_an_array_is_explained_with_its_tasks(gpu_policy, submit):
    base = submit(gpus=8, array="0-30")
    result = gpu_policy("explain", base)
    assert f"array {base}: 3 jobs: 2 running, 1 pending" in result.out
    assert f"job {base}_[2-30]" in result.out
    answer = gpu_policy("explain", base, "--json").json
    assert {task["state"] for task in answer["tasks"]} == {"RUNNING", "PENDING"}


def test_many_tasks_are_not_all_listed(gpu_policy, submit):
    base = submit(gpus=0, partition="cpu", array="0-29")
    assert "… and 10 more" in gpu_policy("explain", base).out


@pytest.mark.parametrize("state", ["waiting", "running", "ended", "remembered"])
def test_the_json_has_the_same_fields_in_every_state(gpu_policy, submit, slurm, state):
    if state == "waiting":
        submit(gpus=8, nodes=2)
    job = submit(time="00:10:00")
    slurm.jobs([job])
    if state == "ended":
        slurm.finish(job)
    if state == "remembered":
        for _ in range(2):
            slurm.clock.advance(3600)
            slurm.jobs([job])
    answer = gpu_policy("explain", job, "--json").json
    assert answer.keys() >= QUEUE_FIELDS
    assert answer.keys() - QUEUE_FIELDS == {
        "source", "advice", "facts", "qos", "cpus", "memory_mb", "time_limit_seconds",
        "elapsed_seconds", "priority", "places", "eligible_time", "start_time", "end_time",
        "exit_code", "exit_signal", "ending", "restarts", "dependency", "reservation",
        "work_dir", "std_out", "std_err", "tasks", "runs",
    }  # fmt: skip
    assert answer["job_id"] == int(job)


def test_the_json_of_a_waiting_job_has_its_place(gpu_policy, submit):
    submit(gpus=8, nodes=2)
    answer = gpu_policy("explain", submit(), "--json").json
    assert answer["places"] == [{"partition": "gpu", "place": 1, "of": 1}]
    assert answer["memory_mb"] == 8000
    assert answer["exit_code"] is None


def test_an_unknown_job_ends_with_one_and_clear_words(gpu_policy):
    result = gpu_policy("explain", "99")
    assert (result.code, result.out) == (1, "")
    assert "there is no job 99" in result.err


@pytest.mark.parametrize("job", ["x", "1.2", "", "1_", "1 2", "\x1b[31m"])
def test_a_bad_id_ends_with_two(gpu_policy, job):
    result = gpu_policy("explain", job)
    assert (result.code, result.out) == (2, "")
    assert "is not a job id" in result.err
    assert "\x1b" not in result.err


@pytest.mark.parametrize("args", [(), ("1", "2"), ("--bogus", "1")])
def test_wrong_use_ends_with_two(gpu_policy, args):
    assert gpu_policy("explain", *args).code == 2


def test_a_hostile_job_never_reaches_the_terminal(gpu_policy, submit):
    job = submit(**{"job-name": "\x1b[2J\nx", "output": "/tmp/\x1b]0;t\x07"})
    out = gpu_policy("explain", job).out
    assert "\x1b" not in out
    assert "\x07" not in out


def test_when_slurm_is_away_it_ends_with_four(gpu_policy, slurm):
    slurm.unavailable()
    assert gpu_policy("explain", "1").code == 4
