"""Brings the tables to the form of this release, when a controller starts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from slurm_gpu_policy.errors import RecordsUnavailable

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from slurm_gpu_policy.adapters.database.connection import Database

_LOCK = 0x67707570  # any number that all controllers agree on
_PATIENCE_SECONDS = 60.0


def upgrade(database: Database) -> None:
    """Create the tables, or bring them forward; nothing where they are current.

    All in one transaction: of two controllers that start at once one waits for the other, and one
    that is killed leaves the tables as they were.

    Raises:
        RecordsUnavailable: also where the tables are of a newer release than this program.
    """
    if database.is_sqlite:
        database.make_file()
        _write_ahead(database)
    with database.writing(patience_seconds=_PATIENCE_SECONDS) as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            _need_utf8(connection, database)
        config = _config()
        if _is_current(connection, config, database):
            return
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    folder = Path(__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _is_current(connection: Connection, config: Config, database: Database) -> bool:
    found = set(MigrationContext.configure(connection).get_current_heads())
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    if found - known:
        msg = (
            f"the controller's database {database.description} is of version "
            f"{', '.join(sorted(found - known))}, newer than this program, which knows up to "
            f"{scripts.get_current_head()}: update slurm-gpu-policy on this machine"
        )
        raise RecordsUnavailable(msg)
    return found == set(scripts.get_heads())


def _write_ahead(database: Database) -> None:
    """Change an SQLite file over to WAL; SQLite does not wait for its turn by itself."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not database.set_write_ahead():
        if time.monotonic() > deadline:
            msg = (
                f"the controller's database {database.description} cannot be prepared: another "
                f"program has held it for {_PATIENCE_SECONDS:.0f} s"
            )
            raise RecordsUnavailable(msg)
        time.sleep(0.05)


def _need_utf8(connection: Connection, database: Database) -> None:
    encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
    if encoding != "UTF8":
        msg = (
            f"the controller's database {database.description} is encoded in {encoding}, which "
            "cannot hold every job's name: create it with ENCODING 'UTF8'"
        )
        raise RecordsUnavailable(msg)
