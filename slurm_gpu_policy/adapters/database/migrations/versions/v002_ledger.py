"""The ledger: funds, claims, what each claim has of each fund, entries, price books, marks."""

import sqlalchemy as sa
from alembic import op

revision = "002"
down_revision = "001"
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_APPEND_ONLY = "the ledger is append-only"
_KEPT = ("entries", "price_books", "funds", "claims", "legs")
_UNCHANGED = ("entries", "price_books")
_IDENTITY = {
    "funds": ("fund_id", "cluster", "budget", "account", "user_name", "unit", "begins"),
    "claims": ("claim_id", "cluster"),
    "legs": ("claim_id", "fund_id"),
}
_RUN = ("job_id", "submit_time")


def upgrade() -> None:
    """Make the tables, and the triggers that keep them append-only."""
    _make_funds()
    _make_claims()
    _make_entries()
    if op.get_bind().dialect.name == "sqlite":
        _guard_in_sqlite()
    else:
        _guard_in_postgresql()


def _make_funds() -> None:
    op.create_table(
        "funds",
        sa.Column("fund_id", _SERIAL, primary_key=True),
        _text("cluster"),
        _text("budget"),
        _text("account"),
        _text("user_name"),
        _text("unit"),
        _number("begins"),
        _number("ends", nullable=True),
        _number("position"),
        _number("overdraft"),
        sa.Column("unlimited", sa.Boolean, nullable=False),
        _number("soft", nullable=True),
        sa.Column("closed", sa.Boolean, nullable=False),
        _number("available"),
        _number("reserved"),
        _number("spent"),
        _number("in_flight"),
        _number("entries"),
        sa.CheckConstraint("unit IN ('money', 'gpu_seconds')", name="funds_unit"),
        sa.CheckConstraint("reserved >= 0", name="funds_reserved"),
        sa.CheckConstraint("in_flight >= 0 AND in_flight <= reserved", name="funds_in_flight"),
        sqlite_autoincrement=True,
    )
    columns = ["cluster", "budget", "account", "user_name", "begins"]
    op.create_index("funds_by_period", "funds", columns, unique=True)


def _make_claims() -> None:
    op.create_table(
        "claims",
        sa.Column("claim_id", _SERIAL, primary_key=True),
        _text("cluster"),
        _number("job_id", nullable=True),
        _number("submit_time", nullable=True),
        _number("restart"),
        _text("token"),
        _text("account"),
        _text("user_name"),
        _text("state"),
        _text("gpus"),
        _number("cpus"),
        _number("memory_mb"),
        _text("partition"),
        _text("qos"),
        _number("tasks"),
        _number("start_time", nullable=True),
        _number("seconds"),
        _number("accrued_micros"),
        _number("accrued_gpu_seconds"),
        _number("accrued_until", nullable=True),
        _number("end_time", nullable=True),
        _text("end_state"),
        sa.Column("settled", sa.Boolean, nullable=False),
        _number("known_since"),
        sa.CheckConstraint(
            "state IN ('promised', 'pending', 'running', 'ended')", name="claims_state"
        ),
        sa.CheckConstraint("(job_id IS NULL) = (submit_time IS NULL)", name="claims_run"),
        sa.CheckConstraint("job_id IS NOT NULL OR token <> ''", name="claims_promise"),
        sqlite_autoincrement=True,
    )
    op.create_index("claims_by_run", "claims", ["job_id", "submit_time", "cluster"], unique=True)
    _partial_index("claims_by_promise", ["cluster", "token"], "job_id IS NULL", unique=True)
    _partial_index("claims_by_token", ["cluster", "token"], "token <> ''")
    _partial_index("claims_promised", ["cluster", "user_name"], "state = 'promised'")
    _partial_index("claims_open", ["cluster", "claim_id"], "state <> 'ended'")
    _partial_index("claims_by_end", ["cluster", "end_time"], "start_time IS NOT NULL")
    op.create_table(
        "legs",
        sa.Column("claim_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("fund_id", sa.BigInteger, primary_key=True, autoincrement=False),
        _number("reserved"),
        _number("charged"),
        _number("refunded"),
        _number("gpu_seconds"),
        sa.CheckConstraint("reserved >= 0", name="legs_reserved"),
        sa.CheckConstraint("charged >= 0", name="legs_charged"),
        sa.CheckConstraint("refunded >= 0", name="legs_refunded"),
        sqlite_with_rowid=False,
    )


def _make_entries() -> None:
    op.create_table(
        "entries",
        sa.Column("entry_id", _SERIAL, primary_key=True),
        _text("cluster"),
        _number("time"),
        _text("kind"),
        _number("fund_id"),
        _text("source"),
        _text("target"),
        _number("amount"),
        _number("gpu_seconds"),
        _text("rule"),
        _text("actor"),
        _text("reason"),
        _text("batch"),
        _number("claim_id", nullable=True),
        _number("sequence"),
        sa.CheckConstraint("amount >= 0", name="entries_amount"),
        sa.CheckConstraint("source <> target", name="entries_move"),
        sa.CheckConstraint("sequence >= 0", name="entries_sequence"),
        sqlite_autoincrement=True,
    )
    columns = ["claim_id", "fund_id", "kind", "sequence"]
    _partial_index("entries_by_claim", columns, "claim_id IS NOT NULL", unique=True)
    op.create_index("entries_by_fund", "entries", ["fund_id", "entry_id"])
    op.create_table(
        "price_books",
        sa.Column("book_id", _SERIAL, primary_key=True),
        _text("cluster"),
        _number("since"),
        _text("tariffs"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "marks",
        sa.Column("cluster", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        _number("value"),
    )


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)


def _partial_index(name: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    op.create_index(
        name,
        name.partition("_")[0],
        columns,
        unique=unique,
        sqlite_where=sa.text(where),
        postgresql_where=sa.text(where),
    )


def _guard_in_sqlite() -> None:
    refuse = f"BEGIN SELECT RAISE(ABORT, '{_APPEND_ONLY}'); END"
    for table in _KEPT:
        op.execute(f"CREATE TRIGGER {table}_kept BEFORE DELETE ON {table} {refuse}")
    for table in _UNCHANGED:
        op.execute(f"CREATE TRIGGER {table}_unchanged BEFORE UPDATE ON {table} {refuse}")
    for table, columns in _IDENTITY.items():
        changed = " OR ".join(f"OLD.{name} IS NOT NEW.{name}" for name in columns)
        op.execute(
            f"CREATE TRIGGER {table}_the_same BEFORE UPDATE OF {', '.join(columns)} "
            f"ON {table} WHEN {changed} {refuse}"
        )
    changed = " OR ".join(f"OLD.{name} IS NOT NEW.{name}" for name in _RUN)
    op.execute(
        f"CREATE TRIGGER claims_same_run BEFORE UPDATE OF {', '.join(_RUN)} ON claims "
        f"WHEN OLD.job_id IS NOT NULL AND ({changed}) {refuse}"
    )


def _guard_in_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION refuse_change_of_ledger() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_APPEND_ONLY}'; END $$"
    )
    refuse = "EXECUTE FUNCTION refuse_change_of_ledger()"
    for table in _KEPT:
        op.execute(
            f"CREATE TRIGGER {table}_kept BEFORE DELETE OR TRUNCATE ON {table} "
            f"FOR EACH STATEMENT {refuse}"
        )
    for table in _UNCHANGED:
        op.execute(
            f"CREATE TRIGGER {table}_unchanged BEFORE UPDATE ON {table} FOR EACH ROW {refuse}"
        )
    for table, columns in _IDENTITY.items():
        changed = " OR ".join(f"OLD.{name} IS DISTINCT FROM NEW.{name}" for name in columns)
        op.execute(
            f"CREATE TRIGGER {table}_the_same BEFORE UPDATE OF {', '.join(columns)} "
            f"ON {table} FOR EACH ROW WHEN ({changed}) {refuse}"
        )
    changed = " OR ".join(f"OLD.{name} IS DISTINCT FROM NEW.{name}" for name in _RUN)
    op.execute(
        f"CREATE TRIGGER claims_same_run BEFORE UPDATE OF {', '.join(_RUN)} ON claims "
        f"FOR EACH ROW WHEN (OLD.job_id IS NOT NULL AND ({changed})) {refuse}"
    )
