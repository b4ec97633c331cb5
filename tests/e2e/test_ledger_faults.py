"""What breaks around the books costs nothing: kills, a full disk, a database that is away."""

from __future__ import annotations

import json
import random
import subprocess
import time

import pytest

from tests import postgresql
from tests.clusters import PrivateCluster, require_cluster
from tests.e2e.daemons import Site, eventually
from tests.e2e.sums import differences

pytestmark = [pytest.mark.cluster, pytest.mark.root]

KILLS = 12
QUICK = ("-t", "1", "--mem=100", "-o", "/dev/null")
POLICY = {
    "gpu_types": {"h100": {"price_per_hour": "3.6"}},
    "budgets": {"nlp": {"amount": "1000"}, "vision": {"gpu_hours": 1000}},
}


@pytest.fixture(scope="module")
def cluster():
    require_cluster()
    with PrivateCluster("books", settings=["MinJobAge=2", "KillWait=1"]) as made:
        yield made


def site_of(cluster, folder, **policy):
    table = {"table": str(folder / "budgets.lua")}
    return Site(cluster, folder, lease="5s", **{**POLICY, "ledger": table, **policy})


def jobs(cluster, count=8):
    """Queue short jobs of two users on GPUs."""
    for user in ("u1", "u3"):
        options = ("-a", f"0-{count - 1}", "--gres=gpu:h100:1", "--wrap=sleep 1")
        cluster.sbatch(*QUICK, *options, user=user)


def ask(site, *words):
    """Return what gpu-policy answers as JSON."""
    argv = [site.argv()[0], "-m", "slurm_gpu_policy.apps.policy", *words, "--json"]
    env = site.environment(GPU_POLICY_FILE=str(site.file))
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def settle(cluster, site, controller, address):
    """Wait until all has ended and is charged, and hold the books against the accounting."""
    eventually(lambda: not cluster.run("squeue", "-h").stdout.strip(), 120, every=0.5)
    quiet = "DBD Agent queue size: 0"
    eventually(lambda: quiet in cluster.run("sdiag").stdout, 60, every=0.5)
    before = len(controller.good_ticks())
    eventually(lambda: len(controller.good_ticks()) >= before + 3, 60)
    assert differences(cluster, address) == {}
    assert ask(site, "ledger", "verify")["differences"] == []
    assert ask(site, "ledger", "reconcile")["differences"] == []


def test_a_controller_killed_while_it_charges_loses_no_gpu_second(cluster, tmp_path):
    """SIGKILL at random moments, and slurmdbd away for some of them."""
    site = site_of(cluster, tmp_path)
    chance = random.Random()  # noqa: S311 - no secret
    try:
        for number in range(KILLS):
            jobs(cluster, 3)
            controller = site.start(tick=0.2)
            eventually(controller.ticks, 60)
            time.sleep(chance.uniform(0, 1.2))
            if number == KILLS // 2:
                pid = int((cluster.state / "run/slurmdbd.pid").read_text())
                subprocess.run(["kill", str(pid)], check=True)
            controller.kill()
            site.end_lease()
        cluster.do("up")
        last = site.start(tick=0.5)
        settle(cluster, site, last, f"sqlite:///{site.database}")
        assert last.end() == 0
    finally:
        site.tidy()


def test_records_that_slurm_writes_anew_are_charged_as_they_stand_in_the_end(cluster, tmp_path):
    """22.05 gives a run that had ended another end when its job is requeued, and may give its
    record to the next run.
    """
    site = site_of(cluster, tmp_path)
    controller = site.start(tick=0.3)
    try:
        eventually(controller.good_ticks, 60)
        failed = cluster.sbatch(*QUICK, "--gres=gpu:h100:2", "--wrap=sleep 1; exit 3")
        here = (*QUICK, "-w", "gpu01", "--gres=gpu:h100:1", "--wrap=sleep 30")
        lost, ended = cluster.sbatch(*here), cluster.sbatch(*here)
        states = ("squeue", "-h", "-a", "-t", "all", "-o", "%T", "-j")
        eventually(lambda: "FAILED" in cluster.run(*states, failed).stdout, 60)
        time.sleep(1.2)  # in which it is charged
        cluster.run("scontrol", "requeue", failed)
        eventually(lambda: "RUNNING" in cluster.run(*states, lost).stdout)
        time.sleep(2)
        cluster.run("scontrol", "requeue", lost)
        cluster.run("scontrol", "update", "nodename=gpu01", "state=down", "reason=test")
        time.sleep(1)
        cluster.run("scontrol", "update", "nodename=gpu01", "state=resume", check=False)
        for job in (failed, lost, ended):
            cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now", check=False)
        time.sleep(5)
        cluster.run("scancel", lost, ended)
        settle(cluster, site, controller, f"sqlite:///{site.database}")
        assert controller.end() == 0
    finally:
        site.tidy()


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of its own with little room."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ("-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder))
    if subprocess.run(["mount", *options], check=False, capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_stops_the_books_and_nothing_else(cluster, tmp_path, small_disk):
    site = site_of(cluster, tmp_path)
    address = f"sqlite:///{small_disk}/policy.db"
    site.write(controller={**site.policy["controller"], "database": address})
    controller = site.start(tick=0.5)
    try:
        eventually(controller.good_ticks, 60)
        jobs(cluster)
        filler = small_disk / "filler"
        fill(filler)
        told = eventually(lambda: troubled(site), 60, every=0.3)
        assert any("full" in words for words in told["ledger"]["problems"])
        jobs(cluster)
        time.sleep(3)
        assert controller.process.poll() is None
        filler.unlink()
        eventually(lambda: (ask(site, "status")["ledger"] or {}).get("up_to_date"), 90, every=0.5)
        settle(cluster, site, controller, address)
        assert controller.end() == 0
    finally:
        site.tidy()


def fill(path):
    """Leave no room on the file system of *path*."""
    with path.open("wb", buffering=0) as out:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    out.write(b"\0" * size)
            except OSError:
                continue


def troubled(site):
    """Return the controller's own account of itself once it says that the books are not kept."""
    said = ask(site, "status")
    books = said["ledger"]
    return said if said["last_errors"] and not books["up_to_date"] else None


def test_a_database_that_is_away_stops_the_books_and_nothing_else(cluster, tmp_path):
    if reason := postgresql.missing():
        pytest.skip(reason)
    server = postgresql.PrivateServer(durable=True)
    site = site_of(cluster, tmp_path)
    try:
        server.initialise()
        server.start()
        address = server.make_database()
        site.write(controller={**site.policy["controller"], "database": address})
        controller = site.start(tick=0.5)
        eventually(controller.good_ticks, 60)
        jobs(cluster)
        server.stop()
        told = eventually(lambda: troubled(site), 60, every=0.3)
        assert told["ledger"]["problems"]
        jobs(cluster)
        time.sleep(3)
        assert controller.process.poll() is None
        server.start()
        eventually(lambda: (ask(site, "status")["ledger"] or {}).get("up_to_date"), 90, every=0.5)
        settle(cluster, site, controller, address)
        assert controller.end() == 0
    finally:
        site.tidy()
        server.remove()
