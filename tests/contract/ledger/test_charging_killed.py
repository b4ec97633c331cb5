"""Charging that is killed again and again, on both databases.

Slurm is a made-up one here (charged.py): what is tested is that the books stay right.
"""

from __future__ import annotations

import os
import random
import signal
import time

from slurm_gpu_policy.adapters.database.connection import Database
from slurm_gpu_policy.adapters.database.ledger import DatabaseLedger
from tests.contract.ledger.charged import BEGIN, MONTH_END, Times, charge, standing
from tests.contract.records.test_processes import child
from tests.fakes.books import FakeLedger

KILLS = 200
FIRST_TICKS = 3
REST_SECONDS = 4200
"""After the last submission: as long as anything waits or runs."""


def charge_until_killed(address, times):
    def work(said):
        store = Database(address, patience_seconds=30)
        charge(DatabaseLedger(store, "cluster"), times, said=said)

    return work


def test_two_hundred_kills_during_charging_change_no_balance(address, stored, tmp_path):
    times = Times(tmp_path / "now")
    began = time.monotonic()
    charge(stored, times, until=BEGIN + FIRST_TICKS * 60)
    tick_seconds = (time.monotonic() - began) / FIRST_TICKS
    chance = random.Random(7)  # noqa: S311 - no secret
    interrupted = 0
    for _ in range(KILLS):
        with child(charge_until_killed(address, times)) as (pid, said):
            time.sleep(chance.uniform(0, 2.2 * tick_seconds))
            before = times.now()
            os.kill(pid, signal.SIGKILL)
            said.read()
        interrupted += times.now() == before
        assert stored.problems() == ()
    assert interrupted > KILLS // 2
    last = max(times.now(), MONTH_END + 1800)
    charge(stored, times, until=last + REST_SECONDS, last=last)
    assert stored.problems() == ()

    undisturbed = FakeLedger()
    quiet = Times(tmp_path / "quiet")
    charge(undisturbed, quiet, until=last + REST_SECONDS, last=last)
    assert undisturbed.problems() == ()
    balances, runs = standing(stored)
    expected, expected_runs = standing(undisturbed)
    assert runs == expected_runs
    assert balances == expected
    assert len(runs) > KILLS
