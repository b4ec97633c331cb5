"""A cluster whose jobs follow from the time alone, and a controller that charges them.

Whatever is killed and begun again finds the same jobs, so that the books of one that was killed
two hundred times can be held against those of one that never was.
"""

from __future__ import annotations

import os
from functools import cache
from types import MappingProxyType

from slurm_gpu_policy.model.job import AccountingRecord, JobState
from slurm_gpu_policy.services.ledger.charge import Charging
from tests.builders import make_association, make_job, make_policy, make_snapshot
from tests.fakes.clock import FakeClock

MONTH_END = 1_801_440_000  # 2027-02-01T00:00:00Z
BEGIN = MONTH_END - 2 * 3600
TICK_SECONDS = 60
STEP_SECONDS = 12
"""From one job's submission to the next."""
_REMEMBERED_SECONDS = 90
"""For which the queue has ended jobs."""
_LATE_SECONDS = 70
"""After which slurmdbd hears of some ends."""
ACCOUNTS = ("nlp", "vision")
ENDS = (
    JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.NODE_FAIL,
    JobState.TIMEOUT, JobState.PREEMPTED, JobState.REQUEUED,
)  # fmt: skip
ASSOCIATIONS = (
    make_association("root", "", parent=""),
    make_association("nlp", "", parent="root"),
    make_association("vision", "", parent="root"),
    *(make_association(account, f"u{n}") for account in ACCOUNTS for n in range(4)),
)


@cache
def policy(price):
    """Return budgets of one fund a level: of several, which one pays depends on what was first."""
    return make_policy(
        currency="EUR",
        gpu_types={"h100": {"price_per_hour": price}},
        pricing={"cpu_hour": "0.013", "refunds": {"preemption": 50}},
        budgets={
            "nlp": {"amount": "900", "roll_over": 50},
            "vision": {"gpu_hours": 800, "period": "quarter"},
            "each": {"account": "vision", "each_user": True, "gpu_hours": 60},
        },
    )


class Run:
    """The run with this number: everything of it follows from that."""

    def __init__(self, number):
        self.number = number
        self.submit = BEGIN - 3600 + number * STEP_SECONDS
        self.wait = 5 + (number * 7919) % 400
        self.seconds = 1 + (number * 104_729) % 3000
        self.state = ENDS[number % len(ENDS)]
        self.never_starts = number % 17 == 5
        self.gpus = 1 + number % 3
        self.user = f"u{number % 4}"
        self.account = ACCOUNTS[number % 2]
        self.start = self.submit + self.wait
        self.suspended = 30 if number % 11 == 0 and self.seconds > 60 else 0
        self.end = self.submit + self.wait if self.never_starts else self.start + self.seconds
        self.known = self.end + (_LATE_SECONDS if number % 3 == 0 else 0)

    @property
    def tres(self):
        gpus = {"gres/gpu": self.gpus, "gres/gpu:h100": self.gpus}
        return MappingProxyType({"cpu": 4 * self.gpus, "mem": 1000, **gpus})

    def job(self, now):
        """Return it as the queue has it; ``None`` where it has not."""
        if not self.submit <= now < self.end + _REMEMBERED_SECONDS:
            return None
        given = {
            "user": self.user, "account": self.account, "gpus": self.gpus, "cpus": 4 * self.gpus,
            "submit_time": self.submit, "eligible_time": self.submit, "tres": self.tres,
        }  # fmt: skip
        if now < self.start or (self.never_starts and now < self.end):
            wait = {"state": JobState.PENDING, "start_time": None, "node_list": ""}
            return make_job(self.number + 1, **wait, **given)
        if now < self.end:
            elapsed = max(0, now - self.start - self.suspended)
            return make_job(
                self.number + 1, start_time=self.start, elapsed_seconds=elapsed, **given
            )
        if self.never_starts:
            over = {"state": JobState.CANCELLED, "start_time": self.end, "node_list": ""}
            return make_job(self.number + 1, end_time=self.end, **over, **given)
        return make_job(
            self.number + 1, state=self.state, start_time=self.start, end_time=self.end,
            elapsed_seconds=self.seconds - self.suspended, **given,
        )  # fmt: skip

    def record(self, now):
        """Return it as the accounting has it; ``None`` where it has not."""
        if self.never_starts and now < self.known:
            return None
        if now < self.start:
            return None
        is_over = now >= self.known
        elapsed = (self.end if is_over else now) - self.start - self.suspended
        return AccountingRecord(
            job_id=self.number + 1, display_id=str(self.number + 1), user=self.user,
            account=self.account, partition="gpu", qos="normal", name="job",
            state=self.state if is_over else JobState.RUNNING, submit_time=self.submit,
            eligible_time=self.submit, start_time=None if self.never_starts else self.start,
            end_time=self.end if is_over else None,
            elapsed_seconds=0 if self.never_starts else max(0, elapsed),
            suspended_seconds=self.suspended, time_limit_seconds=3600, exit_code=0, exit_signal=0,
            node_list="" if self.never_starts else "gpu01",
            allocated_tres={} if self.never_starts else self.tres,
        )  # fmt: skip


class Cluster:
    """Implements AccountPort, at the time of a clock."""

    def __init__(self, clock, last=None):
        """No job is submitted after *last* (Unix seconds)."""
        self.clock = clock
        self.last = last

    def _runs(self, back=7200):
        """Return the runs of which the queue or the accounting may tell by now."""
        now = self.clock.now()
        latest = now if self.last is None else min(now, self.last)
        first = max(0, (now - back - BEGIN) // STEP_SECONDS)
        return [Run(n) for n in range(first, (latest - BEGIN + 3600) // STEP_SECONDS + 1)]

    def snapshot(self):
        now = self.clock.now()
        jobs = tuple(job for run in self._runs() if (job := run.job(now)) is not None)
        return make_snapshot(time=now, jobs=jobs, associations=ASSOCIATIONS)

    def accounting(self, *, start=None, end=None, job_ids=(), users=(), accounts=()):
        now = self.clock.now()
        found = [one for run in self._runs(10**9) if (one := run.record(now)) is not None]
        if job_ids:
            return tuple(one for one in found if str(one.job_id) in job_ids)
        return tuple(
            one
            for one in found
            if one.start_time is not None
            and (end is None or one.start_time < end)
            and (start is None or one.end_time is None or one.end_time > start)
        )

    def accounting_backlog(self):
        return 0 if (self.clock.now() // TICK_SECONDS) % 3 else 1


class Times:
    """How far it has come: in a file, changed only after a tick is over."""

    def __init__(self, path):
        self.path = path

    def now(self):
        return int(self.path.read_text()) if self.path.exists() else BEGIN

    def move_on(self):
        new = self.path.with_suffix(f".{os.getpid()}")
        new.write_text(str(self.now() + TICK_SECONDS))
        new.replace(self.path)


def charge(ledger, times, *, until=None, last=None, said=None):
    """Charge tick by tick; with a higher price from the fortieth tick on."""
    clock = FakeClock(times.now())
    cluster = Cluster(clock, last)
    charging = Charging(ledger, cluster, clock, "policyd")
    while until is None or clock.now() < until:
        price = "2.5" if clock.now() < BEGIN + 40 * TICK_SECONDS else "3.1"
        charging.run(cluster.snapshot(), policy(price))
        times.move_on()
        clock.seconds = float(times.now())
        if said is not None:
            print("tick", file=said)


def standing(ledger):
    """Return what the books say in the end: of each fund, and of each run."""
    with ledger.reading() as books:
        funds = {fund.fund_id: fund for fund in books.funds()}
        names = {
            fund_id: (fund.budget, fund.account, fund.user, fund.start)
            for fund_id, fund in funds.items()
        }
        balances = {
            names[fund_id]: (fund.available, fund.reserved, fund.spent, fund.closed)
            for fund_id, fund in funds.items()
        }
        runs = {
            (claim.job_id, claim.submit_time): (
                claim.state,
                claim.settled,
                claim.seconds,
                sorted(
                    (names[x.fund_id], x.charged, x.refunded, x.gpu_seconds) for x in claim.legs
                ),
            )
            for claim in books.claims_between(0, 2**40)
        }
    return balances, runs
