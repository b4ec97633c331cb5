"""Whatever happens in whatever order, the books agree with a plain sum over all runs."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from fractions import Fraction
from functools import lru_cache
from math import ceil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from slurm_gpu_policy.adapters.database.connection import Database
from slurm_gpu_policy.adapters.database.ledger import DatabaseLedger
from slurm_gpu_policy.adapters.database.upgrade import upgrade
from slurm_gpu_policy.errors import RecordsUnavailable
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.ledger import Claim, Posting
from slurm_gpu_policy.model.prices import Cost, Use
from slurm_gpu_policy.policy.ledger.budget import Funds, levels
from slurm_gpu_policy.services.ledger.charge import Charging
from slurm_gpu_policy.units import MICRO
from tests.builders import make_association, make_policy, make_snapshot
from tests.fakes.books import FakeLedger
from tests.fakes.clock import FakeClock
from tests.unit.services.slurm_of_runs import RunsOfSlurm

NOW = 1_800_000_000
DAY = 86_400
ENDS = (
    JobState.COMPLETED,
    JobState.FAILED,
    JobState.NODE_FAIL,
    JobState.PREEMPTED,
    JobState.TIMEOUT,
    JobState.CANCELLED,
)
ASSOCIATIONS = (
    make_association("root", "", parent=""),
    make_association("science", "", parent="root"),
    make_association("nlp", "", parent="science"),
    make_association("vision", "", parent="root"),
    *(make_association(account, user) for account in ("nlp", "vision") for user in ("u1", "u2")),
)
PARENTS = {one.account: one.parent for one in ASSOCIATIONS if not one.user}


class Books(RuleBasedStateMachine):
    """Things that happen to jobs, prices, budgets, slurmdbd and the controller."""

    def make_ledger(self):
        return FakeLedger()

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock(NOW)
        self.slurm = RunsOfSlurm(self.clock)
        self.ledger = self.make_ledger()
        self.price = 2_000_001
        self.prices: list = []  # (since, micro-units an hour), as recorded
        self.amount = 40
        self.tokens = 0
        self.refunds: dict = {}
        self.corrected: set = set()
        self.restart()
        self.run_once()

    # --- the site ------------------------------------------------------------------------------

    def load_policy(self):
        self.policy = make_policy(
            currency="EUR",
            gpu_types={
                "h100": {"price_per_hour": f"{self.price // MICRO}.{self.price % MICRO:06}"}
            },
            pricing={
                "timezone": "Europe/Berlin",
                "minimum_charge": "0.001",
                "refunds": {"node_failure": 70, "preemption": 33},
            },
            budgets={
                "nlp": {"amount": str(self.amount), "roll_over": 50},
                "nlp-extra": {"account": "nlp", "amount": "7", "period": "once"},
                "science": {"gpu_hours": 30, "period": "quarter", "overdraft_gpu_hours": 2},
                "each": {"account": "nlp", "amount": "9", "each_user": True, "period": "year"},
                "vision": {"amount": "3", "overdraft": "1"},
            },
        )

    @rule()
    def restart(self):
        self.load_policy()
        self.charging = Charging(self.ledger, self.slurm, self.clock, "policyd")

    @rule(price=st.integers(0, 5_000_000))
    def change_prices(self, price):
        self.price = price
        self.restart()

    @rule(amount=st.integers(0, 100))
    def change_the_budget(self, amount):
        self.amount = amount
        self.restart()

    @rule(hours=st.integers(0, 800))
    def time_passes(self, hours):
        self.clock.advance(hours * 3600)

    @rule(seconds=st.integers(0, 5000))
    def a_little_time_passes(self, seconds):
        self.clock.advance(seconds)

    # --- jobs ----------------------------------------------------------------------------------

    @rule(
        user=st.sampled_from(("u1", "u2")),
        account=st.sampled_from(("nlp", "nlp", "vision")),
        gpus=st.integers(0, 3),
        limit=st.one_of(st.none(), st.integers(60, 20_000)),
        tasks=st.sampled_from((1, 1, 1, 4)),
        promised=st.booleans(),
    )
    def submit(self, user, account, gpus, limit, tasks, promised):
        token = ""
        if promised:
            self.tokens += 1
            token = f"token{self.tokens}"
            self.promise(token, user, account, gpus, limit or 0, tasks)
        self.slurm.submit(
            user=user, account=account, gpus=gpus, limit=limit, tasks=tasks, token=token
        )

    @rule()
    def promise_without_a_job(self):
        self.tokens += 1
        self.promise(f"token{self.tokens}", "u1", "nlp", 1, 3600, 1)

    def promise(self, token, user, account, gpus, seconds, tasks):
        with self.ledger.writing() as books:
            (claim,) = books.save(
                [
                    Claim(
                        account=account,
                        user=user,
                        state="promised",
                        token=token,
                        tasks=tasks,
                        use=Use({"h100": gpus}),
                        seconds=seconds,
                        known_since=self.clock.now(),
                    )
                ]
            )
            funds = Funds(books.funds(open_only=True), PARENTS, actor=user)
            cost = Cost(gpus * seconds * 500, gpus * seconds)
            line, now = funds.line(account, user), self.clock.now()
            if not funds.short(line, cost, now):
                funds.reserve(claim.claim_id, line, cost, now, rule="B-003")
            books.post(now, funds.postings)

    def pick(self, data, *, runs):
        """One that runs, or one that waits; a new one if there is none."""
        found = [job for job in self.slurm.jobs if (job.start is not None) == runs]
        if found:
            return data.draw(st.sampled_from(found))
        job = self.slurm.submit(
            user=data.draw(st.sampled_from(("u1", "u2"))), gpus=data.draw(st.integers(1, 3))
        )
        if runs:
            self.run_once()
            self.slurm.start(job)
            self.clock.advance(data.draw(st.sampled_from((1, 100, 4000, 500_000))))
        return job

    @rule(data=st.data())
    def start_one(self, data):
        job = self.pick(data, runs=False)
        self.slurm.start(job)

    @rule(data=st.data())
    def suspend_or_resume(self, data):
        job = self.pick(data, runs=True)
        self.slurm.suspend_or_resume(job)

    @rule(data=st.data(), state=st.sampled_from(ENDS))
    def end_one(self, data, state):
        job = self.pick(data, runs=True)
        self.slurm.end(job, state)

    @rule(data=st.data())
    def cancel_a_waiting_one(self, data):
        job = self.pick(data, runs=False)
        self.slurm.cancel_waiting(job)

    @rule(data=st.data(), state=st.sampled_from((JobState.REQUEUED, JobState.NODE_FAIL)))
    def requeue(self, data, state):
        job = self.pick(data, runs=True)
        self.slurm.requeue(job, state)

    @rule()
    def nodes_come_to_rest(self):
        """Only now squeue shows the new submit times of jobs that were requeued."""
        for job in self.slurm.jobs:
            if job.start is None:
                job.shown_submit = job.submit

    @rule(data=st.data(), gpus=st.integers(1, 3))
    def resize(self, data, gpus):
        job = self.pick(data, runs=True)
        self.slurm.resize(job, gpus)

    @rule(data=st.data(), runs=st.booleans())
    def move_to_another_account(self, data, runs):
        job = self.pick(data, runs=runs)
        job.account = "vision" if job.account == "nlp" else "nlp"

    @rule(data=st.data())
    def change_the_limit(self, data):
        job = self.pick(data, runs=False)
        job.limit = 7200

    @rule(data=st.data(), seconds=st.integers(0, 40_000))
    def slurmdbd_corrects_a_run(self, data, seconds):
        """As Slurm 22.05 does where a job is requeued shortly after its end."""
        lately = self.clock.now() - 3000
        ended = [
            key
            for key, run in self.slurm.truth.items()
            if run.start_time is not None and run.end_time and run.end_time > lately
        ]
        if ended:
            key = data.draw(st.sampled_from(ended))
            self.corrected.add(key)
            self.slurm.correct(key, seconds)
            self.slurm.deliver(10**6)

    # --- slurmdbd ------------------------------------------------------------------------------

    @rule(count=st.integers(1, 10))
    def slurmdbd_hears(self, count):
        self.slurm.deliver(count)

    @rule()
    def slurmdbd_goes_or_comes(self):
        self.slurm.failing = not self.slurm.failing

    # --- operators -----------------------------------------------------------------------------

    @precondition(lambda self: self.charging.state.views)
    @rule(data=st.data(), amount=st.integers(1, 10_000_000))
    def grant(self, data, amount):
        funds = [view.fund for view in self.charging.state.views if view.fund.budget]
        fund = data.draw(st.sampled_from(funds))
        with self.ledger.writing() as books:
            posting = Posting("grant", fund.fund_id, "site", "available", amount, "B-012", "root")
            books.post(self.clock.now(), [posting])

    @rule(data=st.data(), percent=st.integers(1, 30))
    def refund(self, data, percent):
        with self.ledger.writing() as books:
            settled = [claim for claim in books.claims_between(0, 2**40) if claim.settled]
            if not settled:
                return
            claim = data.draw(st.sampled_from(settled))
            postings = []
            for leg in claim.legs:
                amount = min(leg.charged * percent // 100, leg.charged - leg.refunded)
                key = (claim.claim_id, leg.fund_id)
                self.refunds[key] = self.refunds.get(key, 0) + amount
                postings.append(
                    Posting(
                        "refund",
                        leg.fund_id,
                        "spent",
                        "available",
                        amount,
                        "C-411",
                        "root",
                        claim_id=claim.claim_id,
                    )
                )
            books.post(self.clock.now(), postings)

    # --- the controller ------------------------------------------------------------------------

    @rule()
    def tick(self):
        self.run_once()

    @rule(calls=st.integers(0, 40))
    def tick_that_is_killed(self, calls):
        self.ledger.fail_after(calls)
        try:
            self.run_once()
        except RecordsUnavailable:
            self.restart()
        self.ledger.fail_after(10**9)

    def run_once(self):
        snapshot = make_snapshot(
            time=self.clock.now(), jobs=self.slurm.queue(), associations=ASSOCIATIONS
        )
        self.charging.run(snapshot, self.policy)

    # --- what must hold ------------------------------------------------------------------------

    @invariant()
    def nothing_disagrees(self):
        assert self.ledger.problems() == ()

    def teardown(self):
        for job in list(self.slurm.jobs):
            if job.start is None:
                self.slurm.cancel_waiting(job)
            else:
                self.slurm.end(job, JobState.COMPLETED)
        self.slurm.failing = False
        self.slurm.deliver(10**6)
        for _ in range(20):
            self.run_once()
            self.clock.advance(4000)
        assert self.ledger.problems() == ()
        self.compare()

    def compare(self):
        with self.ledger.reading() as books:
            recorded = books.tariffs()
            funds = {fund.fund_id: fund for fund in books.funds()}
            assert books.open_claims() == ()
            claims = {(one.job_id, one.submit_time): one for one in books.claims_between(0, 2**40)}
        history = [(since, book[0].prices.gpus["h100"]) for since, book in recorded]
        ran = {key: run for key, run in self.slurm.truth.items() if run.start_time is not None}
        assert claims.keys() == ran.keys()
        for key, run in ran.items():
            self.compare_run(run, claims[key], funds, history)
        for fund in funds.values():
            assert fund.reserved == 0

    def compare_run(self, run, claim, funds, history):
        gpus = run.allocated_tres.get("gres/gpu", 0)
        end = run.start_time + run.elapsed_seconds

        def cost_until(at):
            exact = Fraction(0)
            for place, (since, price) in enumerate(history):
                until = history[place + 1][0] if place + 1 < len(history) else 2**40
                seconds = min(at, until) - max(run.start_time, since if place else 0)
                exact += Fraction(max(seconds, 0) * gpus * price, 3600)
            return max(ceil(exact), 1000) if exact else 0

        legs = {leg.fund_id: leg for leg in claim.legs}
        for level in levels(run.account, run.user, PARENTS):
            mine = [fund for fund in funds.values() if fund.level == level]
            wanted = seconds = 0
            for window in sorted({(fund.start, fund.end) for fund in mine if fund.end}) or [
                (0, 2**40)
            ]:
                begin, until = max(window[0], run.start_time), min(window[1], end)
                if until > begin and mine:
                    wanted += cost_until(until) - cost_until(begin)
                    seconds += gpus * (until - begin)
            unit = mine[0].unit if mine else "money"
            held = [legs[fund.fund_id] for fund in mine if fund.fund_id in legs]
            charged = sum(leg.charged for leg in held)
            assert (sum(leg.gpu_seconds for leg in held), charged) == (
                seconds,
                wanted if unit == "money" else seconds,
            ), (level, run, claim)
        percent = {"NODE_FAIL": 70, "PREEMPTED": 33}.get(claim.end_state, 0)
        for leg in claim.legs:
            by_hand = self.refunds.get((claim.claim_id, leg.fund_id), 0)
            by_rule = leg.charged * percent // 100
            if by_hand and (run.job_id, run.submit_time) in self.corrected:
                # Of what was given back by hand as much stands as the charge ever allowed.
                assert leg.refunded <= min(leg.charged, by_rule + by_hand)
            else:
                assert leg.refunded == by_rule + by_hand
        elsewhere = legs.keys() - {
            fund.fund_id
            for level in levels(run.account, run.user, PARENTS)
            for fund in funds.values()
            if fund.level == level
        }
        assert all(legs[one].charged == legs[one].gpu_seconds == 0 for one in elsewhere)


class Interrupted:
    """A ledger whose N-th call from now within blocks fails, as FakeLedger's does."""

    def __init__(self, ledger) -> None:
        self._ledger = ledger
        self._countdown = None

    def fail_after(self, calls):
        self._countdown = calls

    def problems(self):
        return self._ledger.problems()

    @contextmanager
    def reading(self):
        with self._ledger.reading() as books:
            yield Interruptible(books, self.count)

    @contextmanager
    def writing(self):
        with self._ledger.writing() as books:
            yield Interruptible(books, self.count)
            self.count()

    def count(self):
        if self._countdown is not None:
            self._countdown -= 1
            if self._countdown < 0:
                self._countdown = None
                msg = "the database went away"
                raise RecordsUnavailable(msg)


class Interruptible:
    def __init__(self, books, count) -> None:
        self._books = books
        self._count = count

    def __getattr__(self, name):
        self._count()
        return getattr(self._books, name)


@lru_cache
def empty_database():
    path = Path(tempfile.mkdtemp()) / "empty.db"
    upgrade(Database(f"sqlite:///{path}"))
    return path


class StoredBooks(Books):
    """The same on SQLite."""

    def make_ledger(self):
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "policy.db"
        shutil.copy(empty_database(), path)
        self.database = Database(f"sqlite:///{path}")
        return Interrupted(DatabaseLedger(self.database, "cluster"))

    def teardown(self):
        try:
            super().teardown()
        finally:
            self.folder.cleanup()


TestBooks = pytest.mark.filterwarnings("default")(Books.TestCase)
TestBooks.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)

TestStoredBooks = pytest.mark.filterwarnings("default")(StoredBooks.TestCase)
TestStoredBooks.settings = settings(TestBooks.settings, max_examples=6, stateful_step_count=30)
