"""Fifty processes that want the last credit, on real databases: exactly as many get it as fit."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest

from slurm_gpu_policy.adapters.database.connection import Database
from slurm_gpu_policy.adapters.database.ledger import DatabaseLedger
from slurm_gpu_policy.model.caller import Caller
from slurm_gpu_policy.model.ledger import Fund, Posting
from slurm_gpu_policy.model.prices import Use
from slurm_gpu_policy.model.promise import Ask
from slurm_gpu_policy.policy.prices.pricing import price_book
from slurm_gpu_policy.services.directory import Directory
from slurm_gpu_policy.services.ledger.promising import Promising, ask_fields
from slurm_gpu_policy.units import MICRO
from tests.builders import make_policy
from tests.contract.records.test_processes import child
from tests.fakes.clock import FakeClock
from tests.fakes.people import FakePeople
from tests.fakes.slurm import FakeSlurm

HOUR = 3600
RACERS = 50
POLICY = make_policy(gpu_types={"h100": {"price_per_hour": "1"}}, ledger={"keep": True})


def racer(address, number):
    """Return what a process does: wait for the word, then ask for what costs one credit."""

    def work(said):
        clock = FakeClock()
        slurm = FakeSlurm(clock=clock)
        promising = Promising(
            ledger=DatabaseLedger(Database(address, patience_seconds=60), "cluster"),
            slurm=slurm,
            policy=lambda: POLICY,
            clock=clock,
            directory=Directory(FakePeople(), lambda _: (), clock),
        )
        user, account = [("u1", "nlp-pretrain"), ("u2", "nlp-finetune")][number % 2]
        use = Use(gpus={"h100": 1}, partition="gpu", qos="normal")
        ask = Ask(f"t{number}", account, user, use, HOUR)
        answer = promising.promise(Caller(6000, user), {"asks": [ask_fields(ask)]})
        said.write(json.dumps(answer["promises"][0]["covered"]) + "\n")

    return work


@pytest.mark.parametrize("fit", [1, 7])
def test_of_fifty_processes_exactly_as_many_are_covered_as_the_budget_has_room_for(
    database, address, fit
):
    ledger = DatabaseLedger(database, "cluster")
    with ledger.writing() as books:
        books.record_tariffs(0, price_book(POLICY))
        (fund,) = books.open_funds([Fund("nlp", "nlp")])
        grant = Posting("grant", fund.fund_id, "site", "available", fit * MICRO, "B-005", "policy")
        books.post(FakeClock().now(), [grant])
    with ExitStack() as stack:
        racers = [stack.enter_context(child(racer(address, n))) for n in range(RACERS)]
        covered = [json.loads(said.readline()) for _, said in racers]
    assert covered.count(True) == fit
    assert covered.count(False) == RACERS - fit
    assert ledger.problems() == ()
    with ledger.reading() as books:
        (fund,) = [one for one in books.funds() if one.account == "nlp"]
    assert (fund.available, fund.reserved) == (0, fit * MICRO)
