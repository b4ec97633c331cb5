"""gpu-policy on a real Slurm cluster of two nodes with 8 H100s each."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import datetime

import pytest

from tests.e2e.conftest import scontrol_indexes, squeue, wait_for

pytestmark = pytest.mark.cluster

HOSTILE = "\x1b[2Jevil\nJobId=1 JobName=x\n   Nodes=gpu01 CPU_IDs=0 Mem=1 GRES=gpu:h100:1(IDX:7)"


def sbatch(user, *options, wrap="sleep 120") -> str:
    done = user.run("sbatch", "--parsable", "-t", "5", *options, f"--wrap={wrap}")
    return done.stdout.strip()


def queue(user, *options) -> dict[int, dict]:
    jobs = json.loads(user.run("gpu-policy", "queue", "--json", *options).stdout)
    return {job["job_id"]: job for job in jobs}


def explain(user, job: str) -> dict:
    return json.loads(user.run("gpu-policy", "explain", "--json", job).stdout)


def numbers(text: str) -> list[int]:
    found = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def test_everyones_running_jobs_are_shown_with_the_gpus_that_slurm_gave_them(users):
    jobs = {
        sbatch(users["u1"], "--gres=gpu:h100:2"): "u1",
        sbatch(users["u2"], "--gres=gpu:h100:1", "-N2", "-n2"): "u2",
        sbatch(users["u3"], "-p", "cpu"): "u3",
    }
    for job in jobs:
        wait_for(job, "RUNNING")
    shown = queue(users["u4"])
    for job, user in jobs.items():
        entry = shown[int(job)]
        slurms = {node: numbers(text) for node, text in scontrol_indexes(job).items()}
        assert (entry["user"], entry["state"]) == (user, "RUNNING")
        assert entry["gpu_indexes"] == slurms == explain(users["u4"], job)["gpu_indexes"]
        assert entry["gpus"] == sum(map(len, slurms.values()))
        assert entry["nodes"]
        submitted = datetime.fromisoformat(entry["submit_time"])
        assert submitted.utcoffset() is not None
        assert abs(submitted.timestamp() - time.time()) < 120  # noqa: TID251 - a real clock


def test_a_job_name_forges_no_gpus_and_reaches_no_terminal(u1):
    job = sbatch(u1, "--gres=gpu:h100:1", "-J", HOSTILE)
    wait_for(job, "RUNNING")
    shown = queue(u1, "--me")
    assert shown[int(job)]["name"] == HOSTILE
    assert sum(map(len, shown[int(job)]["gpu_indexes"].values())) == 1
    for out in (u1.run("gpu-policy", "queue").stdout, u1.run("gpu-policy", "explain", job).stdout):
        assert "\x1b" not in out


def test_the_queue_can_be_narrowed(users):
    mine = sbatch(users["u1"], "-H", "--gres=gpu:h100:1")
    other = sbatch(users["u3"], "-H", "-p", "cpu")
    u1 = users["u1"]
    assert {int(mine), int(other)} <= queue(u1).keys()
    for options in (
        ["--me"],
        ["--user", "u1"],
        ["--partition", "gpu"],
        ["--account", "nlp-pretrain"],
    ):
        found = queue(u1, *options)
        assert int(mine) in found
        assert int(other) not in found
    assert int(mine) in queue(u1, "--state", "pending")
    assert int(mine) not in queue(u1, "--state", "running")


@pytest.mark.parametrize(
    ("options", "reason", "words"),
    [
        (("-H",), "JobHeldUser", "its owner holds it"),
        (("--begin=now+1hour",), "BeginTime", "its start was set to a later time"),
    ],
)
def test_a_waiting_job_says_why(u1, options, reason, words):
    job = sbatch(u1, "--gres=gpu:h100:1", *options)
    deadline = time.monotonic() + 20
    while squeue(job, "%r") != reason and time.monotonic() < deadline:
        time.sleep(0.5)
    entry = queue(u1)[int(job)]
    assert (entry["state"], entry["reason"]) == ("PENDING", reason)
    assert words in entry["reason_text"]
    assert words in u1.run("gpu-policy", "explain", job).stdout


def test_a_dependency_names_the_job_it_waits_for(u1):
    first = sbatch(u1, "-H", "-p", "cpu")
    second = sbatch(u1, "-p", "cpu", "-d", f"afterok:{first}")
    deadline = time.monotonic() + 20
    while squeue(second, "%r") != "Dependency" and time.monotonic() < deadline:
        time.sleep(0.5)
    assert (
        f"once job {first} has ended with success" in u1.run("gpu-policy", "explain", second).stdout
    )


def test_a_limit_is_named_with_its_value(users):
    subprocess.run(
        ["sacctmgr", "-i", "add", "qos", "e2e-one-gpu", "MaxTRESPerUser=gres/gpu=1"],
        check=True, capture_output=True,
    )  # fmt: skip
    try:
        subprocess.run(
            ["sacctmgr", "-i", "modify", "user", "u4", "set", "qos+=e2e-one-gpu"],
            check=True, capture_output=True,
        )  # fmt: skip
        u4 = users["u4"]
        options = ("-q", "e2e-one-gpu", "--gres=gpu:h100:1")
        running, waiting = sbatch(u4, *options), sbatch(u4, *options)
        wait_for(running, "RUNNING")
        deadline = time.monotonic() + 30
        while squeue(waiting, "%r") != "QOSMaxGRESPerUser" and time.monotonic() < deadline:
            time.sleep(0.5)
        cache = {"XDG_CACHE_HOME": str(u4.home / f".cache-{waiting}")}  # no older answer
        out = u4.run("gpu-policy", "explain", waiting, env=cache).stdout
        assert "user u4 is at the limit of GPUs that QOS e2e-one-gpu lets one user hold" in out
        assert "may hold 1 gres/gpu at once; 1 held now, this job asks for 1" in out
    finally:
        subprocess.run(["scancel", "-u", "u4", "-q", "e2e-one-gpu"], check=False)
        subprocess.run(
            ["sacctmgr", "-i", "modify", "user", "u4", "set", "qos-=e2e-one-gpu"],
            check=False, capture_output=True,
        )  # fmt: skip
        subprocess.run(
            ["sacctmgr", "-i", "delete", "qos", "e2e-one-gpu"], check=False, capture_output=True
        )


def test_tasks_of_an_array_are_explained_one_by_one_and_together(u1):
    base = sbatch(u1, "-p", "cpu", "--array=0-3%1")
    wait_for(f"{base}_0", "RUNNING")
    whole = explain(u1, base)
    assert {task["state"] for task in whole["tasks"]} == {"RUNNING", "PENDING"}
    assert (whole["state"], whole["reason"]) == ("PENDING", "JobArrayTaskLimit")
    assert explain(u1, f"{base}_0")["state"] == "RUNNING"
    assert explain(u1, f"{base}_2")["state"] == "PENDING"
    assert u1.run("gpu-policy", "explain", f"{base}_9", check=False).returncode == 1


def test_parts_of_a_heterogeneous_job_are_explained(u1):
    done = u1.run(
        "sbatch", "--parsable", "-H", "-t", "5", "--gres=gpu:h100:1", ":", "-p", "cpu",
        "--wrap=sleep 60",
    )  # fmt: skip
    base = done.stdout.strip()
    assert len(explain(u1, base)["tasks"]) == 2
    assert explain(u1, f"{base}+0")["gpus"] == 1
    assert explain(u1, f"{base}+1")["gpus"] == 0


@pytest.mark.parametrize(
    ("wrap", "words"),
    [("exit 3", "it failed: exit code 3"), ("true", "it ended with success: exit code 0")],
)
def test_an_ended_job_says_how(u1, wrap, words):
    job = sbatch(u1, "-p", "cpu", wrap=wrap)
    wait_for(job, "COMPLETED", "FAILED")
    assert words in u1.run("gpu-policy", "explain", job).stdout
    answer = explain(u1, job)
    assert answer["ending"] == words
    assert (answer["gpu_indexes"], answer["end_time"] is None) == ({}, False)


def test_an_unknown_job_ends_with_one_and_a_bad_id_with_two(u1):
    for job, code in (("99999999", 1), ("99999999_3", 1), ("x", 2), ("1;2", 2)):
        done = u1.run("gpu-policy", "explain", job, check=False)
        assert (job, done.returncode, done.stdout) == (job, code, "")


def test_a_file_from_init_is_right_and_the_cluster_knows_its_names(u1):
    path = u1.home / "policy-e2e.yaml"
    path.unlink(missing_ok=True)
    u1.run("gpu-policy", "init", str(path))
    assert "h100:" in path.read_text()
    done = u1.run("gpu-policy", "check", "--live", str(path))
    assert done.stdout.startswith(f"{path} is right\n")
    assert u1.run("gpu-policy", "init", str(path), check=False).returncode == 2
    u1.run("gpu-policy", "queue", env={"GPU_POLICY_FILE": str(path)})
    path.unlink()


def test_doctor_finds_the_cluster_in_order(u1):
    done = u1.run("gpu-policy", "doctor", "--json")
    levels = {finding["subject"]: finding["level"] for finding in json.loads(done.stdout)}
    assert "fail" not in levels.values()
    assert levels["GPUs"] == levels["accounting"] == levels["adapter"] == "ok"


@pytest.mark.parametrize("args", [("queue",), ("explain", "1"), ("doctor",)])
def test_without_a_controller_every_command_ends_with_four(u1, args):
    path = u1.home / "policy-impatient.yaml"
    path.write_text("slurm: {timeout: 1s}\n")
    env = {"SLURM_CONF": "/nowhere/slurm.conf", "GPU_POLICY_FILE": str(path)}
    done = u1.run("gpu-policy", *args, check=False, env=env)
    assert done.returncode == 4, done.stderr


def test_templates_are_listed_for_everyone(u1):
    assert "torchrun: " in u1.run("gpu-policy", "templates").stdout
