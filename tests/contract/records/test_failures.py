"""What becomes of the records when the database fails: words, in bounded time, nothing by half."""

from __future__ import annotations

import os
import pwd
import signal
import sqlite3
import subprocess
import time
from contextlib import contextmanager, suppress

import psycopg
import pytest
from sqlalchemy import text

from slurm_gpu_policy.adapters.database.connection import Database
from slurm_gpu_policy.adapters.database.records import DatabaseRecords
from slurm_gpu_policy.adapters.database.upgrade import upgrade
from slurm_gpu_policy.errors import RecordsUnavailable
from slurm_gpu_policy.model.action import Lease
from tests.contract.records.test_records import begin, make_action, make_vote

NOW = 1_800_000_000


def every_call(records):
    """All that a controller may ask."""
    return [
        records.lease,
        lambda: records.take("one", Lease()),
        lambda: records.resign("one"),
        lambda: begin(records, make_action()),
        lambda: records.finish(NOW, {1: ("done", "")}),
        records.unfinished,
        records.entries,
        lambda: records.vote(make_vote()),
        records.votes,
    ]


def writing_calls(records):
    reads = {records.lease, records.unfinished, records.entries, records.votes}
    return [call for call in every_call(records) if call not in reads]


def assert_all_unavailable(calls, words):
    for call in calls:
        with pytest.raises(RecordsUnavailable, match=words):
            call()


# --- SQLite that is locked, gone, full, read-only, damaged ---------------------------------------


@contextmanager
def held(path, statement="BEGIN EXCLUSIVE"):
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute(statement)
        yield
    finally:
        connection.close()


def test_a_locked_database_is_said_to_be_locked_in_bounded_time(sqlite_file, sqlite_records):
    begin(sqlite_records, make_action())
    with held(sqlite_file):
        for call in writing_calls(sqlite_records):
            started = time.monotonic()
            with pytest.raises(RecordsUnavailable, match="another program holds it locked"):
                call()
            assert time.monotonic() - started < 5
        assert len(sqlite_records.entries()) == 1  # WAL: what is there can still be read
    assert [entry.outcome for entry in sqlite_records.entries()] == [""]
    assert sqlite_records.take("one", Lease()) == Lease("one", 1)


HOLD_FOR_A_WHILE = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print(flush=True)
time.sleep(0.5)
connection.execute("COMMIT")
"""


def test_a_lock_that_is_given_back_in_time_is_waited_for(sqlite_file):
    records = DatabaseRecords(Database(f"sqlite:///{sqlite_file}", patience_seconds=30), "cluster")
    holder = subprocess.Popen(
        [
            *("python3", "-c"),
            HOLD_FOR_A_WHILE,
            sqlite_file,
        ],
        stdout=subprocess.PIPE,
    )
    with holder:
        holder.stdout.readline()
        assert records.take("one", Lease()) == Lease("one", 1)


EMPTY_THE_LOG_FOR_A_WHILE = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA locking_mode=EXCLUSIVE")
connection.execute("BEGIN IMMEDIATE")
connection.execute("COMMIT")
print(flush=True)
time.sleep(0.5)
"""


def test_another_process_that_just_leaves_the_database_is_waited_for(sqlite_file):
    """Who closes a WAL database last has it alone for a moment: nobody else can open it."""
    records = DatabaseRecords(Database(f"sqlite:///{sqlite_file}", patience_seconds=30), "cluster")
    holder = subprocess.Popen(
        ["python3", "-c", EMPTY_THE_LOG_FOR_A_WHILE, sqlite_file], stdout=subprocess.PIPE
    )
    with holder:
        holder.stdout.readline()
        assert records.lease() == Lease()


def test_a_database_that_was_taken_away_is_not_made_anew_in_silence(sqlite_file, sqlite_records):
    begin(sqlite_records, make_action())
    away = sqlite_file.with_name("away")
    sqlite_file.rename(away)
    assert_all_unavailable(every_call(sqlite_records), "it is missing")
    assert not sqlite_file.exists()
    away.rename(sqlite_file)
    assert len(sqlite_records.entries()) == 1


def test_an_empty_file_in_its_place_is_no_database(sqlite_file, sqlite_records):
    sqlite_file.unlink()
    sqlite_file.touch()
    assert_all_unavailable(every_call(sqlite_records), "no such table")


@pytest.mark.parametrize("offset", [0, 100])
def test_a_damaged_database_is_said_to_be_damaged(sqlite_file, sqlite_records, offset):
    whole = sqlite_file.read_bytes()
    sqlite_file.write_bytes(whole[:offset] + b"\xff" * 4000 + whole[offset + 4000 :])
    assert_all_unavailable(every_call(sqlite_records), "the file is damaged")
    with pytest.raises(RecordsUnavailable, match="the file is damaged"):
        upgrade(Database(f"sqlite:///{sqlite_file}"))
    sqlite_file.write_bytes(whole)
    assert sqlite_records.lease() == Lease()


def test_a_folder_in_the_place_of_the_database_is_refused(tmp_path):
    with pytest.raises(RecordsUnavailable, match="no ordinary file"):
        upgrade(Database(f"sqlite:///{tmp_path}"))


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RecordsUnavailable, match=r"file/records\.db cannot be created: "):
        upgrade(Database(f"sqlite:///{tmp_path}/file/records.db"))
    with pytest.raises(RecordsUnavailable, match="No such file or directory"):
        upgrade(Database(f"sqlite:///{tmp_path}/no/such/records.db"))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
    if subprocess.run(mounting, check=False, capture_output=True).returncode:
        pytest.skip("this container may not mount")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(path):
    """Write until there is no room."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.mark.root
def test_a_full_disk_loses_nothing_and_is_over_when_there_is_room(small_disk):
    database = Database(f"sqlite:///{small_disk}/records.db", patience_seconds=0.5)
    upgrade(database)
    records = DatabaseRecords(database, "cluster")
    (kept,) = begin(records, make_action())
    ballast = small_disk / "ballast"
    fill(ballast)
    with pytest.raises(RecordsUnavailable, match=r"disk is full|its disk fails, or is full"):
        begin(records, *(make_action(job) for job in range(3000)))
    ballast.unlink()
    assert [entry.entry_id for entry in records.entries()] == [kept]
    begin(records, make_action())
    assert len(records.entries()) == 2


@pytest.mark.root
def test_a_read_only_disk_is_said_to_be_read_only(small_disk):
    database = Database(f"sqlite:///{small_disk}/records.db", patience_seconds=0.5)
    upgrade(database)
    records = DatabaseRecords(database, "cluster")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert_all_unavailable(writing_calls(records), "cannot be written|cannot be entered")
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert records.take("one", Lease()) == Lease("one", 1)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
def test_another_users_database_cannot_be_opened(sqlite_file):
    for folder in (sqlite_file.parent, *sqlite_file.parents[1:3]):
        folder.chmod(0o755)
    assert "cannot be entered and written by this user" in as_nobody(
        DatabaseRecords(Database(f"sqlite:///{sqlite_file}"), "cluster").entries
    )


def as_nobody(call):
    """Call it in a child that is user nobody, and return the words of its error."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            nobody = pwd.getpwnam("nobody")
            os.setgroups([])
            os.setgid(nobody.pw_gid)
            os.setuid(nobody.pw_uid)
            call()
        except RecordsUnavailable as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as pipe:  # noqa: PTH123
        words = pipe.read()
    os.waitpid(child, 0)
    return words


# --- PostgreSQL that hangs, ends, comes back -----------------------------------------------------


@pytest.fixture
def postgresql_records(server):
    database = Database(server.make_database(), patience_seconds=2)
    upgrade(database)
    return DatabaseRecords(database, "cluster")


def test_a_server_that_was_ended_is_unavailable_until_it_is_back(server, postgresql_records):
    begin(postgresql_records, make_action())
    server.stop()
    try:
        assert_all_unavailable(every_call(postgresql_records), "cannot be used")
    finally:
        server.start()
    assert len(postgresql_records.entries()) == 1


def test_a_server_that_hangs_is_given_up_in_bounded_time(server, postgresql_records):
    stopped = []
    started = time.monotonic()
    try:
        with pytest.raises(RecordsUnavailable):  # noqa: PT012, SIM117 - it hangs half-way
            with postgresql_records._database.writing() as connection:
                stopped += server.pids()
                for pid in stopped:
                    os.kill(pid, signal.SIGSTOP)
                connection.execute(text("SELECT 1"))
        assert stopped
        with pytest.raises(RecordsUnavailable):
            postgresql_records.lease()
        assert time.monotonic() - started < 60
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):  # the server ended it in the meantime
                os.kill(pid, signal.SIGCONT)
    assert postgresql_records.take("one", Lease()) == Lease("one", 1)


def test_a_row_that_another_holds_is_waited_for_in_bounded_time(postgresql_records):
    postgresql_records.take("one", Lease())
    with postgresql_records._database.writing() as connection:
        connection.execute(text("UPDATE lease SET renewals = 50"))
        started = time.monotonic()
        with pytest.raises(RecordsUnavailable, match="lock timeout"):
            postgresql_records.take("one", Lease("one", 1))
        assert time.monotonic() - started < 30
    assert postgresql_records.lease() == Lease("one", 50)


def test_a_password_may_lie_in_a_file_of_its_own(server, tmp_path):
    address = server.make_database()
    name = address.partition("@/")[2].partition("?")[0]
    with postgresql_connection(server, name) as connection:
        connection.execute(f"CREATE ROLE owner{name} LOGIN PASSWORD 'secret'")
        connection.execute(f"ALTER DATABASE {name} OWNER TO owner{name}")
        connection.execute(f"GRANT ALL ON SCHEMA public TO owner{name}")
    passwords = tmp_path / "pgpass"
    passwords.write_text(f"*:*:{name}:owner{name}:secret\n")
    passwords.chmod(0o600)
    address = address.replace("postgres@", f"owner{name}@") + f"&passfile={passwords}"
    with server.asking_for_passwords():
        upgrade(Database(address))
        passwords.write_text(f"*:*:{name}:owner{name}:wrong\n")
        with pytest.raises(RecordsUnavailable, match="password authentication failed"):
            upgrade(Database(address))


def postgresql_connection(server, name):
    return psycopg.connect(f"host={server.folder} user=postgres dbname={name}", autocommit=True)


def test_a_database_that_does_not_exist_is_named(server):
    address = server.make_database().replace("/test", "/absent")
    with pytest.raises(RecordsUnavailable, match=r'database "absent\d+" does not exist'):
        upgrade(Database(address))


def test_without_its_driver_the_words_say_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(RecordsUnavailable, match=r"slurm-gpu-policy\[controller,postgresql\]"):
        DatabaseRecords(Database("postgresql://u@h/d"), "cluster").lease()
