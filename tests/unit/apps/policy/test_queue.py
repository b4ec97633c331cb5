"""``gpu-policy queue``: the table, its filters, and the JSON that scripts rely on."""

from __future__ import annotations

from datetime import datetime

import pytest

from slurm_gpu_policy.apps.policy.queue import short_time
from slurm_gpu_policy.terminal.text import ranges


def test_an_empty_queue_is_shown_with_the_free_gpus(gpu_policy):
    result = gpu_policy("queue")
    assert result.out == "h100: 16 GPUs, 0 used, 16 free, 0 down\n0 jobs\n"
    assert gpu_policy("queue", "--json").json == []


def test_the_table_says_who_runs_where_and_why_others_wait(gpu_policy, submit):
    submit(gpus=8, nodes=2, **{"job-name": "big"})
    submit(gpus=2, **{"job-name": "small"})
    lines = gpu_policy("queue").out.splitlines()
    assert lines[0] == "h100: 16 GPUs, 16 used, 0 free, 0 down"
    assert lines[1] == "2 jobs: 1 running, 1 pending"
    assert "gpu01:0-7 gpu02:0-7" in lines[4]
    assert lines[4].endswith("big")
    assert "waits for 2 h100 GPUs" in lines[5]


def test_the_json_of_a_running_job_is_the_documented_one(gpu_policy, submit, slurm):
    job_id = submit(gpus=2, nodes=2, **{"job-name": "x"})
    (job,) = gpu_policy("queue", "--json").json
    submitted = job.pop("submit_time")
    assert datetime.fromisoformat(submitted).utcoffset() is not None
    assert datetime.fromisoformat(submitted).timestamp() == slurm.clock.now()
    assert job == {
        "job_id": int(job_id),
        "display_id": job_id,
        "name": "x",
        "user": "u1",
        "account": "nlp-pretrain",
        "partition": "gpu",
        "state": "RUNNING",
        "reason": "",
        "reason_text": "",
        "gpus": 4,
        "gpu_type": "h100",
        "nodes": ["gpu01", "gpu02"],
        "gpu_indexes": {"gpu01": [0, 1], "gpu02": [0, 1]},
        "estimated_start": None,
    }


def test_the_json_of_a_waiting_job_has_slurms_reason_and_ours(gpu_policy, submit):
    submit(gpus=8, nodes=2)
    submit(gpus=1)
    job = gpu_policy("queue", "--json", "--state", "pending").json[0]
    assert (job["state"], job["reason"]) == ("PENDING", "Resources")
    assert "waits for 1 h100 GPU" in job["reason_text"]
    assert (job["nodes"], job["gpu_indexes"], job["estimated_start"]) == ([], {}, None)


def test_a_job_without_gpus_holds_a_node_and_no_indexes(gpu_policy, submit):
    submit(gpus=0, partition="cpu")
    (job,) = gpu_policy("queue", "--json").json
    assert (job["nodes"], job["gpu_indexes"], job["gpus"]) == (["cpu01"], {}, 0)


HOSTILE = "\x1b[2J\x1b]0;owned\x07evil\nname\t\u202e[red]\udcff"


def test_a_hostile_name_never_reaches_the_terminal(gpu_policy, submit):
    submit(**{"job-name": HOSTILE})
    result = gpu_policy("queue")
    assert len(result.out.splitlines()) == 5
    assert not set("\x1b\x07\t\u202e") & set(result.out)
    assert r"\x1b[2J" in result.out
    assert gpu_policy("queue", "--json").json[0]["name"] == HOSTILE


def test_a_long_name_is_cut_in_the_table_and_whole_in_json(gpu_policy, submit):
    submit(**{"job-name": "n" * 300})
    assert max(map(len, gpu_policy("queue").out.splitlines())) < 160
    assert gpu_policy("queue", "--json").json[0]["name"] == "n" * 300


@pytest.mark.parametrize(
    ("args", "count"),
    [
        ((), 3),
        (("--user", "u1"), 2),
        (("--user", "u1,u3"), 3),
        (("-u", "u1", "-u", "u3"), 3),
        (("--account", "VISION-seg"), 1),
        (("--partition", "interactive"), 1),
        (("--state", "running"), 3),
        (("--state", "R,pd"), 3),
        (("--state", "PENDING"), 0),
        (("--state", "all"), 3),
        (("--user", "nobody"), 0),
    ],
)
def test_filters_narrow_the_list(gpu_policy, submit, slurm, args, count):
    submit()
    submit(partition="interactive")
    slurm.user = "u3"
    submit()
    result = gpu_policy("queue", "--json", *args)
    assert (result.code, len(result.json)) == (0, count)


def test_me_is_the_user_who_asks(gpu_policy, submit, slurm, monkeypatch):
    submit()
    slurm.user = "u3"
    submit()
    monkeypatch.setattr("slurm_gpu_policy.adapters.identity.current_user", lambda: "u3")
    assert [job["user"] for job in gpu_policy("queue", "--me", "--json").json] == ["u3"]


@pytest.mark.parametrize(
    "args",
    [
        ("--state", "failed"), ("--state", ""), ("--user", ""), ("--user", "a,,b"),
        ("--bogus",), ("extra",), ("--state",), ("--json=1",),
    ],
)  # fmt: skip
def test_wrong_use_ends_with_two(gpu_policy, args):
    result = gpu_policy("queue", *args)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("gpu-policy: error: ")


def test_when_slurm_is_away_it_ends_with_four(gpu_policy, slurm):
    slurm.unavailable()
    result = gpu_policy("queue")
    assert (result.code, result.out) == (4, "")
    assert "Unable to contact slurm controller" in result.err


def test_a_wrong_policy_file_ends_with_five(gpu_policy, monkeypatch, tmp_path):
    (tmp_path / "p.yaml").write_text("bogus: 1\n")
    monkeypatch.setenv("GPU_POLICY_FILE", str(tmp_path / "p.yaml"))
    result = gpu_policy("queue")
    assert result.code == 5
    assert "p.yaml:1: bogus: found a field that does not exist" in result.err


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([0], "0"), ([0, 1], "0-1"), ([0, 1, 2, 5, 7, 8], "0-2,5,7-8")],
)
def test_indexes_are_written_as_slurm_does(numbers, text):
    assert ranges(numbers) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (7, "0:07"), (600, "10:00"), (3600, "1:00:00"), (93600, "1-02:00:00")],
)
def test_times_are_short_in_the_table(seconds, text):
    assert short_time(seconds) == text
