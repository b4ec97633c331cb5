"""Transactions on the controller's database, with every failure in words and in bounded time.

A connection lives as long as one transaction: the controller makes a few a minute, and none can
then be stale, hold a deleted file open, or keep a lock while nothing happens.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import stat
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from slurm_gpu_policy.errors import RecordsUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection, Engine

PATIENCE_SECONDS = 5.0
"""How long one transaction may wait for a lock, a connection or an answer, each."""

_READ = "BEGIN"
_WRITE = "BEGIN IMMEDIATE"
"""As SQLite has it: a transaction that read before it wrote could fail half-way."""

_FORMS = (
    "write sqlite:////FOLDER/NAME.db (four slashes: an absolute path) "
    "or postgresql://USER@HOST/DATABASE"
)

_SQLITE_ADVICE = {
    "SQLITE_BUSY": "another program holds it locked",
    "SQLITE_LOCKED": "another program holds it locked",
    "SQLITE_FULL": "the disk is full; nothing was written",
    "SQLITE_READONLY": "it cannot be written: look at owner, mode and file system, also of "
    "the files beside it whose names end in -wal and -shm",
    "SQLITE_CANTOPEN": "it is missing, another user's, "
    "or in a folder that cannot be entered and written by this user",
    "SQLITE_CORRUPT": "the file is damaged: restore it from a backup, or move it away",
    "SQLITE_NOTADB": "the file is damaged: restore it from a backup, or move it away",
    "SQLITE_IOERR": "its disk fails, or is full",
}


class Database:
    """One database; connects when a transaction begins, and not before.

    Raises:
        RecordsUnavailable: *url* names no database that this program can use.
    """

    def __init__(self, url: str, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._url = _checked(url)
        self._patience = patience_seconds
        self._engine: Engine | None = None

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of this machine."""
        return self._url.get_backend_name() == "sqlite"

    @property
    def description(self) -> str:
        """Its address, without the password."""
        return _shown(self._url)

    @contextmanager
    def reading(self, *, patience_seconds: float | None = None) -> Iterator[Connection]:
        """Open a transaction that sees one state of the database throughout."""
        with self._transaction(_READ, patience_seconds or self._patience) as connection:
            yield connection

    @contextmanager
    def writing(self, *, patience_seconds: float | None = None) -> Iterator[Connection]:
        """Open a transaction that is written, durably, whole or not at all, when the block ends."""
        patience = patience_seconds or self._patience
        with self._transaction(_WRITE, patience) as connection:
            yield connection

    def set_write_ahead(self) -> bool:
        """Let readers of an SQLite database work beside a writer; the file keeps the setting.

        That needs the file for a moment without anybody else; ``False`` where another had it.
        """
        try:
            with self._transaction("PRAGMA journal_mode=WAL", self._patience):
                return True
        except RecordsUnavailable as error:
            if _name(error.__cause__) == "SQLITE_BUSY":
                return False
            raise

    def make_file(self) -> None:
        """Create an SQLite database's file (mode 0600) and its folder (0750) where they lack.

        One that root makes is its folder's owner's: what root tried out once must not keep the
        service, which runs as SlurmUser, from it.
        """
        path = Path(self._url.database or "")
        try:
            path.parent.mkdir(mode=0o750, exist_ok=True)
            with suppress(FileExistsError):
                made = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
                with suppress(PermissionError):
                    os.fchown(made, path.parent.stat().st_uid, path.parent.stat().st_gid)
                os.close(made)
            if not stat.S_ISREG(path.stat().st_mode):
                msg = f"the controller's database {path} is no ordinary file"
                raise RecordsUnavailable(msg)
        except OSError as error:
            msg = f"the controller's database {path} cannot be created: {error.strerror}"
            raise RecordsUnavailable(msg) from error

    @contextmanager
    def _transaction(self, begin: str, patience: float) -> Iterator[Connection]:
        with self._in_words():
            options = {"begin": begin, "patience": patience}
            with (
                self._connected().execution_options(**options).connect() as connection,
                _deadline(connection, patience),
                connection.begin(),
            ):
                yield connection

    def _connected(self) -> Engine:
        if self._engine is None:
            self._engine = self._sqlite() if self.is_sqlite else self._postgresql()
        return self._engine

    def _sqlite(self) -> Engine:
        # mode=rw: a database that was taken away is an error, not a new and empty one.
        address = f"file:{quote(self._url.database or '')}?mode=rw"

        def connect() -> sqlite3.Connection:
            # isolation_level None: transactions begin where we say, not where the module guesses.
            # The first look into the file waits too: whoever leaves it last empties its WAL file.
            return sqlite3.connect(
                address,
                uri=True,
                timeout=self._patience,
                isolation_level=None,
                check_same_thread=False,
            )

        engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    def _postgresql(self) -> Engine:
        try:
            engine = create_engine(
                self._url.set(drivername="postgresql+psycopg"),
                poolclass=NullPool,
                connect_args={
                    "connect_timeout": max(2, round(self._patience)),
                    "application_name": "slurm-gpu-policy",
                    "client_encoding": "utf8",
                    "prepare_threshold": None,  # prepared statements do not outlive a pgbouncer
                },
            )
        except ImportError as error:
            msg = (
                f"the controller's database {self.description} needs a driver that is not "
                "installed: pip install 'slurm-gpu-policy[controller,postgresql]'"
            )
            raise RecordsUnavailable(msg) from error
        event.listen(engine, "begin", _begin_postgresql)
        return engine

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            msg = f"the controller's database {self.description} cannot be used: {_words(error)}"
            raise RecordsUnavailable(msg) from error


def _checked(text: str) -> URL:
    try:
        url = make_url(text)
        backend = url.get_backend_name()
    except (ArgumentError, ValueError) as error:
        # Not shown: a mistyped address may hold a password.
        msg = f"the address of the controller's database is malformed: {_FORMS}"
        raise RecordsUnavailable(msg) from error
    shown = _shown(url)
    if backend == "sqlite":
        if not (url.database or "").startswith("/") or url.query or "\0" in (url.database or ""):
            msg = f"the controller's database {shown} is no absolute path alone: {_FORMS}"
            raise RecordsUnavailable(msg)
    elif backend not in {"postgresql", "postgres"} or not url.database:
        msg = f"the controller cannot keep its records in {shown}: {_FORMS}"
        raise RecordsUnavailable(msg)
    return url


def _shown(url: URL) -> str:
    """Return an address for people; a password may stand in it twice."""
    known = {name: value for name, value in url.query.items() if name in {"host", "port"}}
    return url.set(query=known).render_as_string(hide_password=True)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """Set what holds for one connection; WAL belongs to the file (see upgrade.py)."""
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA recursive_triggers=ON")  # so that REPLACE is seen to delete


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    connection.exec_driver_sql(f"PRAGMA busy_timeout={round(options['patience'] * 1000)}")
    connection.exec_driver_sql(options["begin"]).close()


def _begin_postgresql(connection: Connection) -> None:
    """Bound every wait, for this transaction only, as a pooler between us would have it."""
    options = connection.get_execution_options()
    milliseconds = round(options["patience"] * 1000)
    if options["begin"] == _READ:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    connection.exec_driver_sql(
        f"SET LOCAL lock_timeout = {milliseconds}; "
        f"SET LOCAL statement_timeout = {2 * milliseconds}; "
        f"SET LOCAL idle_in_transaction_session_timeout = {4 * milliseconds}; "
        "SET LOCAL synchronous_commit = on"
    )


@contextmanager
def _deadline(connection: Connection, patience: float) -> Iterator[None]:
    """End a transaction whose server has stopped answering.

    The server's own timeouts are no help where the server hangs. Ending the socket makes the
    driver's wait fail at once. Each statement has its time, so that one who reads all entries of
    the ledger, page by page, is not cut off. SQLite needs none of this: it waits for locks alone.
    """
    if connection.dialect.name == "sqlite":
        yield
        return
    driver: Any = connection.connection.driver_connection
    done = threading.Event()
    due = time.monotonic() + 4 * patience

    def begun(*_arguments: object) -> None:
        nonlocal due
        due = time.monotonic() + 4 * patience

    def watch() -> None:
        while not done.wait(max(due - time.monotonic(), 0)):
            if time.monotonic() >= due:
                _end_socket(driver)
                return

    event.listen(connection, "before_cursor_execute", begun)
    event.listen(connection, "commit", begun)
    watcher = threading.Thread(target=watch, name="database-deadline", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _end_socket(driver: Any) -> None:
    # Closed in the meantime: then nobody waits.
    with suppress(Exception), socket.socket(fileno=os.dup(driver.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


def _words(error: SQLAlchemyError) -> str:
    if not isinstance(error, DBAPIError) or error.orig is None:
        return str(error).splitlines()[0]
    own = " ".join(str(error.orig).split()) or type(error.orig).__name__
    name = _name(error)
    for start, advice in _SQLITE_ADVICE.items():
        if name.startswith(start):
            return f"{advice} ({own})"
    return own


def _name(error: BaseException | None) -> str:
    """Return SQLite's name of an error: ``SQLITE_BUSY``."""
    return str(getattr(getattr(error, "orig", None), "sqlite_errorname", ""))
