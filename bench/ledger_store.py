"""Measure the ledger's books in SQLite, and in PostgreSQL where it is installed.

    bench/ledger_store.py [--entries 1000000] [--rounds 5]

Needs no cluster; PostgreSQL's server is one of its own, that waits for its disk as a site's does.
Runs are written as the controller writes them, 2,000 in a block, each with a claim and an entry on
its user's fund, its account's and the cluster's; beside them 60,000 claims are open, 10,000 of
them running, and there are 1,000 funds. All is measured with a tenth of the entries and with all.
Exits with 1 where a figure is above its limit.
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

from sqlalchemy import event

from slurm_gpu_policy.adapters.database.connection import Database
from slurm_gpu_policy.adapters.database.ledger import DatabaseLedger
from slurm_gpu_policy.adapters.database.upgrade import upgrade
from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.ledger import Claim, Fund, Posting
from slurm_gpu_policy.model.prices import Cost, Use

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from slurm_gpu_policy.services.ledger.books import Books

NOW = 1_800_000_000
ACCOUNTS = 100
USERS_PER_ACCOUNT = 9
WAITING = 50_000
RUNNING = 10_000
BLOCK = 2000
LEGS = 3
USE = Use({"h100": 4}, cpus=32, memory_mb=256_000, partition="gpu", qos="normal")
ACTOR = "gpu-policyd@head1"

MOST_VIEW = 0.05
MOST_TICK = 1.0
MOST_INGEST = 10.0
MOST_GROWTH = 1.5
"""Of the time for a block of runs, from a tenth of the entries to all of them."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    report = measure(options.entries, options.rounds)
    print(json.dumps(report, indent=2))
    above = [f"{name} is {found}, above {most}" for name, found, most in limits(report)
             if found > most]  # fmt: skip
    sys.exit("; ".join(above) or 0)


def measure(entries: int = 1_000_000, rounds: int = 5) -> dict[str, Any]:
    """Return seconds by database, with a tenth of the entries and with all of them."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests import postgresql  # noqa: PLC0415 - where bench/ is run from

    report = {}
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        report["sqlite"] = _measure(f"sqlite:///{folder}/ledger.db", entries, rounds)
    if not postgresql.missing():
        server = postgresql.PrivateServer(durable=True)
        try:
            server.initialise()
            server.start()
            report["postgresql"] = _measure(server.make_database(), entries, rounds)
        finally:
            server.remove()
    return report


def limits(report: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Return what is held to a limit: name, figure found, and the most it may be."""
    found = []
    for database, figures in report.items():
        least, most = figures.values()
        found += [
            (f"balances of all funds (s, {database})", most["balances, s"], MOST_VIEW),
            (f"a tick's accruals (s, {database})", most["tick, s"], MOST_TICK),
            (
                f"statements of 100,000 runs (s, {database})",
                most["of that in statements, s"],
                MOST_INGEST,
            ),
            (
                f"growth of 100,000 runs ({database})",
                round(most["100,000 runs, s"] / least["100,000 runs, s"], 2),
                MOST_GROWTH,
            ),
        ]
    return found


def _measure(address: str, entries: int, rounds: int) -> dict[str, dict[str, float]]:
    database = Database(address, patience_seconds=60)
    upgrade(database)
    watch = _Watch(database)
    store = _Store(DatabaseLedger(database, "bench"), watch)
    store.fill()
    report = {}
    for wanted in (entries // 10, entries):
        seconds = store.ingest_to(wanted)
        report[f"{wanted} entries"] = {
            "100,000 runs, s": round(seconds, 2),
            "of that in statements, s": round(store.in_statements, 2),
            "balances, s": round(_median(rounds, store.balances), 4),
            "open claims, s": round(_median(rounds, store.open_claims), 3),
            "tick, s": round(_median(rounds, store.tick), 3),
            "verify, s": round(_median(1, store.verify), 2),
        }
    return report


class _Watch:
    """Adds up what statements take, from when the driver has them until it has the answer."""

    def __init__(self, database: Database) -> None:
        self.seconds = 0.0
        self._begun = 0.0
        engine = database._connected()  # noqa: SLF001 - only to listen
        event.listen(engine, "before_cursor_execute", self._begin)
        event.listen(engine, "after_cursor_execute", self._end)

    def _begin(self, *_arguments: object) -> None:
        self._begun = time.perf_counter()

    def _end(self, *_arguments: object) -> None:
        self.seconds += time.perf_counter() - self._begun


class _Store:
    """The books of a site that grow."""

    def __init__(self, ledger: DatabaseLedger, watch: _Watch) -> None:
        self.in_statements = 0.0
        self._ledger = ledger
        self._watch = watch
        self._lines: list[tuple[Fund, ...]] = []
        self._job = 0
        self._entries = 0
        self._ticks = 0
        self._running: tuple[Claim, ...] = ()

    def fill(self) -> None:
        """Make the funds and the open claims."""
        with self._ledger.writing() as books:
            (own,) = books.open_funds([Fund("", "", unlimited=True)])
            for number in range(ACCOUNTS):
                name = f"account{number}"
                users = [f"user{number}.{user}" for user in range(USERS_PER_ACCOUNT)]
                of_account, *of_users = books.open_funds(
                    [Fund("all", name), *(Fund("each", name, user) for user in users)]
                )
                self._lines += [(fund, of_account, own) for fund in of_users]
        waiting = self._claims(WAITING, state="pending")
        self._running = tuple(self._claims(RUNNING, state="running", start_time=NOW))
        for some in _blocks([*waiting, *self._running]):
            with self._ledger.writing() as books:
                self._reserve(books, some)
        with self._ledger.reading() as books:
            self._running = tuple(
                claim for claim in books.open_claims() if claim.state == "running"
            )
        self._entries = 0  # those of runs are counted

    def ingest_to(self, entries: int) -> float:
        """Add runs up to so many entries; return the seconds that the last 100,000 would take."""
        taken: list[float] = []
        inside: list[float] = []
        while self._entries < entries:
            runs = list(
                self._claims(
                    min(BLOCK, -(-(entries - self._entries) // LEGS)),
                    state="ended",
                    start_time=NOW - 3600,
                    end_time=NOW,
                    seconds=3600,
                    end_state="COMPLETED",
                    settled=True,
                )
            )
            self._watch.seconds, start = 0.0, time.perf_counter()
            with self._ledger.writing() as books:
                books.claims([(run.job_id, run.submit_time) for run in runs])  # type: ignore[misc]
                self._charge(books, books.save(runs))
                books.set_mark("accounting:read", NOW)
            taken.append((time.perf_counter() - start) / len(runs))
            inside.append(self._watch.seconds / len(runs))
        self.in_statements = 100_000 * statistics.median(inside[-10:])
        return 100_000 * statistics.median(taken[-10:])

    def balances(self) -> None:
        """How every fund of the tree stands."""
        with self._ledger.reading() as books:
            views = books.views([fund.fund_id for fund in books.funds(open_only=True)])
            assert len(views) == ACCOUNTS * (USERS_PER_ACCOUNT + 1) + 1  # noqa: S101

    def open_claims(self) -> None:
        """Everything that a tick looks at."""
        with self._ledger.reading() as books:
            assert len(books.open_claims()) == WAITING + RUNNING  # noqa: S101

    def tick(self) -> None:
        """What running jobs have cost by now."""
        self._ticks += 1
        until = NOW + 60 * self._ticks
        with self._ledger.writing() as books:
            self._running = books.save(
                [
                    replace(
                        claim,
                        accrued=Cost(60_000_000 * self._ticks, 240 * self._ticks),
                        accrued_until=until,
                        seconds=60 * self._ticks,
                    )
                    for claim in self._running
                ]
            )

    def verify(self) -> None:
        """Add everything up."""
        found = self._ledger.problems()
        assert not found, found  # noqa: S101

    def _claims(self, count: int, **fields: Any) -> Iterator[Claim]:
        for _ in range(count):
            self._job += 1
            _, account, _ = line = self._line(self._job)
            yield Claim(
                account=account.account,
                user=line[0].user,
                job_id=JobId(self._job),
                submit_time=NOW - 7200,
                use=USE,
                known_since=NOW,
                **fields,
            )

    def _line(self, job: int) -> tuple[Fund, ...]:
        return self._lines[job % len(self._lines)]

    def _reserve(self, books: Books, claims: Sequence[Claim]) -> None:
        self._post(books, books.save(claims), "reserve", "available", "reserved")

    def _charge(self, books: Books, claims: Sequence[Claim]) -> None:
        self._post(books, claims, "charge", "available", "spent")

    def _post(self, books: Books, claims: Sequence[Claim], *move: Any) -> None:
        kind, source, target = move
        postings = [
            Posting(kind, fund.fund_id, source, target, 8_000_000, "C-410", ACTOR,
                    gpu_seconds=14_400, claim_id=claim.claim_id)
            for claim in claims
            for fund in self._line(claim.job_id or 0)
        ]  # fmt: skip
        books.post(NOW, postings)
        self._entries += len(postings)


def _blocks(claims: Sequence[Claim]) -> Iterator[Sequence[Claim]]:
    for start in range(0, len(claims), BLOCK):
        yield claims[start : start + BLOCK]


def _median(rounds: int, work: Callable[[], None]) -> float:
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
