"""``gpu-policyd`` on a cluster of its own: it steers, and then it holds still."""

from __future__ import annotations

import json
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.clusters import programs
from tests.e2e.daemons import Site, after_ticks, eventually, in_order, sites

pytestmark = [pytest.mark.cluster, pytest.mark.root]


@pytest.fixture(scope="module")
def cluster(steered_cluster):
    return steered_cluster


def test_a_controller_puts_the_queue_in_order_and_then_leaves_it(cluster, site, waiting):
    controller = site.start()
    eventually(lambda: in_order(cluster, waiting))
    after_ticks(controller, 3)
    assert [tick["actions"] for tick in controller.ticks()][2:] == [0] * (
        len(controller.ticks()) - 2
    )
    assert {entry["outcome"] for entry in site.entries()} == {"done"}
    assert controller.end() == 0
    assert site.holder() == ""


@pytest.mark.parametrize("kind", ["slurm", "priority", "fcfs", "sjf", "fair_share"])
def test_with_a_constant_queue_no_tick_after_the_second_changes_anything(
    cluster, site, waiting, kind
):
    terms = {"deadline": {"weight": 500}, "fragmentation": {"weight": 70}}
    site.write(ordering={"kind": kind, "terms": terms}, over_quota=None)
    ticks = [site.tick() for _ in range(5)]
    assert [len(tick["actions"]) for tick in ticks[2:]] == [0, 0, 0]


def test_a_dry_run_says_what_it_would_do_and_changes_nothing(cluster, site, waiting):
    before = sites(cluster)
    done = site.once("--dry-run", "--json")
    said = json.loads(done.stdout)
    assert {action["job_id"] for action in said["actions"]} == set(waiting)
    assert {action["outcome"] for action in said["actions"]} == {"wanted"}
    assert sites(cluster) == before
    assert not site.database.exists()
    assert f"{len(waiting)} changes to make" in site.once("--dry-run").stdout


def test_gpu_policy_status_asks_the_running_controller(cluster, site, waiting):
    def status():
        return subprocess.run(
            [sys.executable, "-m", "slurm_gpu_policy.apps.policy", "status", "--json"],
            env=site.environment(GPU_POLICY_FILE=str(site.file)),
            capture_output=True,
            text=True,
            check=False,
        )

    assert status().returncode == 4
    controller = site.start()
    eventually(controller.ticks)
    said = json.loads(status().stdout)
    assert (said["leading"], said["enforcement"], said["last_errors"]) == (True, "enforce", [])
    assert said["pending_jobs"] == len(waiting)


def test_slurms_own_user_may_run_it(cluster, waiting):
    """As the systemd unit does: neither the lease nor a site factor needs root."""
    folder = Path(tempfile.mkdtemp(prefix="gpu-policyd"))
    shutil.chown(folder, "slurm", "slurm")
    site = Site(cluster, folder, ordering={"kind": "fcfs"})
    try:
        shutil.chown(site.file, "slurm", "slurm")
        person = pwd.getpwnam("slurm")
        done = subprocess.run(
            [f"{programs()}/python", *site.argv("--once", "--json")[1:]],
            env=site.environment(HOME="/nonexistent"),
            user=person.pw_uid,
            group=person.pw_gid,
            extra_groups=[],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert {a["outcome"] for a in json.loads(done.stdout)["actions"]} == {"done"}
        assert in_order(cluster, waiting)
        assert oct(site.database.stat().st_mode & 0o777) == "0o600"
    finally:
        shutil.rmtree(folder)


def test_a_site_that_only_observes_is_told_and_nothing_changes(cluster, site, waiting):
    site.write(enforcement="observe")
    before = sites(cluster)
    assert {action["outcome"] for action in site.tick()["actions"]} == {"skipped"}
    assert site.tick()["actions"] == []
    assert sites(cluster) == before


def test_a_wrong_policy_file_at_the_start_is_exit_code_5(site):
    site.write(ordering={"kind": "alphabet"})
    assert site.once(check=False).returncode == 5


def test_one_tick_without_slurm_is_exit_code_4(site, tmp_path):
    conf = tmp_path / "nowhere.conf"
    conf.write_text(
        "ClusterName=nowhere\nSlurmctldHost=localhost(127.0.0.1)\nSlurmctldPort=9\n"
        "SlurmctldTimeout=1\nMessageTimeout=2\nNodeName=none\nPartitionName=p Nodes=none\n"
    )
    done = subprocess.run(
        site.argv("--once"),
        env=site.environment(SLURM_CONF=str(conf)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4, done.stderr
    assert not site.database.exists()


def test_one_tick_without_a_database_is_exit_code_4(site, tmp_path):
    site.policy["controller"]["database"] = "sqlite:////proc/nowhere/policy.db"
    site.write()
    done = site.once(check=False)
    assert done.returncode == 4, done.stderr
