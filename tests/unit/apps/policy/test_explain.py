"""``gpu-policy explain``: the words, the JSON, and the exit codes."""

from __future__ import annotations

import pytest

from slurm_gpu_policy import bootstrap
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
        "our estimate: 20",
        "(Slurm has no plan yet)",
        "fair share 1.00 (10,000 of 10,000 points): account nlp used nothing of its share",
        "QOS normal: 600 of 6,000 points (its priority 10, the highest 100)",
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
        "estimated_start_source", "priority_terms", "priority_words", "priority_missing", "ahead",
        "changes", "approval", "attempts", "retries",
    }  # fmt: skip
    assert answer["job_id"] == int(job)


def test_the_json_of_a_waiting_job_has_its_place(gpu_policy, submit):
    submit(gpus=8, nodes=2)
    answer = gpu_policy("explain", submit(), "--json").json
    assert answer["places"] == [{"partition": "gpu", "place": 1, "of": 1}]
    assert answer["memory_mb"] == 8000
    assert answer["exit_code"] is None


def test_who_is_ahead_and_what_would_help(gpu_policy, submit, slurm):
    submit(gpus=8, nodes=2, time="10:00:00")
    first = submit(gpus=4, time="02:00:00")
    job = submit(gpus=4, nice="70", time="02:00:00")
    out = gpu_policy("explain", job).out
    assert f"ahead      job {first} of u1 (account nlp-pretrain), by 70 points" in out
    assert "most of it nice (+70)" in out
    assert "1 job stands ahead in partition gpu\n" in out
    assert "would help QOS low" not in out
    assert f"QOS high: +5,400 points, place 1 in partition gpu (scontrol update jobid={job}" in out
    answer = gpu_policy("explain", job, "--json").json
    assert answer["estimated_start_source"] == "ours"
    ahead = answer["ahead"]
    assert (ahead["job_id"], ahead["user"], ahead["difference"]) == (int(first), "u1", 70)
    assert (ahead["decided_by"], ahead["count"], ahead["gpus"]) == ("nice", 1, 4)
    assert answer["priority_terms"] == [
        one for one in gpu_policy("priority", "--json").json if one["job_id"] == int(job)
    ]
    best = answer["changes"][0]
    assert (best["what"], best["gain_points"], best["place"]) == ("QOS high", 5400, 1)
    assert answer["places"] == [{"partition": "gpu", "place": 2, "of": 2}]


def test_an_array_ahead_asks_for_the_gpus_of_all_its_tasks(gpu_policy, submit):
    submit(gpus=8, nodes=2)
    submit(gpus=2, array="0-3")
    job = submit(gpus=1, nice="5")
    assert gpu_policy("explain", job, "--json").json["ahead"]["gpus"] == 8


def test_an_ordinary_user_who_may_not_see_the_tree_is_told_so(gpu_policy, submit, slurm):
    slurm.associations = tuple(one for one in slurm.associations if one.user)
    submit(gpus=8, nodes=2)
    result = gpu_policy("explain", submit())
    assert result.code == 0
    assert "Slurm shows you a part of the account tree only" in result.out
    assert "1 of 1 waiting in partition gpu" in result.out


APPROVALS = """
approvals:
  thresholds: [{gpus: 4}]
  approvers: {users: [boss]}
"""


@pytest.fixture
def held(submit, monkeypatch, tmp_path):
    (tmp_path / "policy.yaml").write_text(APPROVALS)
    monkeypatch.setenv("GPU_POLICY_FILE", str(tmp_path / "policy.yaml"))
    return submit(gpus=8, hold="", comment="gpu-submit(approval=asked)")


def test_a_job_held_for_an_approval_says_whose_it_needs(gpu_policy, held, monkeypatch):
    vote = {"approver": "boss", "verdict": "approve", "reason": "ok \x1b", "time": 1_800_000_000}
    answer = {"approvals": [{"job_id": int(held), "votes": [vote]}]}
    monkeypatch.setattr(bootstrap, "ask_controller", lambda _policy, _request: answer)
    out = gpu_policy("explain", held).out
    assert "approval   8 GPUs for 01:00:00: pending (rule V-901)" in out
    assert "needs 1 approval of boss" in out
    assert "boss: approve (ok \\x1b)" in out
    found = gpu_policy("explain", held, "--json").json["approval"]
    assert (found["rule"], found["approvals_needed"]) == ("V-901", 1)
    assert found["votes"][0]["approver"] == "boss"
    assert found["votes"][0]["time"].startswith("2027-")


def test_without_the_controller_the_votes_are_unknown(gpu_policy, held):
    found = gpu_policy("explain", held, "--json").json["approval"]
    assert (found["state"], found["votes"]) == ("pending", None)


def test_a_job_that_was_started_again_shows_its_attempts(gpu_policy, submit, slurm):
    job = submit(comment="gpu-submit(retries=2)")
    slurm.jobs([job])
    slurm.clock.advance(30)
    slurm.requeue(job)
    slurm.jobs([job])
    out = gpu_policy("explain", job).out
    assert "attempts   1 of 2 retries used\n" in out
    assert "1: started 20" in out
    answer = gpu_policy("explain", job, "--json").json
    assert answer["retries"]["made"] == 1
    assert answer["attempts"][0]["number"] == 1


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
