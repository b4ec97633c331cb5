"""The tables as they stand after the last migration (a test holds the two against each other).

Texts are stored as they came, but for what no database can store (see :func:`storable`). Rows of
``audit``, ``votes``, ``entries`` and ``price_books`` are never deleted nor changed, except that an
entry of the audit log gets its outcome once; of ``funds``, ``claims`` and ``legs`` none is ever
deleted, and what says which fund or run one is never changes. Triggers in the database itself see
to that (migrations/versions).

The ledger's tables have no foreign keys: checking them one by one would take longer than all else
that PostgreSQL does when 100,000 runs are charged. Only books_writing.py writes there, which looks
up what it refers to, and ``gpu-policy ledger verify`` finds what refers to nothing.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
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

FUNDS = Table(
    "funds",
    METADATA,
    Column("fund_id", _SERIAL, primary_key=True),
    Column("cluster", Text, nullable=False),
    Column("budget", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("user_name", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("begins", BigInteger, nullable=False),
    Column("ends", BigInteger),
    Column("position", BigInteger, nullable=False),
    Column("overdraft", BigInteger, nullable=False),
    Column("unlimited", Boolean, nullable=False),
    Column("soft", BigInteger),
    Column("closed", Boolean, nullable=False),
    # What follows is the sum of the fund's entries, kept so that nobody need add them up.
    Column("available", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    Column("spent", BigInteger, nullable=False),
    Column("in_flight", BigInteger, nullable=False),  # of `reserved`, for runs that go on
    Column("entries", BigInteger, nullable=False),  # how many there are
    CheckConstraint("unit IN ('money', 'gpu_seconds')", name="funds_unit"),
    CheckConstraint("reserved >= 0", name="funds_reserved"),
    CheckConstraint("in_flight >= 0 AND in_flight <= reserved", name="funds_in_flight"),
    Index("funds_by_period", "cluster", "budget", "account", "user_name", "begins", unique=True),
    sqlite_autoincrement=True,
)

CLAIMS = Table(
    "claims",
    METADATA,
    Column("claim_id", _SERIAL, primary_key=True),
    Column("cluster", Text, nullable=False),
    Column("job_id", BigInteger),
    Column("submit_time", BigInteger),
    Column("restart", BigInteger, nullable=False),
    Column("token", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("user_name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("gpus", Text, nullable=False),  # JSON: {type: count}
    Column("cpus", BigInteger, nullable=False),
    Column("memory_mb", BigInteger, nullable=False),
    Column("partition", Text, nullable=False),
    Column("qos", Text, nullable=False),
    Column("tasks", BigInteger, nullable=False),
    Column("start_time", BigInteger),
    Column("seconds", BigInteger, nullable=False),
    Column("accrued_micros", BigInteger, nullable=False),
    Column("accrued_gpu_seconds", BigInteger, nullable=False),
    Column("accrued_until", BigInteger),
    Column("end_time", BigInteger),
    Column("end_state", Text, nullable=False),
    Column("settled", Boolean, nullable=False),
    Column("known_since", BigInteger, nullable=False),
    CheckConstraint("state IN ('promised', 'pending', 'running', 'ended')", name="claims_state"),
    CheckConstraint("(job_id IS NULL) = (submit_time IS NULL)", name="claims_run"),
    CheckConstraint("job_id IS NOT NULL OR token <> ''", name="claims_promise"),
    # Job ids first: where PostgreSQL has no statistics yet, it would go through a whole cluster.
    Index("claims_by_run", "job_id", "submit_time", "cluster", unique=True),
    Index(
        "claims_by_promise",
        "cluster",
        "token",
        unique=True,
        sqlite_where=text("job_id IS NULL"),
        postgresql_where=text("job_id IS NULL"),
    ),
    Index(
        "claims_by_token",
        "cluster",
        "token",
        sqlite_where=text("token <> ''"),
        postgresql_where=text("token <> ''"),
    ),
    Index(
        "claims_promised",
        "cluster",
        "user_name",
        sqlite_where=text("state = 'promised'"),
        postgresql_where=text("state = 'promised'"),
    ),
    Index(
        "claims_open",
        "cluster",
        "claim_id",
        sqlite_where=text("state <> 'ended'"),
        postgresql_where=text("state <> 'ended'"),
    ),
    Index(
        "claims_by_end",
        "cluster",
        "end_time",
        sqlite_where=text("start_time IS NOT NULL"),
        postgresql_where=text("start_time IS NOT NULL"),
    ),
    sqlite_autoincrement=True,
)

LEGS = Table(
    "legs",
    METADATA,
    Column("claim_id", BigInteger, primary_key=True, autoincrement=False),
    Column("fund_id", BigInteger, primary_key=True, autoincrement=False),
    Column("reserved", BigInteger, nullable=False),
    Column("charged", BigInteger, nullable=False),
    Column("refunded", BigInteger, nullable=False),
    Column("gpu_seconds", BigInteger, nullable=False),
    CheckConstraint("reserved >= 0", name="legs_reserved"),
    CheckConstraint("charged >= 0", name="legs_charged"),
    CheckConstraint("refunded >= 0", name="legs_refunded"),
    sqlite_with_rowid=False,
)

ENTRIES = Table(
    "entries",
    METADATA,
    Column("entry_id", _SERIAL, primary_key=True),
    Column("cluster", Text, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("fund_id", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("gpu_seconds", BigInteger, nullable=False),
    Column("rule", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("batch", Text, nullable=False),
    Column("claim_id", BigInteger),
    Column("sequence", BigInteger, nullable=False),
    CheckConstraint("amount >= 0", name="entries_amount"),
    CheckConstraint("source <> target", name="entries_move"),
    CheckConstraint("sequence >= 0", name="entries_sequence"),
    Index(
        "entries_by_claim",
        "claim_id",
        "fund_id",
        "kind",
        "sequence",
        unique=True,
        sqlite_where=text("claim_id IS NOT NULL"),
        postgresql_where=text("claim_id IS NOT NULL"),
    ),
    Index("entries_by_fund", "fund_id", "entry_id"),
    sqlite_autoincrement=True,
)

PRICE_BOOKS = Table(
    "price_books",
    METADATA,
    Column("book_id", _SERIAL, primary_key=True),
    Column("cluster", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("tariffs", Text, nullable=False),  # JSON (books_rows.py)
    sqlite_autoincrement=True,
)

MARKS = Table(
    "marks",
    METADATA,
    Column("cluster", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
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
