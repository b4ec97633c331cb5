"""Implements :class:`slurm_gpu_policy.services.ledger.books.LedgerPort`.

One database may serve several clusters: every row says which cluster it is about, and writers of
each wait for one another.
"""

from __future__ import annotations

from contextlib import contextmanager
from hashlib import blake2b
from typing import TYPE_CHECKING

from sqlalchemy import text

from slurm_gpu_policy.adapters.database.books_check import problems_in
from slurm_gpu_policy.adapters.database.books_reading import StoredBooksView
from slurm_gpu_policy.adapters.database.books_writing import StoredBooks
from slurm_gpu_policy.adapters.database.tables import storable
from slurm_gpu_policy.errors import RecordsUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

    from slurm_gpu_policy.adapters.database.connection import Database
    from slurm_gpu_policy.services.ledger.books import Books, BooksView

_CHECK_SECONDS = 600.0
"""How long one sum over all entries may take."""


class DatabaseLedger:
    """The books of one cluster."""

    def __init__(self, database: Database, cluster: str) -> None:
        self._database = database
        self._cluster = storable(cluster)

    @contextmanager
    def reading(self) -> Iterator[BooksView]:
        """Open the books to read."""
        with self._database.reading() as connection:
            self._set_planner(connection)
            yield StoredBooksView(connection, self._cluster)

    @contextmanager
    def writing(self) -> Iterator[Books]:
        """Open the books to write; waits for its turn.

        SQLite has one writer by itself. PostgreSQL's are held apart by an advisory lock, which
        ends with the transaction; what a statement reads is then what the one before wrote.
        """
        if self._database.is_sqlite:
            with self._database.writing() as connection:
                yield StoredBooks(connection, self._cluster)
            return
        number = None
        try:
            with self._database.writing() as connection:
                self._set_planner(connection)
                question = text("SELECT pg_advisory_xact_lock(:turn)")
                connection.execute(question, {"turn": _turn(self._cluster)})
                yield StoredBooks(connection, self._cluster)
                number = connection.execute(text("SELECT pg_current_xact_id()::text")).scalar_one()
        except RecordsUnavailable:
            # Lost after the server was told to write: only the server knows whether it did.
            if number is None or not self._is_written(number):
                raise

    def problems(self) -> tuple[str, ...]:
        """Add everything up anew, and return what does not agree, in words."""
        with self._database.reading(patience_seconds=_CHECK_SECONDS) as connection:
            return tuple(problems_in(connection, self._cluster))

    def _is_written(self, number: str) -> bool:
        """Return whether PostgreSQL committed a transaction, by its number."""
        question = text("SELECT pg_xact_status(CAST(:number AS xid8))")
        with self._database.writing() as connection:
            # Whoever holds the lock may be that transaction, still at work.
            lock = text("SELECT pg_advisory_xact_lock(:turn)")
            connection.execute(lock, {"turn": _turn(self._cluster)})
            return connection.execute(question, {"number": number}).scalar() == "committed"

    def _set_planner(self, connection: Connection) -> None:
        """Have PostgreSQL look rows up where they are few: it believes disks to be slow."""
        if not self._database.is_sqlite:
            connection.execute(text("SET LOCAL random_page_cost = 1.1; SET LOCAL jit = off"))


def _turn(cluster: str) -> int:
    """Return the number of the lock of a cluster's books, of 64 bits."""
    digest = blake2b(f"slurm-gpu-policy ledger {cluster}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)
