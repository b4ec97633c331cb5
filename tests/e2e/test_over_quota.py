"""GPUs are lent and given back by a real Slurm, with one tick of the controller at a time."""

from __future__ import annotations

import json
import time

import pytest

from tests.clusters import PrivateCluster, require_cluster

pytestmark = [pytest.mark.cluster, pytest.mark.root]

MIN_RUN = 30
POLICY = f"""\
enforcement: enforce
accounts:
  nlp-finetune: {{guaranteed_gpus: 8}}
  vision-seg: {{guaranteed_gpus: 8}}
over_quota: {{min_run_time: {MIN_RUN}s, settle_time: 1s}}
"""


@pytest.fixture(params=["native", "pyslurm"])
def cluster(request, tmp_path):
    require_cluster(request.param)
    with PrivateCluster(f"lent-{request.param}", kind=request.param) as one:
        for words in (
            ("add", "qos", "over-quota"),
            ("modify", "qos", "over-quota", "set", "PreemptMode=requeue",
             f"PreemptExemptTime=00:00:{MIN_RUN}"),
            ("add", "qos", "guaranteed"),
            ("modify", "qos", "guaranteed", "set", "Preempt=over-quota"),
            ("modify", "account", "nlp-finetune", "vision-seg", "set",
             "QOS+=guaranteed,over-quota"),
            ("modify", "user", "u1", "u3", "where", "account=nlp-finetune,vision-seg", "set",
             "DefaultQOS=over-quota"),
        ):  # fmt: skip
            one.run("sacctmgr", "-i", *words)
        one.policy = one.state / "policy.yaml"
        one.policy.write_text(POLICY)
        yield one


def tick(cluster):
    """Let the controller look once; return the rules by which it moved jobs."""
    env = {"GPU_POLICY_FILE": str(cluster.policy)}
    done = json.loads(cluster.ours("tests.e2e.one_tick", env=env).stdout)
    assert [one for one in done if one["outcome"] != "done"] == []
    return [one["rule"] for one in done]


def jobs(cluster, job_id):
    """The records of a job: (QOS, state, restarts, seconds it has run)."""
    text = cluster.run("squeue", "-h", "-r", "-j", job_id, "-o", "%i %q %T").stdout
    return [tuple(line.split()) for line in text.splitlines()]


def until(cluster, job_id, *states):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = jobs(cluster, job_id)
        if found and {state for _, _, state in found} <= set(states):
            return found
        time.sleep(0.5)
    pytest.fail(f"{jobs(cluster, job_id)}, not {states}")


def submit(cluster, account, user, *args):
    return cluster.sbatch("-A", account, "-p", "gpu", "-t", "60", "-o", "/dev/null", "-c", "1",
                          *args, "--wrap=sleep 900", user=user)  # fmt: skip


def test_what_is_lent_comes_back_after_its_time_and_nothing_goes_back_and_forth(cluster):
    burst = submit(cluster, "nlp-finetune", "u1", "--gres=gpu:h100:1", "--array=1-20")
    until(cluster, burst, "RUNNING", "PENDING")
    while sum(state == "RUNNING" for _, _, state in jobs(cluster, burst)) < 16:
        time.sleep(0.5)
    began = time.monotonic()
    assert {qos for _, qos, _ in jobs(cluster, burst)} == {"over-quota"}
    assert tick(cluster) == []  # it holds its guarantee already

    owed = submit(cluster, "vision-seg", "u3", "--gres=gpu:h100:4", "-N", "1")
    assert tick(cluster) == ["Q-701"]
    until(cluster, owed, "RUNNING", "CONFIGURING")
    assert time.monotonic() - began >= MIN_RUN - 3
    assert [qos for _, qos, _ in jobs(cluster, owed)] == ["guaranteed"]
    running = [one for one in jobs(cluster, burst) if one[2] == "RUNNING"]
    assert len(running) == 12  # four of sixteen gave way

    time.sleep(1)
    for _ in range(3):
        assert tick(cluster) == []  # twelve are more than the guaranteed eight
        time.sleep(1)


def test_an_array_is_moved_whole_and_only_if_it_fits(cluster):
    others = submit(cluster, "vision-seg", "u3", "--gres=gpu:h100:8", "--array=1-2")
    until(cluster, others, "RUNNING")
    large = submit(cluster, "nlp-finetune", "u1", "--gres=gpu:h100:2", "--array=1-9")
    small = submit(cluster, "nlp-finetune", "u1", "--gres=gpu:h100:2", "--array=1-9%2")
    assert tick(cluster) == ["Q-701"]
    assert {qos for _, qos, _ in jobs(cluster, large)} == {"over-quota"}
    assert {qos for _, qos, _ in jobs(cluster, small)} == {"guaranteed"}
    while sum(state == "RUNNING" for _, _, state in jobs(cluster, small)) < 2:
        time.sleep(0.5)
    assert tick(cluster) == []
