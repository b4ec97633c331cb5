"""Measure charging: a tick of 10,000 running jobs, and 100,000 runs of the accounting.

    bench/ledger.py [--running 10000] [--runs 100000] [--rounds 5]

Needs no cluster: the queue and the accounting are made up here, and sacct's text is read as it
would be. Books are in SQLite, and in PostgreSQL where it is installed, whose server waits for its
disk as a site's does. There are budgets on accounts, on the one above them and for each user, and
prices that differ by the hour. Exits with 1 where a figure is above its limit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.adapters.database.connection import Database
from slurm_gpu_policy.adapters.database.ledger import DatabaseLedger
from slurm_gpu_policy.adapters.database.upgrade import upgrade
from slurm_gpu_policy.adapters.slurm import parse_accounting
from slurm_gpu_policy.services.ledger.charge import Charging

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_gpu_policy.model.account import Association
    from slurm_gpu_policy.model.job import AccountingRecord, Job
    from slurm_gpu_policy.model.snapshot import Snapshot

NOW = 1_800_000_000
ACCOUNTS = 40
USERS = 400
HOUR = 3600
SPAN_SECONDS = 5 * HOUR
"""In which the runs of the accounting end."""
MARK = "\x1fBENCH"
POLICY = {
    "currency": "EUR",
    "gpu_types": {"h100": {"price_per_hour": "2.5"}, "a100": {"price_per_hour": "1.3"}},
    "pricing": {
        "cpu_hour": "0.01",
        "hours": [{"start": "20:00", "end": "06:00", "factor": 0.6}],
        "qos": {"low": 0.5},
    },
    "budgets": {
        "lab": {"amount": "900000000"},
        "each": {"account": "account0", "each_user": True, "amount": "900000"},
        **{f"account{n}": {"amount": "90000000", "period": "quarter"} for n in range(ACCOUNTS)},
    },
}

MOST_TICK = 2.0
MOST_INGEST = 20.0
MOST_GROWTH = 1.5
"""Of the time for one run, from a quarter of them to all."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--running", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    report = measure(options.running, options.runs, options.rounds)
    print(json.dumps(report, indent=2))
    above = [f"{name} is {found}, above {most}" for name, found, most in limits(report)
             if found > most]  # fmt: skip
    sys.exit("; ".join(above) or 0)


def measure(running: int = 10_000, runs: int = 100_000, rounds: int = 5) -> dict[str, Any]:
    """Return seconds by database."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests import postgresql  # noqa: PLC0415 - where bench/ is run from

    report: dict[str, Any] = {"running jobs": running, "runs": runs}
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        addresses = iter(f"sqlite:///{folder}/ledger{n}.db" for n in range(10))
        report["sqlite"] = _measure(lambda: next(addresses), running, runs, rounds)
    if not postgresql.missing():
        server = postgresql.PrivateServer(durable=True)
        try:
            server.initialise()
            server.start()
            report["postgresql"] = _measure(server.make_database, running, runs, rounds)
        finally:
            server.remove()
    return report


def limits(report: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Return what is held to a limit: name, figure found, and the most it may be."""
    found = []
    for database in ("sqlite", "postgresql"):
        if database not in report:
            continue
        figures = report[database]
        parts = figures["runs of the accounting, s"]
        (least, first), *_, (most, last) = parts.items()
        found += [
            (f"a tick's charging (s, {database})", figures["tick, median s"], MOST_TICK),
            (f"{most} runs of the accounting (s, {database})", last, MOST_INGEST),
            (
                f"growth of reading the accounting ({database})",
                round(last / first / (int(most) / int(least)), 2),
                MOST_GROWTH,
            ),
        ]
    return found


def _measure(make: Any, running: int, runs: int, rounds: int) -> dict[str, Any]:
    return {
        "tick, median s": round(statistics.median(_ticks(make(), running, rounds)), 3),
        "runs of the accounting, s": {
            str(runs // part): round(_ingest(make(), runs // part), 2) for part in (4, 2, 1)
        },
    }


class _Slurm:
    """Implements AccountPort, over made-up records."""

    def __init__(self) -> None:
        self.records: Sequence[AccountingRecord] = ()
        self.text = ""

    def accounting(self, *, start: Any = None, end: Any = None, **_more: Any) -> Any:
        if self.text:  # as CommandSlurm reads it
            text, self.text = self.text, ""
            self.records = parse_accounting.records(text, MARK)
        return parse_accounting.overlapping(self.records, start, end)

    def accounting_backlog(self) -> int:
        return 0


class _Clock:
    def __init__(self) -> None:
        self.seconds = NOW

    def now(self) -> int:
        return self.seconds


def _whose(number: int) -> tuple[str, str]:
    return f"account{number % ACCOUNTS}", f"user{number % USERS}"


def _associations() -> tuple[Association, ...]:
    from tests.builders import make_association  # noqa: PLC0415

    rows = [("root", "", ""), ("lab", "", "root")]
    rows += [(f"account{n}", "", "lab") for n in range(ACCOUNTS)]
    rows += [(*_whose(n), "") for n in range(USERS)]
    return tuple(make_association(account, user, parent=parent) for account, user, parent in rows)


def _charging(address: str, slurm: _Slurm, clock: _Clock) -> Charging:
    database = Database(address, patience_seconds=60)
    upgrade(database)
    return Charging(DatabaseLedger(database, "bench"), slurm, clock, "bench")  # type: ignore[arg-type]


def _ticks(address: str, count: int, rounds: int) -> list[float]:
    """Return the seconds of ticks that accrue what running jobs cost; none ends meanwhile."""
    from tests.builders import make_policy, make_snapshot  # noqa: PLC0415

    slurm, clock = _Slurm(), _Clock()
    charging = _charging(address, slurm, clock)
    policy = make_policy(**POLICY)
    jobs = [_job(number) for number in range(count)]
    taken = []
    for _ in range(rounds + 1):
        clock.seconds += 60
        present = tuple(replace(job, elapsed_seconds=clock.seconds - NOW) for job in jobs)
        slurm.records = [_record(job, clock.seconds) for job in present]
        snapshot = _snapshot(make_snapshot, clock, present)
        began = time.perf_counter()
        state = charging.run(snapshot, policy)
        taken.append(time.perf_counter() - began)
        assert sum(view.in_flight for view in state.views)  # noqa: S101
    return taken[1:]  # the first one reserves


def _snapshot(make_snapshot: Any, clock: _Clock, jobs: tuple[Job, ...]) -> Snapshot:
    found: Snapshot = make_snapshot(time=clock.now(), jobs=jobs, associations=_associations())
    return found


def _job(number: int) -> Job:
    from tests.builders import make_job  # noqa: PLC0415

    account, user = _whose(number)
    return make_job(
        number + 1,
        account=account,
        user=user,
        submit_time=NOW - 60,
        start_time=NOW,
        time_limit_seconds=24 * HOUR,
        tres={"cpu": 8, "mem": 64_000, "gres/gpu": 2, "gres/gpu:h100": 2},
    )


def _record(job: Job, now: int) -> AccountingRecord:
    text = _line(int(job.job_id), job.account, job.user, NOW, None, now)
    return parse_accounting.records(text, MARK)[0]


def _line(  # noqa: PLR0913, PLR0917 - a record's fields
    job_id: int, account: str, user: str, start: int, end: int | None, now: int
) -> str:
    elapsed = (end or now) - start
    fields = (
        job_id, job_id, user, account, "gpu", "normal", "COMPLETED" if end else "RUNNING",
        start - 60, start - 60, start, end or "Unknown", elapsed, "00:00:00", 1440, "0:0", "gpu01",
        "billing=16,cpu=8,gres/gpu:h100=2,gres/gpu=2,mem=64000M,node=1", "train", "", "",
    )  # fmt: skip
    return "".join(f"{field}{MARK}" for field in fields) + "\n"


def _ingest(address: str, count: int) -> float:
    """Return the seconds in which so many ended runs are read from sacct's text and charged."""
    from tests.builders import make_policy, make_snapshot  # noqa: PLC0415

    slurm, clock = _Slurm(), _Clock()
    charging = _charging(address, slurm, clock)
    policy = make_policy(**POLICY)
    snapshot = _snapshot(make_snapshot, clock, ())
    charging.run(snapshot, policy)  # opens the funds
    lines = []
    for number in range(count):
        end = NOW - SPAN_SECONDS + number * SPAN_SECONDS // count
        lines.append(_line(number + 1, *_whose(number), end - HOUR - number % 1800, end, NOW))
    slurm.text = "".join(lines)
    with charging._ledger.writing() as books:  # noqa: SLF001 - the accounting was away that long
        books.set_mark("accounting", NOW - SPAN_SECONDS)
    began = time.perf_counter()
    charging.run(snapshot, policy)
    taken = time.perf_counter() - began
    with charging._ledger.reading() as books:  # noqa: SLF001
        settled = sum(claim.settled for claim in books.claims_between(0, NOW))
    assert settled == count, f"{settled} of {count} were charged"  # noqa: S101
    return taken


if __name__ == "__main__":
    main()
