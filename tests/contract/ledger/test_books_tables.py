"""The ledger's tables: migrations, and what the database itself refuses."""

# ruff: noqa: E501 - a table of statements, some of them long

from __future__ import annotations

import os

import pytest
from alembic import command
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from slurm_gpu_policy.adapters.database import upgrade as upgrading
from slurm_gpu_policy.adapters.database.connection import Database
from slurm_gpu_policy.adapters.database.ledger import DatabaseLedger
from slurm_gpu_policy.adapters.database.records import DatabaseRecords
from slurm_gpu_policy.adapters.database.upgrade import upgrade
from slurm_gpu_policy.errors import RecordsUnavailable
from slurm_gpu_policy.model.prices import Use
from tests.contract.ledger.scenes import (
    NOW,
    ended,
    everything,
    fund,
    opened,
    posted,
    posting,
    promise,
    run,
    saved,
)
from tests.contract.records.test_records import begin, make_action


def test_a_database_of_the_release_before_is_brought_forward(address):
    database = Database(address, patience_seconds=10)
    if database.is_sqlite:
        database.make_file()
        database.set_write_ahead()
    with database.writing() as connection:
        config = upgrading._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "001")
    records = DatabaseRecords(database, "cluster")
    begin(records, make_action())
    before = records.entries()
    with pytest.raises(RecordsUnavailable, match="funds"):
        opened(DatabaseLedger(database, "cluster"))
    upgrade(database)
    assert records.entries() == before
    ledger = DatabaseLedger(database, "cluster")
    opened(ledger, granted=5)
    assert ledger.problems() == ()


@pytest.fixture
def filled(stored):
    """Books with something in each table."""
    (one,) = opened(stored, granted=100)
    waiting, _, _ = saved(stored, run(1), promise(), ended(2, start_time=None))
    posted(stored, posting("reserve", one.fund_id, 30, claim=waiting))
    with stored.writing() as books:
        books.record_tariffs(0, ())
    return stored


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM entries",
        "UPDATE entries SET amount = 5",
        "UPDATE entries SET reason = 'nothing happened' WHERE kind = 'grant'",
        "DELETE FROM price_books",
        "UPDATE price_books SET since = 7",
        "DELETE FROM funds",
        "UPDATE funds SET account = 'mine'",
        "UPDATE funds SET fund_id = 77",
        "UPDATE funds SET unit = 'gpu_seconds'",
        "UPDATE funds SET begins = 7",
        "DELETE FROM claims WHERE job_id IS NULL",
        "UPDATE claims SET job_id = 9 WHERE job_id = 1",
        "UPDATE claims SET submit_time = 9 WHERE job_id = 1",
        "UPDATE claims SET cluster = 'other'",
        "UPDATE claims SET claim_id = 99 WHERE job_id = 1",
        "DELETE FROM legs",
        "UPDATE legs SET claim_id = 99",
    ],
)
def test_the_database_itself_refuses_to_rewrite_the_ledger(filled, database, statement):
    before = everything(filled)
    with pytest.raises(RecordsUnavailable, match="append-only"), database.writing() as connection:
        connection.execute(text(statement))
    assert everything(filled) == before


@pytest.mark.parametrize("table", ["entries", "price_books", "funds", "claims", "legs"])
def test_postgresql_refuses_to_empty_the_ledger(server, table):
    database = Database(server.make_database())
    upgrade(database)
    with pytest.raises(RecordsUnavailable, match="append-only"), database.writing() as connection:
        connection.execute(text(f"TRUNCATE {table}"))


def test_sqlite_sees_through_a_replacement_of_an_entry(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/records.db")
    upgrade(database)
    opened(DatabaseLedger(database, "cluster"), granted=5)
    with (
        pytest.raises(RecordsUnavailable, match="append-only"),
        database.writing() as connection,
    ):
        connection.execute(text("REPLACE INTO entries SELECT * FROM entries"))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE funds SET reserved = -1",
        "UPDATE funds SET in_flight = -1",
        "UPDATE funds SET in_flight = reserved + 1",
        "UPDATE legs SET reserved = -1",
        "UPDATE legs SET charged = -1",
        "UPDATE legs SET refunded = -1",
        "UPDATE claims SET state = 'odd'",
        "UPDATE claims SET submit_time = 5 WHERE job_id IS NULL",
        "UPDATE claims SET token = '' WHERE job_id IS NULL",
        (
            "INSERT INTO entries (cluster, time, kind, fund_id, source, target, amount, gpu_seconds, "
            "rule, actor, reason, batch, sequence) "
            "VALUES ('cluster', 0, 'grant', 1, 'site', 'available', -1, 0, '', '', '', '', 0)"
        ),
        # What makes charging twice impossible, whatever the program does:
        (
            "INSERT INTO entries (cluster, time, kind, fund_id, source, target, amount, gpu_seconds, "
            "rule, actor, reason, batch, sequence, claim_id) SELECT cluster, time, kind, fund_id, "
            "source, target, amount, gpu_seconds, rule, actor, reason, batch, sequence, claim_id "
            "FROM entries WHERE claim_id IS NOT NULL"
        ),
        "INSERT INTO legs SELECT * FROM legs",
    ],
)
def test_the_database_itself_refuses_what_cannot_be(filled, database, statement):
    before = everything(filled)
    with pytest.raises(RecordsUnavailable) as caught, database.writing() as connection:
        connection.execute(text(statement))
    assert isinstance(caught.value.__cause__, IntegrityError)
    assert everything(filled) == before


def test_two_clusters_in_one_database_know_nothing_of_each_others_books(database):
    one, two = DatabaseLedger(database, "one"), DatabaseLedger(database, "two")
    (first,) = opened(one, granted=100)
    (claim,) = saved(one, run(1, token="t"))
    posted(one, posting("reserve", first.fund_id, 30, claim=claim))
    with one.writing() as books:
        books.set_mark("m", 1)
        books.record_tariffs(0, ())
    mine = everything(one)
    assert everything(two) == everything(DatabaseLedger(database, "three"))
    with two.reading() as books:
        assert books.claims([(1, NOW)]) == books.claims_of(1) == ()
        assert books.promise("t") is None
        assert list(books.entries(fund_ids=[first.fund_id])) == []
        assert books.views([first.fund_id]) == ()
    for write in (
        lambda books: books.post(NOW, [posting("grant", first.fund_id, 1)]),
        lambda books: books.change_funds([first]),
        lambda books: books.save([claim]),
    ):
        with pytest.raises(ValueError, match="there is no"), two.writing() as books:
            write(books)
    (second,) = opened(two, granted=7)
    (same_run,) = saved(two, run(1, token="t"))
    with pytest.raises(ValueError, match="no claim"):
        posted(two, posting("reserve", second.fund_id, 1, claim=claim))
    posted(two, posting("reserve", second.fund_id, 1, claim=same_run))
    assert everything(one) == mine
    assert one.problems() == two.problems() == ()


def test_writers_of_two_clusters_need_not_wait_for_each_other(server):
    database = Database(server.make_database(), patience_seconds=2)
    upgrade(database)
    with DatabaseLedger(database, "one").writing() as books:
        opened(DatabaseLedger(database, "two"), granted=5)
        books.open_funds([fund()])


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a\0b", "a\\x00b"),
        (os.fsdecode(b"caf\xe9"), "caf\\udce9"),
        ("'; DROP TABLE claims; --", "'; DROP TABLE claims; --"),
        ('{"},\\', '{"},\\'),
        ("NULL", "NULL"),
        ("%s :a {}", "%s :a {}"),
        ("näme \N{SNOWMAN}\n\t", "näme \N{SNOWMAN}\n\t"),
        ("", ""),
    ],
)
def test_hostile_texts_come_back_or_as_an_escape(stored, given, kept):
    use = Use({given: 1}, partition=given, qos=given)
    (one,) = opened(stored, fund(given, given, user=given))
    (again,) = opened(stored, fund(given, given, user=given))
    (claim,) = saved(stored, run(account=given, user=given, token=given, use=use, end_state=given))
    posted(
        stored,
        posting("grant", one.fund_id, 1, reason=given, batch=given, rule=given),
        posting("charge", one.fund_id, 1, claim=claim, reason=given),
    )
    with stored.writing() as books:
        books.set_mark(given, 5)
        assert books.mark(given) == 5
        assert books.marks(given) == {kept: 5}
        assert books.promise(given) == (books.claims_of(7)[0] if given else None)
        (found,) = books.claims_of(7)
        entry, _ = books.entries()
    assert one == again
    assert (one.budget, one.account, one.user) == (kept, kept, kept)
    assert (found.account, found.user, found.token, found.end_state) == (kept, kept, kept, kept)
    assert (found.use.partition, found.use.qos, dict(found.use.gpus)) == (kept, kept, {given: 1})
    assert (entry.posting.reason, entry.posting.batch, entry.posting.rule) == (kept, kept, kept)
    assert stored.problems() == ()
