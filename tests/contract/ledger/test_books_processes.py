"""Several processes on one ledger, and processes that are killed."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from contextlib import ExitStack
from dataclasses import replace

from sqlalchemy import text

from slurm_gpu_policy.adapters.database.connection import Database
from slurm_gpu_policy.adapters.database.ledger import DatabaseLedger
from slurm_gpu_policy.model.prices import Cost
from tests.contract.ledger.scenes import (
    NOW,
    balances,
    ended,
    fund,
    opened,
    posting,
    promise,
    run,
)
from tests.contract.records.test_processes import child, promises_in

MANY = 50
KILLS = 60


def test_fifty_writers_lose_nothing_of_one_another(address, stored):
    (one,) = opened(stored)
    each = 4

    def work(said):
        ledger = DatabaseLedger(Database(address, patience_seconds=60), "cluster")
        for _ in range(each):
            with ledger.writing() as books:
                count = books.mark("count") or 0
                books.set_mark("count", count + 1)
                books.post(NOW, [posting("adjust", one.fund_id, count)])
        print("done", file=said)

    with ExitStack() as stack:
        said = [stack.enter_context(child(work))[1] for _ in range(MANY)]
        assert [one.read() for one in said] == ["done\n"] * MANY
    with stored.reading() as books:
        assert books.mark("count") == MANY * each
        assert [entry.posting.amount for entry in books.entries()] == list(range(MANY * each))
    assert stored.problems() == ()


def test_of_fifty_who_race_for_the_last_credit_exactly_one_gets_it(address, stored):
    (one,) = opened(stored, granted=100)

    def race(number):
        def work(said):
            ledger = DatabaseLedger(Database(address, patience_seconds=60), "cluster")
            with ledger.writing() as books:
                (found,) = books.funds()
                if found.available >= 100:
                    (claim,) = books.save([promise(f"t{number}")])
                    books.post(NOW, [posting("reserve", one.fund_id, 100, claim=claim)])
                    print("mine", file=said)

        return work

    with ExitStack() as stack:
        said = [stack.enter_context(child(race(number)))[1] for number in range(MANY)]
        assert sorted(one.read() for one in said) == [""] * (MANY - 1) + ["mine\n"]
    assert balances(stored) == (0, 100, 0)
    assert stored.problems() == ()


def charge_until_killed(address, own, lab, number):
    """Let runs wait, run and end, a block each; say what was done as soon as it was."""

    def work(said):
        ledger = DatabaseLedger(Database(address, patience_seconds=60), "cluster")
        for count in range(100_000):
            job = number * 100_000 + count * 10 + 1
            with ledger.writing() as books:
                claims = books.save([run(job + task) for task in range(3)])
                books.post(NOW, [posting("reserve", lab, 50, claim=claim) for claim in claims])
            print(json.dumps([job, "waiting"]), file=said)
            with ledger.writing() as books:
                claims = books.claims([(job + task, NOW) for task in range(3)])
                books.save([replace(one, state="running", accrued=Cost(1, 1)) for one in claims])
            print(json.dumps([job, "running"]), file=said)
            with ledger.writing() as books:
                books.save(
                    [
                        replace(ended(one.job_id, accrued=Cost(30, 3)), claim_id=one.claim_id)
                        for one in books.claims([(job + task, NOW) for task in range(3)])
                    ]
                )
                for claim in claims:
                    taken = {"claim": claim, "move": ("reserved", "spent"), "gpu_seconds": 3}
                    books.post(NOW, [posting("charge", lab, 30, **taken)])
                    books.post(NOW, [posting("release", lab, 20, claim=claim)])
                    books.post(NOW, [posting("charge", own, 30, claim=claim, gpu_seconds=3)])
                books.set_mark("last", job)
            print(json.dumps([job, "ended"]), file=said)

    return work


def test_a_controller_killed_at_any_moment_leaves_the_ledger_whole(address, database, stored):
    own, lab = opened(stored, fund("", "", unlimited=True), fund())
    chance = random.Random(5)  # noqa: S311 - no secret
    promised = {}
    for number in range(KILLS):
        with child(charge_until_killed(address, own.fund_id, lab.fund_id, number)) as (pid, said):
            first = said.readline() if number % 3 else ""
            time.sleep(chance.uniform(0, 0.06))
            os.kill(pid, signal.SIGKILL)
            promised.update(promises_in(first + said.read()))
        assert stored.problems() == ()
    assert len(promised) >= KILLS // 2  # else nothing of this was tested
    with stored.reading() as books:
        for job, moment in promised.items():
            states = {one.state for task in range(3) for one in books.claims_of(job + task)}
            assert len(states) == 1, f"block {job} was written by half"
            order = ["pending", "running", "ended"]
            said_so = {"waiting": "pending"}.get(moment, moment)
            assert order.index(states.pop()) >= order.index(said_so)
        ends = sum(1 for one in books.claims_between(0, NOW * 2) if one.state == "ended")
        found = {one.fund_id: one for one in books.funds()}
    assert found[lab.fund_id].spent == found[own.fund_id].spent == ends * 30
    if database.is_sqlite:
        with database.reading() as connection:
            assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
