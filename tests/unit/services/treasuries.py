"""A treasury with people, budgets and jobs: who may see what is what its tests are about."""

from __future__ import annotations

import itertools

from slurm_gpu_policy.model.caller import Caller
from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.ledger import Claim, Fund, Posting
from slurm_gpu_policy.model.prices import Use
from slurm_gpu_policy.services.directory import Directory
from slurm_gpu_policy.services.ledger.treasury import Treasury
from tests.builders import DAY, NOW, make_policy
from tests.fakes.books import FakeLedger
from tests.fakes.clock import FakeClock
from tests.fakes.people import FakePeople
from tests.fakes.slurm import FakeSlurm

ROOT, U1, U2, U3, U4 = (
    Caller(user_id, user)
    for user_id, user in ((0, "root"), *((6000 + n, f"u{n}") for n in (1, 2, 3, 4)))
)
BOSS = Caller(6009, "boss")
"""Coordinates nlp, and so nlp-finetune and nlp-pretrain below it."""
STRANGER = Caller(6010, "stranger")
MICRO = 1_000_000


class Site:
    """The people of `make cluster`: u1 and u2 below nlp, u1 in vision, u3 and u4 below it."""

    def __init__(self, books=None, **policy):
        self.clock = FakeClock(NOW)
        self.ledger = books or FakeLedger()
        self.slurm = FakeSlurm()
        self.people = FakePeople(coordinators={"nlp": ["boss"], "vision": ["vboss"]})
        settings = {"operators": ["oper"], "currency": "EUR", "ledger": {"keep": True}}
        self.policy = make_policy(**{**settings, **policy})
        self.reconciled = []
        self.treasury = Treasury(
            ledger=self.ledger,
            slurm=self.slurm,
            policy=lambda: self.policy,
            clock=self.clock,
            directory=Directory(self.people, lambda _user: (), self.clock),
            reconcile=self._reconcile,
        )
        self.numbers = itertools.count(1)
        self.funds = {}

    def _reconcile(self, since, *, repair=False):
        self.reconciled.append((since, repair))
        return {"entries": 1, "checked": 2, "differences": []}

    def ask(self, caller, name, /, **fields):
        return self.treasury.handle(caller, {"request": name, **fields})

    def write(self, caller, name, /, **fields):
        """Ask for something that writes, with an id and a reason of its own."""
        more = {"id": f"request-{next(self.numbers)}", "reason": "because", **fields}
        return self.ask(caller, name, **more)

    def open(self, account="nlp-finetune", user="", amount=100 * MICRO, **fields):
        """Open a fund with an amount granted, and return it as it stands."""
        defaults = {"budget": account or "", "start": NOW - 10 * DAY, "end": NOW + 20 * DAY}
        with self.ledger.writing() as books:
            (fund,) = books.open_funds([Fund(account=account, user=user, **{**defaults, **fields})])
            if amount:
                grant = Posting(
                    "grant", fund.fund_id, "site", "available", amount, "B-005", "policy"
                )
                books.post(NOW - 10 * DAY, [grant])
        return self.fund(fund.fund_id)

    def own(self, **fields):
        """The cluster's own fund."""
        return self.open("", amount=0, unlimited=True, **fields)

    def fund(self, fund_id):
        with self.ledger.reading() as books:
            return next(fund for fund in books.funds() if fund.fund_id == fund_id)

    def run(self, job, funds, *, account="nlp-finetune", user="u1", cost=10 * MICRO, **fields):
        """Let a run have ended that was charged ``cost`` on each fund, or parts on several."""
        defaults = {
            "submit_time": NOW - 2 * DAY,
            "start_time": NOW - 2 * DAY,
            "end_time": NOW - 2 * DAY + 3600,
            "seconds": 3600,
            "use": Use(gpus={"h100": 2}),
            "state": "ended",
            "end_state": "COMPLETED",
            "settled": True,
            "known_since": NOW - 2 * DAY,
        }
        claim = Claim(account=account, user=user, job_id=JobId(job), **{**defaults, **fields})
        with self.ledger.writing() as books:
            (saved,) = books.save([claim])
            books.post(
                self.clock.now(),
                [
                    Posting(
                        "charge", fund.fund_id, "available", "spent",
                        part if isinstance(cost, int | tuple) else cost[place], "C-410", "tick",
                        gpu_seconds=7200, claim_id=saved.claim_id,
                    )
                    for place, fund in enumerate(funds)
                    for part in [cost if isinstance(cost, int) else cost[place]]
                ],
            )  # fmt: skip
        return saved

    def entries(self):
        with self.ledger.reading() as books:
            return tuple(books.entries())

    def sound(self):
        assert self.ledger.problems() == ()
