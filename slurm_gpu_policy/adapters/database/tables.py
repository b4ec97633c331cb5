"""The tables as they stand after the last migration (a test holds the two against each other).

Texts are stored as they came, but for what no database can store (see :func:`storable`). Rows of
``audit`` and ``votes`` are never deleted nor changed, except that an entry of the audit log gets
its outcome once; triggers in the database itself see to that (migrations/versions).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    text,
)

METADATA = MetaData()

_SERIAL = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows in INTEGER only

LEASE = Table(
    "lease",
    METADATA,
    Column("cluster", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("renewals", BigInteger, nullable=False),
)

AUDIT = Table(
    "audit",
    METADATA,
    Column("entry_id", _SERIAL, primary_key=True),
    Column("cluster", Text, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("level", Text, nullable=False),
    Column("verb", Text, nullable=False),
    Column("job_id", BigInteger, nullable=False),
    Column("display_id", Text, nullable=False),
    Column("job_user", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    Column("changes", Text, nullable=False),  # JSON: [[key, value], ...]
    Column("mark", Text, nullable=False),  # JSON likewise
    Column("site_factor", BigInteger),
    Column("outcome", Text, nullable=False, server_default=""),
    Column("words", Text, nullable=False, server_default=""),
    Column("finished", BigInteger),
    Index("audit_by_job", "cluster", "job_id", "entry_id"),
    Index("audit_by_time", "cluster", "time", "entry_id"),
    Index(
        "audit_unfinished",
        "cluster",
        "entry_id",
        sqlite_where=text("outcome = ''"),
        postgresql_where=text("outcome = ''"),
    ),
    sqlite_autoincrement=True,
)

VOTES = Table(
    "votes",
    METADATA,
    Column("vote_id", _SERIAL, primary_key=True),
    Column("cluster", Text, nullable=False),
    Column("job_id", BigInteger, nullable=False),
    Column("submit_time", BigInteger, nullable=False),
    Column("approver", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("time", BigInteger, nullable=False),
    Index("votes_by_job", "cluster", "job_id", "submit_time"),
    sqlite_autoincrement=True,
)


def storable(value: str) -> str:
    r"""Return *value* with what a database cannot store written as an escape.

    That is NUL (PostgreSQL takes none in a text) and bytes that were no UTF-8, which Python keeps
    as lone surrogates: ``\x00``, ``\udc80``.
    """
    if value.isprintable():
        return value
    plain = value.encode("utf-8", "backslashreplace").decode("utf-8")
    return plain.replace("\0", "\\x00")
