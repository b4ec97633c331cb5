"""The books beside a real cluster: 5,000 short jobs of 8 users, and every GPU-second of them."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import subprocess
import time

import pytest

from tests.clusters import PrivateCluster, require_cluster
from tests.e2e.daemons import Site, eventually
from tests.e2e.sums import by_sacct, differences

JOBS = int(os.environ.get("SLURM_GPU_POLICY_LEDGER_JOBS", "5000"))
"""Fewer for a quick look."""
MORE_USERS = {"u5": "nlp-pretrain", "u6": "nlp-finetune", "u7": "vision-seg", "u8": "vision"}
USERS = ("u1", "u2", "u3", "u4", *MORE_USERS)
FIRST_UID = 6005
QUICK = ("-t", "1", "--mem=100", "-o", "/dev/null")
POLICY = {
    "currency": "EUR",
    "gpu_types": {"h100": {"price_per_hour": "3.6"}},
    "pricing": {"cpu_hour": "0.01"},
    "budgets": {
        "nlp": {"amount": "1000000", "period": "month"},
        "vision": {"gpu_hours": 100000, "period": "quarter"},
        "students": {"account": "vision-seg-medical", "each_user": True, "amount": "5000"},
    },
}


@contextlib.contextmanager
def eight_users(cluster):
    """Let there be u5 to u8, on this machine and in the cluster's accounting."""
    made = []
    for number, (user, account) in enumerate(MORE_USERS.items()):
        try:
            pwd.getpwnam(user)
        except KeyError:
            uid = str(FIRST_UID + number)
            subprocess.run(["useradd", "--user-group", "--uid", uid, user], check=True)
            made.append(user)
        cluster.run("sacctmgr", "-i", "-Q", "add", "user", user, f"Account={account}")
    try:
        yield
    finally:
        for user in made:
            subprocess.run(["userdel", "--force", user], check=False, capture_output=True)


@pytest.fixture
def cluster():
    require_cluster("native")
    pace = "batch_sched_delay=0,sched_interval=1,bf_interval=2,bf_continue,sched_min_interval=0"
    settings = [
        "MinJobAge=2", "KillWait=1", "SlurmdTimeout=300", f"SchedulerParameters={pace}",
        "PriorityDecayHalfLife=7-0",
    ]  # fmt: skip
    with PrivateCluster("ledger", settings=settings) as made, eight_users(made):
        yield made


def site_of(cluster, folder, **policy):
    return Site(
        cluster,
        folder,
        lease="60s",
        **{**POLICY, "ledger": {"table": str(folder / "budgets.lua")}, **policy},
    )


def kill_node(cluster, node):
    """Let a node's slurmd die, and the controller take note of it."""
    pid = int((cluster.state / f"run/slurmd-{node}.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    cluster.run("scontrol", "update", f"nodename={node}", "state=down", "reason=killed")


def revive(cluster, node):
    cluster.do("up")
    cluster.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)


def queue(cluster, *options):
    said = cluster.run("squeue", "-h", "-r", "-o", "%i %T", *options, check=False).stdout
    return [line.split() for line in said.splitlines() if line.strip()]


def running_now(cluster):
    return {job_id for job_id, state in queue(cluster) if state == "RUNNING"}


def special_jobs(cluster):
    """Run fifteen jobs, and requeue, suspend, cancel and resize them."""

    def run(user, *options):
        return cluster.sbatch(*QUICK, "--gres=gpu:h100:1", *options, user=user)

    requeued = [run(user, "--wrap=sleep 25") for user in USERS[::2]]
    suspended = [run(user, "--wrap=sleep 25") for user in USERS[1::2]]
    cancelled = [run(user, "--wrap=sleep 60") for user in USERS[:4]]
    resized = run(USERS[0], "-N2", "--wrap=sleep 25")
    late = run(USERS[1], "--wrap=sleep 600")
    waits = [run(user, "--begin=now+1hour", "--wrap=true") for user in USERS]
    jobs = [*requeued, *suspended, *cancelled, resized, late]
    eventually(lambda: set(jobs) <= running_now(cluster), 40, every=0.3)
    time.sleep(1.5)
    cluster.run("scontrol", "suspend", ",".join(suspended))
    cluster.run("scontrol", "requeue", ",".join(requeued))
    cluster.run("scontrol", "update", f"JobId={resized}", "NumNodes=1")
    cluster.run("scancel", *cancelled, *waits)
    time.sleep(2.2)
    cluster.run("scontrol", "resume", ",".join(suspended))
    for job in requeued:
        cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now")


def mass(cluster):
    """Queue the many; return the array of each user of which some tasks are to be cancelled."""
    each = JOBS // len(USERS) + 10  # some are cancelled before they have a record of their own
    kinds = (
        (each // 25, "--gres=gpu:h100:2", "--wrap=sleep 1"),
        (each // 10, "--gres=gpu:h100:1", "--wrap=exit 3"),
        (each // 10, "-p", "cpu", "--wrap=true"),
    )
    rest = each - sum(count for count, *_ in kinds)
    arrays = []
    for user in USERS:
        for count, *options in [*kinds, (rest, "--gres=gpu:h100:1", "--wrap=true")]:
            array = cluster.sbatch(*QUICK, "-a", f"0-{count - 1}", *options, user=user)
        arrays.append(array)
    return arrays


def lose_a_node(cluster):
    """Let a node die under two jobs, one of which may not be requeued."""
    here = (*QUICK, "-w", "gpu02", "--gres=gpu:h100:1", "--wrap=sleep 40")
    jobs = [cluster.sbatch(*here), cluster.sbatch(*here, "--no-requeue")]
    for job in jobs:
        cluster.run("scontrol", "update", f"JobId={job}", "Priority=4000000")
    eventually(lambda: set(jobs) <= running_now(cluster), 60, every=0.3)
    time.sleep(2)
    kill_node(cluster, "gpu02")
    time.sleep(2)
    revive(cluster, "gpu02")
    cluster.run("scancel", jobs[0], check=False)


def drain(cluster, seconds):
    """Wait until nothing runs and slurmdbd has heard of everything."""

    def is_quiet():
        left = queue(cluster)
        for job_id, state in left:
            if state == "PENDING":  # what was requeued is delayed for two minutes
                cluster.run("scontrol", "update", f"JobId={job_id}", "StartTime=now", check=False)
        return not left

    eventually(is_quiet, seconds, every=1)
    backlog = lambda: cluster.run("sdiag").stdout  # noqa: E731
    eventually(lambda: "DBD Agent queue size: 0" in backlog(), 60, every=0.5)


def ledger(site, *words):
    """Return what ``gpu-policy ledger`` prints as JSON; its exit code is to be 0."""
    argv = [site.argv()[0], "-m", "slurm_gpu_policy.apps.policy", "ledger", *words, "--json"]
    done = subprocess.run(
        argv, env=site.environment(GPU_POLICY_FILE=str(site.file)), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def caught_up(controller):
    """Wait for ticks that began after now."""
    before = len(controller.good_ticks())
    eventually(lambda: len(controller.good_ticks()) >= before + 2, 60)


@pytest.mark.cluster
def test_the_ledger_is_what_sacct_adds_up_to_for_5000_jobs_of_8_users(cluster, tmp_path):
    site = site_of(cluster, tmp_path)
    controller = site.start(tick=2)
    try:
        eventually(controller.good_ticks, 60)
        special_jobs(cluster)
        arrays = mass(cluster)
        cluster.run("scancel", *(f"{array}_[3-7]" for array in arrays))
        lose_a_node(cluster)
        drain(cluster, 400)
        caught_up(controller)
        theirs, states = by_sacct(cluster)
        assert sum(states.values()) >= JOBS, states
        assert states.keys() >= {
            "COMPLETED", "FAILED", "CANCELLED", "REQUEUED", "NODE_FAIL", "RESIZING", "TIMEOUT",
        }, states  # fmt: skip
        assert set(USERS) <= theirs.keys()
        assert differences(cluster, f"sqlite:///{site.database}") == {}
        checked = ledger(site, "reconcile")
        assert checked["differences"] == []
        assert checked["checked"] > JOBS * 0.8
        assert ledger(site, "verify")["differences"] == []
        assert controller.end() == 0
    finally:
        site.tidy()
