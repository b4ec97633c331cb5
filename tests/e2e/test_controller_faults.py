"""``gpu-policyd`` on a cluster of its own: what breaks around it breaks nothing in it."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.daemons import WAITING, Site, after_ticks, eventually, in_order, sites

pytestmark = [pytest.mark.cluster, pytest.mark.root]

KILLS = 100


@pytest.fixture(scope="module")
def cluster(steered_cluster):
    return steered_cluster


def test_a_controller_killed_at_any_moment_loses_and_doubles_nothing(cluster, tmp_path):
    """SIGKILL at KILLS random moments, while jobs come, end, and have to be requeued once."""
    site = Site(
        cluster,
        tmp_path,
        ordering={"kind": "fcfs"},
        retries={"default": 1, "first_delay": "1s", "keep_place": True},
    )
    draw = random.Random()  # noqa: S311
    failing: list[int] = []
    waits: list[int] = []
    try:
        usual = max(_seconds_to_lead(site) for _ in range(3))
        for number in range(KILLS):
            controller = site.start(tick=0.15)
            began = time.monotonic()
            moment = draw.uniform(0.7 * usual, usual + 0.3)
            if number < KILLS - 20:
                failing.append(int(cluster.sbatch("-p", "cpu", "-o", "/dev/null", "--wrap=exit 3")))
            waits.append(int(cluster.sbatch(*WAITING)))
            if draw.random() < 0.3:
                cluster.run("scancel", str(draw.choice(waits)))
            time.sleep(max(0, moment - (time.monotonic() - began)))
            assert controller.process.poll() is None, controller.log.read_text()
            controller.kill()
            if site.database.exists():
                site.end_lease()
        last = site.start()
        eventually(lambda: all(_ended_twice(cluster, failing)), 120, every=1)
        after_ticks(last, 3)
        assert last.end() == 0
        _check_after_kills(cluster, site, failing)
    finally:
        site.tidy()
        cluster.run("scancel", *map(str, waits))


def _seconds_to_lead(site):
    """Return how long a controller takes until it leads, where the last one was killed."""
    controller = site.start(tick=0.15)
    began = time.monotonic()
    eventually(controller.ticks, every=0.01)
    seconds = time.monotonic() - began
    controller.kill()
    site.end_lease()
    return seconds


def _ended_twice(cluster, ids):
    said = cluster.run("scontrol", "-o", "show", "job").stdout.splitlines()
    for line in said:
        words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if int(words["JobId"]) in ids:
            yield (words["JobState"], words["Restarts"]) == ("FAILED", "1")


def _check_after_kills(cluster, site, failing):
    assert site.is_whole()
    entries = site.entries()
    assert [entry for entry in entries if not entry["outcome"]] == []
    requeues: dict[int, int] = dict.fromkeys(failing, 0)
    for entry in entries:
        assert entry["outcome"] in {"done", "failed", "refused", "unknown", "skipped"}
        if entry["verb"] == "requeue" and entry["outcome"] == "done":
            requeues[entry["job_id"]] += 1
    assert set(requeues.values()) == {1}, "each job's requeue stands once in the log as done"
    interrupted = [entry for entry in entries if "after an interruption" in entry["words"]]
    assert interrupted, "no kill came in the middle of an action: the test proves nothing"
    # What Slurm has in the end is what is wanted: another tick finds nothing to do.
    assert site.tick()["actions"] == []


def test_slurmctld_goes_away_and_comes_back_under_it(cluster, site, waiting):
    controller = site.start()
    eventually(lambda: in_order(cluster, waiting))
    cluster.do("stop-controller")
    eventually(lambda: any(tick["errors"] for tick in controller.ticks()), 60)
    assert controller.process.poll() is None
    cluster.do("start-controller")
    newer = int(cluster.sbatch(*WAITING))
    eventually(lambda: in_order(cluster, [*waiting, newer]), 90)
    assert {entry["outcome"] for entry in site.entries()} <= {"done", "failed", "unknown"}
    assert [entry for entry in site.entries() if not entry["outcome"]] == []


def test_it_waits_for_a_slurm_that_is_not_there_yet(cluster, site, waiting):
    cluster.do("stop-controller")
    try:
        controller = site.start()
        eventually(lambda: any(event["errors"] for event in controller.events("tick")), 60)
        assert controller.process.poll() is None
    finally:
        cluster.do("start-controller")
    eventually(lambda: in_order(cluster, waiting), 90)


def test_slurmdbd_goes_away_and_comes_back_under_it(cluster, site, waiting):
    controller = site.start()
    eventually(lambda: in_order(cluster, waiting))
    pid = int((cluster.state / "run/slurmdbd.pid").read_text())
    subprocess.run(["kill", str(pid)], check=True)
    try:
        eventually(lambda: not Path(f"/proc/{pid}").exists())
        newer = int(cluster.sbatch(*WAITING))
        # slurmctld goes on without slurmdbd, and so does the controller.
        eventually(lambda: in_order(cluster, [*waiting, newer]), 60)
    finally:
        cluster.do("up")
    after_ticks(controller, 2, 60)


def test_of_two_controllers_exactly_one_leads_and_the_other_follows_within_two_ticks(
    cluster, tmp_path, waiting
):
    tick = 2.0
    site = Site(cluster, tmp_path, lease=None, ordering={"kind": "fcfs"})
    pair = [site.start(tick=tick), site.start(tick=tick)]
    eventually(lambda: any(one.ticks() for one in pair))
    time.sleep(2 * tick)
    leading = [one for one in pair if one.ticks()]
    assert len(leading) == 1
    (leader,) = leading
    (standby,) = (one for one in pair if one is not leader)
    leader.kill()
    died = time.monotonic()
    eventually(standby.ticks, 10)
    assert time.monotonic() - died < 2 * tick + 0.5  # half a second for looking
    assert in_order(cluster, waiting)
    assert standby.end() == 0
    site.tidy()


def test_a_leader_that_ends_in_order_is_followed_at_once(cluster, site, waiting):
    leader = site.start(tick=5)
    eventually(leader.ticks)
    standby = site.start(tick=5)
    eventually(lambda: standby.events("stands by"))
    assert leader.end() == 0
    left = time.monotonic()
    eventually(standby.ticks, 10)
    assert time.monotonic() - left < 5


def test_a_leader_that_was_stopped_and_wakes_up_changes_nothing_any_more(cluster, site, waiting):
    site.policy["controller"]["lease"] = "2s"
    site.write()
    leader = site.start()
    eventually(lambda: in_order(cluster, waiting))
    _stop_between_transactions(leader, site)
    standby = site.start()
    eventually(standby.ticks)
    before = {entry["entry_id"] for entry in site.entries()}
    count = len(leader.ticks())
    # Something to do, so that a second leader would be seen.
    newer = int(cluster.sbatch(*WAITING))
    leader.signal(signal.SIGCONT)
    eventually(lambda: in_order(cluster, [*waiting, newer]))
    after_ticks(standby, 4)
    assert len(leader.ticks()) <= count + 1  # the one that was under way may end
    new = [e for e in site.entries() if e["entry_id"] not in before]
    assert [entry["job_id"] for entry in new].count(newer) == 1
    eventually(lambda: leader.events("stands by"))


def _stop_between_transactions(controller, site):
    """Stop a process where it holds no lock of the database: with one, nobody could lead."""
    for _ in range(100):
        controller.signal(signal.SIGSTOP)
        time.sleep(0.05)
        try:
            with sqlite3.connect(site.database, timeout=0, isolation_level=None) as other:
                other.execute("BEGIN IMMEDIATE")
                other.execute("ROLLBACK")
        except sqlite3.OperationalError:
            controller.signal(signal.SIGCONT)
            time.sleep(0.05)
        else:
            return
    pytest.fail("it always holds a lock")


@pytest.mark.parametrize("step", ["+3h", "-3h"])
def test_a_clock_that_is_stepped_changes_neither_the_leader_nor_the_queue(
    cluster, site, waiting, tmp_path, step
):
    """By libfaketime, which moves the wall clock of the controller and of what it starts."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        pytest.skip("faketime is not installed")
    setting = tmp_path / "step"
    setting.write_text("+0")
    env = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(setting),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    leader = site.start(env=env)
    eventually(lambda: in_order(cluster, waiting))
    standby = site.start()
    eventually(lambda: standby.events("stands by"))
    before, ticks = len(site.entries()), len(leader.ticks())
    setting.write_text(step)
    after_ticks(leader, 5)
    stamps = [tick["time"][:13] for tick in leader.ticks()]
    assert stamps[ticks - 1] != stamps[-1], "the clock was not stepped"
    assert len(site.entries()) == before, "a constant queue is left alone"
    assert standby.ticks() == []
    newer = int(cluster.sbatch(*WAITING))
    eventually(lambda: in_order(cluster, [*waiting, newer]))
    setting.write_text("+0")
    after_ticks(leader, 3)
    assert standby.ticks() == []


def test_a_policy_file_that_is_broken_under_it_leaves_the_last_good_one(
    cluster, site, waiting, tmp_path
):
    port = 20000 + random.SystemRandom().randrange(10000)
    site.policy["controller"]["metrics"] = f"127.0.0.1:{port}"
    site.write()
    controller = site.start()
    eventually(lambda: in_order(cluster, waiting))
    good = site.file.read_text()
    site.file.write_text("ordering: {kind: alphabet}\nlimits: [1]\n")
    controller.signal(signal.SIGHUP)
    (event,) = eventually(
        lambda: [one for one in controller.events() if "is wrong" in one["event"]]
    )
    assert len(event["problems"]) == 2
    assert _metric(port, "policy_file_ok") == 0
    newer = int(cluster.sbatch(*WAITING))
    eventually(lambda: in_order(cluster, [*waiting, newer]))
    site.file.write_text(good.replace("fcfs", "sjf"))
    controller.signal(signal.SIGHUP)
    eventually(lambda: _metric(port, "policy_file_ok") == 1)
    shorter = int(
        cluster.sbatch("--time=5", *(word for word in WAITING if word not in {"-t", "10"}))
    )
    eventually(lambda: in_order(cluster, [shorter, *waiting, newer]))
    assert _metric(port, "leading") == 1


def _metric(port, name):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(f"slurm_gpu_policy_controller_{name} "):
                return float(line.split()[1])
    return None


def test_a_database_that_is_locked_stops_all_actions_until_it_is_free(cluster, site, waiting):
    controller = site.start()
    eventually(lambda: in_order(cluster, waiting))
    with sqlite3.connect(site.database, timeout=10, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        newer = int(cluster.sbatch(*WAITING))
        eventually(
            lambda: any("RecordsUnavailable" in t["errors"] for t in controller.events("tick")), 60
        )
        assert sites(cluster).get(newer, 0) == 0, "no audit, no action"
        assert controller.process.poll() is None
        other.execute("ROLLBACK")
    eventually(lambda: in_order(cluster, [*waiting, newer]), 60)
    assert [entry for entry in site.entries() if not entry["outcome"]] == []


def test_the_database_may_be_moved_away_and_back(cluster, site, waiting):
    controller = site.start()
    eventually(lambda: in_order(cluster, waiting))
    away = site.folder / "away"
    away.mkdir()
    for file in site.folder.glob("policy.db*"):
        shutil.move(file, away / file.name)
    eventually(
        lambda: any("RecordsUnavailable" in t["errors"] for t in controller.events("tick")), 60
    )
    for file in away.iterdir():
        shutil.move(file, site.folder / file.name)
    newer = int(cluster.sbatch(*WAITING))
    eventually(lambda: in_order(cluster, [*waiting, newer]), 60)
