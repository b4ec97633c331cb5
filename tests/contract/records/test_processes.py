"""Several processes on one database, and processes that are killed."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from sqlalchemy import text

from slurm_gpu_policy.adapters.clock import SystemClock
from slurm_gpu_policy.adapters.database.connection import Database
from slurm_gpu_policy.adapters.database.records import DatabaseRecords
from slurm_gpu_policy.adapters.database.upgrade import upgrade
from slurm_gpu_policy.model.action import Lease
from slurm_gpu_policy.services.leading import Leading
from tests.contract.records.test_records import begin, make_action

NOW = 1_800_000_000
KILLS = 60
BATCH = 5


@contextmanager
def child(work):
    """A process that calls *work* with a file for what it has to say; yields its id and the file.

    It is killed at the end. Forked, so that sixty of them take no minute to start.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reading)
            with os.fdopen(writing, "w", buffering=1) as said:
                work(said)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as said:
        try:
            yield pid, said
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def test_of_processes_that_race_for_the_lease_exactly_one_gets_it_each_time(database):
    rounds = 60

    def race(name):
        def work(said):
            records = DatabaseRecords(database, "cluster")
            seen = Lease()
            while seen.renewals < rounds:
                taken = records.take(name, seen)
                if taken:
                    print(taken.renewals, file=said)
                seen = records.lease()

        return work

    with child(race("one")) as (_, first), child(race("two")) as (_, second):
        wins = [[int(line) for line in said] for said in (first, second)]
    assert sorted(wins[0] + wins[1])[:rounds] == list(range(1, rounds + 1))
    assert len(set(wins[0] + wins[1])) == len(wins[0] + wins[1])


def test_controllers_that_start_at_once_do_not_collide(address):
    def work(said):
        upgrade(Database(address))
        print("ready", DatabaseRecords(Database(address), "cluster").lease().renewals, file=said)

    with (
        child(work) as (_, one),
        child(work) as (_, two),
        child(work) as (_, three),
        child(work) as (_, four),
    ):
        assert [said.read() for said in (one, two, three, four)] == ["ready 0\n"] * 4


def test_threads_of_one_controller_share_its_database(database):
    records = DatabaseRecords(database, "cluster")

    def work(number):
        for job in range(10):
            (entry_id,) = begin(records, make_action(job, display_id=str(number)))
            records.finish(NOW, {entry_id: ("done", "")})
            assert records.entries(limit=1)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))  # raises what a thread raised
    entries = records.entries()
    assert len(entries) == 40
    assert {entry.outcome for entry in entries} == {"done"}


def lead(database, name, seconds):
    """Take part until killed; whenever this process leads, say when, and until when for certain."""

    def work(said):
        clock = SystemClock()
        leading = Leading(DatabaseRecords(database, "cluster"), clock, name, seconds)
        while True:
            leading.tick()
            now = clock.monotonic()
            if left := leading.seconds_left():
                print(now, now + left, file=said)
            time.sleep(0.02)

    return work


def claims_until(said, moment):
    """What a process said of leading, up to the first time after *moment*."""
    while True:
        assert select.select([said], [], [], 60)[0], "nobody took over"
        now, until = map(float, said.readline().split())
        yield now, until
        if now > moment:
            return


def test_one_leads_at_a_time_whoever_is_stopped_and_for_how_long(database):
    clock = SystemClock()
    claims = {"one": [], "two": []}
    with (
        child(lead(database, "one", 0.3)) as (one, said_one),
        child(lead(database, "two", 0.3)) as (two, said_two),
    ):
        processes = {"one": (one, said_one), "two": (two, said_two)}
        for stopped, other in [("one", "two"), ("two", "one")] * 2:
            os.kill(processes[stopped][0], signal.SIGSTOP)
            claims[other] += claims_until(processes[other][1], clock.monotonic())
            os.kill(processes[stopped][0], signal.SIGCONT)
    for name, other in (("one", "two"), ("two", "one")):
        for now, _ in claims[name]:
            before = [until for moment, until in claims[other] if moment < now]
            assert max(before, default=0) <= now, "two led at once"


def write_batches(database, number):
    """Begin and finish batches until killed; say what was promised as soon as it was."""

    def work(said):
        records = DatabaseRecords(database, "cluster")
        for count in range(100_000):
            batch = f"{number}.{count}"
            actions = [make_action(job, display_id=batch) for job in range(BATCH)]
            ids = begin(records, *actions)
            print(json.dumps([batch, "begun", ids]), file=said)
            records.finish(NOW, dict.fromkeys(ids, ("done", "")))
            print(json.dumps([batch, "finished", ids]), file=said)

    return work


def promises_in(said):
    """What a killed process had said, but for a line it did not get to the end of."""
    for line in said.splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)


def test_a_controller_killed_at_any_moment_leaves_the_log_whole(database):
    records = DatabaseRecords(database, "cluster")
    chance = random.Random(3)  # noqa: S311 - no secret
    promised = {}
    for number in range(KILLS):
        with child(write_batches(database, number)) as (pid, said):
            # Two of three are killed after their first word, the others perhaps before it.
            text_said = said.readline() if number % 3 else ""
            time.sleep(chance.uniform(0, 0.06))
            os.kill(pid, signal.SIGKILL)
            for batch, moment, ids in promises_in(text_said + said.read()):
                promised[batch] = moment, ids
        # Whoever comes next can write at once: no lock outlives its holder.
        assert records.take("next", records.lease()) == Lease("next", number + 1)
    found = {}
    for entry in records.entries(limit=1_000_000):
        found.setdefault(entry.action.display_id, []).append(entry)
    for batch, entries in found.items():
        assert len(entries) == BATCH, f"batch {batch} was written by half"
        assert len({entry.outcome for entry in entries}) == 1, f"batch {batch} finished by half"
    for batch, (moment, ids) in promised.items():
        assert [entry.entry_id for entry in found[batch]] == ids
        if moment == "finished":
            assert {entry.outcome for entry in found[batch]} == {"done"}
    assert len(promised) >= KILLS * 2 // 3  # else nothing of this was tested
    assert len(found) <= len(promised) + KILLS
    if database.is_sqlite:
        with database.reading() as connection:
            assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
