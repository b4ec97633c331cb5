"""A controller's ticks with books in memory, one at a word: for a cluster without their database.

``python -m tests.e2e.budget_driver POLICY`` reads lines: ``tick``; ``ask ACCOUNT USER GPUS
SECONDS``, what the ledger says to such a request; ``grant ACCOUNT USER SECONDS`` (``-``: no user);
``table``. It answers each with one line of JSON. The policy file is read anew at each tick.
"""

from __future__ import annotations

import json
import sys
from types import MappingProxyType

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.adapters.clock import SystemClock
from slurm_gpu_policy.adapters.files.local import LocalFiles
from slurm_gpu_policy.adapters.slurm.limiting import CommandLimits
from slurm_gpu_policy.model.ledger import Posting
from slurm_gpu_policy.model.prices import Use
from slurm_gpu_policy.policy.ledger.budget import Funds
from slurm_gpu_policy.policy.ledger.over_budget import cover
from slurm_gpu_policy.policy.ledger.overspending import endings
from slurm_gpu_policy.policy.limits_table import PARTS, table_text
from slurm_gpu_policy.policy.over_quota import moves
from slurm_gpu_policy.policy.prices.pricing import cost
from slurm_gpu_policy.policy.prices.tariffs import price_book
from slurm_gpu_policy.services.ledger.charge import Charging
from slurm_gpu_policy.services.ledger.enforcing import Enforcing
from slurm_gpu_policy.services.tick import Tick
from tests.fakes.books import FakeLedger
from tests.fakes.records import FakeRecords


class Books:
    """Money of a tick, as services/tick.py asks for it."""

    def __init__(self, ledger, charging, enforcing):
        self.ledger, self.charging, self.enforcing = ledger, charging, enforcing
        self.state = self.report = None
        self.remarks = ()

    def charge(self, snapshot, policy):
        self.state = self.charging.run(snapshot, policy)

    def follow(self, snapshot, policy):
        self.remarks = self.enforcing.run(snapshot, policy, self.state)
        return ()


class Driver:
    def __init__(self, path):
        self.path = path
        self.policy = bootstrap.load_policy(path)
        self.clock = SystemClock()
        self.slurm = bootstrap.connect(self.policy)
        ledger = FakeLedger()
        self.books = Books(
            ledger,
            Charging(ledger, self.slurm, self.clock, "test"),
            Enforcing(CommandLimits(20), ledger, LocalFiles()),
        )
        self.tick_object = Tick(
            slurm=self.slurm,
            records=FakeRecords(),
            clock=self.clock,
            deciders=(
                lambda snapshot, policy, _: cover(snapshot, policy, self.books.state),
                lambda snapshot, policy, _: endings(snapshot, policy, self.books.state),
                lambda snapshot, policy, _: moves(snapshot, policy),
            ),
            actor="test",
            money=self.books,
        )

    def tick(self):
        self.policy = bootstrap.load_policy(self.path)
        report = self.tick_object.run(self.policy)
        state = self.books.state
        return {
            "errors": list(report.messages),
            "actions": [
                {"job": int(one.action.job_id), "verb": one.action.verb, "rule": one.action.rule,
                 "outcome": one.outcome, "words": one.words, "reason": one.action.reason}
                for one in report.actions
            ],
            "remarks": list(self.books.remarks),
            "uncovered": [int(number) for number in state.uncovered] if state else [],
            "overspent": [list(level) for level in state.overspent] if state else [],
            "problems": list(state.problems) if state else [],
            "left": {
                " ".join(view.fund.level).strip(): view.fund.available
                for view in (state.views if state else ())
                if view.fund.account
            },
        }  # fmt: skip

    def ask(self, account, user, gpus, seconds):
        state, now = self.books.state, self.clock.now()
        funds = Funds((view.fund for view in state.views), state.parents)
        count = int(gpus)
        use = Use(MappingProxyType({"h100": count}), 1, 8000, "gpu", "normal")
        price = cost(use, now, now + int(seconds), price_book(self.policy))
        line = funds.line(account, user)
        shorts = funds.short(line, price, now)
        words = [[one.account, one.user, one.left, one.needed] for one in shorts]
        return {"covered": not shorts, "short": words}

    def grant(self, account, user, amount):
        now = self.clock.now()
        with self.books.ledger.writing() as books:
            fund = next(one for one in books.funds(open_only=True) if one.level == (account, user))
            books.post(now, [Posting("grant", fund.fund_id, "site", "available", int(amount),
                                     "B-012", "root", "more")])  # fmt: skip
        return {"granted": int(amount)}

    def table(self):
        """Write what `gpu-policy apply` would write for job_submit.lua."""
        self.policy = bootstrap.load_policy(self.path)
        snapshot = self.slurm.read(*PARTS, fresh=True)
        LocalFiles().write(self.policy.apply.limits_table, table_text(self.policy, snapshot))
        return {}


def main():
    driver = Driver(sys.argv[1])
    for line in sys.stdin:
        verb, *words = ("" if word == "-" else word for word in line.split())
        sys.stdout.write(json.dumps(getattr(driver, verb)(*words)) + "\n")
        sys.stdout.flush()


main()
