"""Addresses, tables, migrations, and what the database itself refuses."""

from __future__ import annotations

import os
import stat

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from slurm_gpu_policy.adapters.database.connection import Database
from slurm_gpu_policy.adapters.database.records import DatabaseRecords
from slurm_gpu_policy.adapters.database.tables import METADATA
from slurm_gpu_policy.adapters.database.upgrade import upgrade
from slurm_gpu_policy.errors import RecordsUnavailable
from slurm_gpu_policy.model.action import Lease
from tests.contract.records.test_records import begin, make_action, make_vote

NOW = 1_800_000_000


# --- addresses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("", "malformed"),
        ("nonsense", "malformed"),
        ("sqlite:", "malformed"),
        ("sqlite://", "no absolute path"),
        ("sqlite:///:memory:", "no absolute path"),
        ("sqlite:///relative.db", "four slashes"),
        ("sqlite:////a.db?mode=memory", "no absolute path alone"),
        ("mysql://root@host/db", "cannot keep its records in mysql://"),
        ("postgresql://host", "postgresql://USER@HOST/DATABASE"),
        ("postgresql://user:secret@host:port/db", "malformed"),
    ],
)
def test_an_address_that_names_no_database_is_refused_with_the_right_form(address, words):
    with pytest.raises(RecordsUnavailable, match=words) as caught:
        Database(address)
    assert "sqlite:////" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://user:secret@127.0.0.1:1/db", "user:***@127.0.0.1:1/db"),
        ("postgresql://user@127.0.0.1:1/db?password=secret", "user@127.0.0.1:1/db"),
    ],
)
def test_a_password_is_never_shown(address, shown):
    with pytest.raises(RecordsUnavailable) as caught:
        DatabaseRecords(Database(address, patience_seconds=1), "cluster").lease()
    assert shown in str(caught.value)
    assert "secret" not in str(caught.value)


def test_nothing_is_opened_before_it_is_needed(tmp_path):
    DatabaseRecords(Database(f"sqlite:///{tmp_path}/folder/records.db"), "cluster")
    assert list(tmp_path.iterdir()) == []


def test_a_new_sqlite_database_is_for_its_owner_alone(tmp_path):
    upgrade(Database(f"sqlite:///{tmp_path}/folder/records.db"))
    folder = tmp_path / "folder"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert stat.S_IMODE((folder / "records.db").stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a file for another user")
def test_a_database_that_root_makes_is_its_folders_owners(tmp_path):
    os.chown(tmp_path, 6001, 6001)
    database = Database(f"sqlite:///{tmp_path}/records.db")
    upgrade(database)
    DatabaseRecords(database, "cluster").take("root", Lease())
    assert {(one.stat().st_uid, one.stat().st_gid) for one in tmp_path.iterdir()} == {(6001, 6001)}


def test_a_strange_name_of_a_file_is_only_a_name(tmp_path):
    name = "a b%20c#d&mode=memory.db"
    upgrade(Database(f"sqlite:///{tmp_path}/{name.replace('%', '%25')}"))
    assert {path.name for path in tmp_path.iterdir()} & {name, name.replace("%", "%25")}


# --- the tables ----------------------------------------------------------------------------------


def test_the_migrations_make_the_tables_that_the_code_expects(database):
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_a_second_start_changes_nothing(database):
    records = DatabaseRecords(database, "cluster")
    begin(records, make_action())
    upgrade(database)
    assert len(records.entries()) == 1


def test_a_database_of_a_newer_release_is_refused_in_words(database):
    with database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '999'"))
    with pytest.raises(RecordsUnavailable, match=r"version 999, newer than this program.*update"):
        upgrade(database)


def test_a_migration_that_fails_half_way_leaves_nothing_behind(address):
    database = Database(address)
    if database.is_sqlite:
        database.make_file()
    with database.writing() as connection:
        connection.execute(text("CREATE TABLE votes (mine TEXT)"))  # the third of the tables
    with pytest.raises(RecordsUnavailable, match="already exists"):
        upgrade(database)
    with database.writing() as connection:
        connection.execute(text("DROP TABLE votes"))
    upgrade(database)
    assert DatabaseRecords(database, "cluster").votes() == ()


def test_a_postgresql_database_that_cannot_hold_every_name_is_refused(server):
    with pytest.raises(RecordsUnavailable, match=r"LATIN1.*ENCODING 'UTF8'"):
        upgrade(Database(server.make_database("LATIN1")))


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM audit",
        "DELETE FROM audit WHERE outcome = ''",
        "UPDATE audit SET reason = 'nothing happened'",
        "UPDATE audit SET outcome = 'failed' WHERE outcome <> ''",
        "UPDATE audit SET outcome = '' WHERE outcome <> ''",
        "UPDATE audit SET words = 'better' WHERE outcome = ''",
        "UPDATE audit SET outcome = 'done', actor = 'me' WHERE outcome = ''",
        "UPDATE audit SET outcome = 'done', site_factor = NULL WHERE outcome = ''",
        "UPDATE audit SET outcome = 'done', entry_id = 77 WHERE outcome = ''",
        "DELETE FROM votes",
        "UPDATE votes SET verdict = 'deny'",
    ],
)
def test_the_database_itself_refuses_to_rewrite_history(database, statement):
    records = DatabaseRecords(database, "cluster")
    first, _ = begin(records, make_action(1), make_action(2))
    records.finish(NOW, {first: ("done", "")})
    records.vote(make_vote())
    before = records.entries(), records.votes()
    with pytest.raises(RecordsUnavailable, match="append-only"), database.writing() as connection:
        connection.execute(text(statement))
    assert (records.entries(), records.votes()) == before


def test_sqlite_sees_through_a_replacement(sqlite_file, sqlite_records):
    begin(sqlite_records, make_action())
    with (
        pytest.raises(RecordsUnavailable, match="append-only"),
        Database(f"sqlite:///{sqlite_file}").writing() as connection,
    ):
        connection.execute(text("REPLACE INTO audit SELECT * FROM audit"))


def test_postgresql_refuses_to_empty_the_log(server):
    database = Database(server.make_database())
    upgrade(database)
    for table in ("audit", "votes"):
        with pytest.raises(RecordsUnavailable, match="append-only"):  # noqa: SIM117
            with database.writing() as connection:
                connection.execute(text(f"TRUNCATE {table}"))


def test_two_clusters_in_one_database_know_nothing_of_each_other(database):
    one, two = DatabaseRecords(database, "one"), DatabaseRecords(database, "two")
    assert one.take("a", Lease()) == Lease("a", 1)
    assert two.take("b", Lease()) == Lease("b", 1)
    (entry_id,) = begin(one, make_action())
    one.vote(make_vote())
    two.finish(NOW, {entry_id: ("done", "")})
    assert two.entries() == two.votes() == ()
    assert [entry.outcome for entry in one.entries()] == [""]


@pytest.mark.parametrize(
    ("given", "kept"), [("a\0b", "a\\x00b"), (os.fsdecode(b"caf\xe9"), "caf\\udce9")]
)
def test_what_no_database_can_store_is_written_as_an_escape(database, given, kept):
    records = DatabaseRecords(database, "cluster")
    (entry_id,) = begin(
        records, make_action(reason=given, before=given, mark=((given, given),), changes=())
    )
    records.finish(NOW, {entry_id: ("refused", given)})
    (entry,) = records.entries()
    assert (entry.action.reason, entry.words) == (kept, kept)
    assert entry.action.mark == ((given, given),)


def test_a_batch_is_written_whole_or_not_at_all(database):
    records = DatabaseRecords(database, "cluster")
    with database.writing() as connection:
        guard = "CREATE TRIGGER stop BEFORE INSERT ON audit "
        if database.is_sqlite:
            body = "WHEN NEW.job_id = 1500 BEGIN SELECT RAISE(ABORT, 'no more'); END"
            connection.execute(text(guard + body))
        else:
            connection.execute(
                text(
                    "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                    "RAISE EXCEPTION 'no more'; END $$"
                )
            )
            when = "FOR EACH ROW WHEN (NEW.job_id = 1500) EXECUTE FUNCTION stop()"
            connection.execute(text(guard + when))
    with pytest.raises(RecordsUnavailable, match="no more"):
        begin(records, *(make_action(job) for job in range(3000)))
    assert records.entries() == ()
