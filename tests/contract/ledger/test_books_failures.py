"""What becomes of the ledger when its database fails: words, in bounded time, nothing by half."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import time
from contextlib import closing, suppress
from urllib.parse import quote

import psycopg
import pytest
from sqlalchemy import event

from slurm_gpu_policy.adapters.database.connection import Database
from slurm_gpu_policy.adapters.database.ledger import DatabaseLedger
from slurm_gpu_policy.adapters.database.upgrade import upgrade
from slurm_gpu_policy.errors import RecordsUnavailable
from tests.contract.ledger.scenes import (
    NOW,
    balances,
    everything,
    opened,
    posted,
    posting,
    run,
    saved,
)


def grant(ledger, amount=1):
    posted(ledger, posting("grant", 1, amount))


def work(ledger):
    """Write more than fits into what is left of a small disk."""
    with ledger.writing() as books:
        claims = books.save([run(number) for number in range(10_000)])
        books.post(NOW, [posting("reserve", 1, 1, claim=claim) for claim in claims])


def quick(address):
    return DatabaseLedger(Database(address, patience_seconds=0.5), "cluster")


@pytest.fixture
def sqlite_file(tmp_path):
    path = tmp_path / "records.db"
    upgrade(Database(f"sqlite:///{path}"))
    return path


@pytest.fixture
def sqlite_ledger(sqlite_file):
    ledger = quick(f"sqlite:///{sqlite_file}")
    opened(ledger, granted=5)
    return ledger


# --- SQLite --------------------------------------------------------------------------------------


def test_a_locked_database_is_said_to_be_locked_and_can_be_read(sqlite_file, sqlite_ledger):
    with closing(sqlite3.connect(sqlite_file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        with pytest.raises(RecordsUnavailable, match="another program holds it locked"):
            grant(sqlite_ledger)
        assert time.monotonic() - started < 10
        assert balances(sqlite_ledger) == (5, 0, 0)
        assert sqlite_ledger.problems() == ()
    grant(sqlite_ledger)
    assert balances(sqlite_ledger) == (6, 0, 0)


def test_a_database_that_was_taken_away_is_missed_until_it_is_back(sqlite_file, sqlite_ledger):
    away = sqlite_file.with_name("away")
    sqlite_file.rename(away)
    for call in (lambda: grant(sqlite_ledger), lambda: balances(sqlite_ledger)):
        with pytest.raises(RecordsUnavailable, match="it is missing"):
            call()
    with pytest.raises(RecordsUnavailable, match="it is missing"):
        sqlite_ledger.problems()
    assert not sqlite_file.exists()
    away.rename(sqlite_file)
    grant(sqlite_ledger)
    assert balances(sqlite_ledger) == (6, 0, 0)


def test_a_file_that_may_not_grow_loses_nothing(sqlite_file):
    database = Database(f"sqlite:///{sqlite_file}")
    ledger = DatabaseLedger(database, "cluster")
    opened(ledger, granted=5)
    before = everything(ledger)
    pages = sqlite_file.stat().st_size // 4096 + 60

    def bound(connection, _record):
        connection.execute(f"PRAGMA max_page_count={pages}")

    event.listen(database._connected(), "connect", bound)
    with pytest.raises(RecordsUnavailable, match="the disk is full; nothing was written"):
        work(ledger)
    assert everything(ledger) == before
    event.remove(database._connected(), "connect", bound)
    work(ledger)
    assert ledger.problems() == ()


def mounted(folder, mebibytes):
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", folder]
    if subprocess.run(mounting, check=False, capture_output=True).returncode:
        pytest.skip("this container may not mount")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB."""
    folder = tmp_path / "disk"
    mounted(folder, 2)
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(path, spare=0):
    """Write until there is no room, or so many bytes are left."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            found = os.statvfs(path)
            if found.f_bavail * found.f_bsize <= spare:
                return
            file.write(bytes(4096))


@pytest.mark.root
@pytest.mark.parametrize("spare", [0, 100_000])
def test_a_full_disk_loses_nothing_and_is_over_when_there_is_room(small_disk, spare):
    address = f"sqlite:///{small_disk}/records.db"
    upgrade(Database(address))
    ledger = quick(address)
    opened(ledger, granted=5)
    before = everything(ledger)
    ballast = small_disk / "ballast"
    fill(ballast, spare)
    with pytest.raises(RecordsUnavailable, match=r"disk is full|its disk fails, or is full"):
        work(ledger)
    if spare:  # without a single page SQLite cannot even make what readers share
        assert everything(ledger) == before
    ballast.unlink()
    assert everything(ledger) == before
    assert ledger.problems() == ()
    saved(ledger, run())
    grant(ledger)
    assert balances(ledger) == (6, 0, 0)
    assert ledger.problems() == ()


# --- PostgreSQL ----------------------------------------------------------------------------------


@pytest.fixture
def postgresql_ledger(server):
    database = Database(server.make_database(), patience_seconds=2)
    upgrade(database)
    ledger = DatabaseLedger(database, "cluster")
    opened(ledger, granted=5)
    return ledger


@pytest.mark.root
def test_a_full_disk_under_postgresql_loses_nothing(server, tmp_path):
    folder = server.folder / "small"
    mounted(folder, 24)
    try:
        os.chown(folder, server.folder.stat().st_uid, server.folder.stat().st_gid)
        with psycopg.connect(
            f"host={server.folder} user=postgres dbname=postgres", autocommit=True
        ) as connection:
            connection.execute(f"CREATE TABLESPACE small LOCATION '{folder}'")
            connection.execute("CREATE DATABASE small TABLESPACE small TEMPLATE template0")
        address = f"postgresql://postgres@/small?host={quote(str(server.folder))}"
        database = Database(address, patience_seconds=10)
        upgrade(database)
        ledger = DatabaseLedger(database, "cluster")
        opened(ledger, granted=5)
        before = everything(ledger)
        ballast = folder / "ballast"
        fill(ballast, 300_000)
        with pytest.raises(
            RecordsUnavailable, match=r"No space left on device|Check free disk space"
        ):
            work(ledger)
        with suppress(RecordsUnavailable):  # a new connection may want to write a file too
            assert everything(ledger) == before
        ballast.unlink()
        assert everything(ledger) == before
        assert ledger.problems() == ()
        work(ledger)
        assert ledger.problems() == ()
    finally:
        with psycopg.connect(
            f"host={server.folder} user=postgres dbname=postgres", autocommit=True
        ) as connection:
            connection.execute("DROP DATABASE IF EXISTS small WITH (FORCE)")
            connection.execute("DROP TABLESPACE IF EXISTS small")
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_server_that_ends_in_the_middle_of_a_block_has_written_nothing(server, postgresql_ledger):
    before = everything(postgresql_ledger)
    try:
        with pytest.raises(RecordsUnavailable), postgresql_ledger.writing() as books:  # noqa: PT012
            (claim,) = books.save([run()])
            books.post(NOW, [posting("reserve", 1, 5, claim=claim)])
            server.stop()
            books.set_mark("late", 1)
        with pytest.raises(RecordsUnavailable):
            postgresql_ledger.problems()
    finally:
        server.start()
    assert everything(postgresql_ledger) == before
    grant(postgresql_ledger)
    assert balances(postgresql_ledger) == (6, 0, 0)


def test_a_turn_that_does_not_come_is_given_up_in_bounded_time(postgresql_ledger):
    database = postgresql_ledger._database
    with database.writing() as connection:
        DatabaseLedger(database, "cluster")
        with postgresql_ledger.writing() as books:
            books.set_mark("held", 1)
            started = time.monotonic()
            with pytest.raises(RecordsUnavailable, match="lock timeout"):
                grant(quick(str(database._url)))
            assert time.monotonic() - started < 10
        connection.exec_driver_sql("SELECT 1")
    grant(postgresql_ledger)
    assert balances(postgresql_ledger) == (6, 0, 0)


def test_one_who_reads_page_by_page_may_take_longer_than_one_answer_may(server, postgresql_ledger):
    posted(postgresql_ledger, *(posting("grant", 1, 1) for _ in range(4500)))
    impatient = DatabaseLedger(
        Database(
            postgresql_ledger._database._url.render_as_string(hide_password=False),
            patience_seconds=0.2,
        ),
        "cluster",
    )
    started = time.monotonic()
    with impatient.reading() as books:
        for number, _ in enumerate(books.entries()):
            if number % 900 == 0:
                time.sleep(0.3)
    assert time.monotonic() - started > 4 * 0.2


def lose_the_answer(ledger, *, before):
    """Cut the next writer's connection as it commits: before its server has, or after."""
    cut_once = iter([True])

    def cut(connection):
        if not next(cut_once, False):
            return
        driver = connection.connection.driver_connection
        if not before:
            driver.execute("COMMIT")
        with psycopg.connect(driver.info.dsn, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [driver.info.backend_pid])

    engine = ledger._database._connected()
    event.listen(engine, "commit", cut)


def test_a_connection_lost_before_the_books_were_written_is_said(postgresql_ledger):
    lose_the_answer(postgresql_ledger, before=True)
    with pytest.raises(RecordsUnavailable, match="cannot be used"):
        grant(postgresql_ledger)
    assert balances(postgresql_ledger) == (5, 0, 0)


def test_a_connection_lost_after_the_books_were_written_is_no_failure(postgresql_ledger):
    """Else an operator who is told that nothing was written would grant the same again."""
    lose_the_answer(postgresql_ledger, before=False)
    grant(postgresql_ledger)
    assert balances(postgresql_ledger) == (6, 0, 0)
