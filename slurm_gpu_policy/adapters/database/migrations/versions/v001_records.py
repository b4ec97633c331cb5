"""The lease, the audit log, and the approvers' votes."""

import sqlalchemy as sa
from alembic import op

revision = "001"
down_revision = None
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_APPEND_ONLY = "the audit log and the votes are append-only"
_COMPLETED = ("outcome", "words", "finished")


def upgrade() -> None:
    """Make the tables, and the triggers that keep them append-only."""
    op.create_table(
        "lease",
        sa.Column("cluster", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("renewals", sa.BigInteger, nullable=False),
    )
    audit = op.create_table(
        "audit",
        sa.Column("entry_id", _SERIAL, primary_key=True),
        sa.Column("cluster", sa.Text, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("level", sa.Text, nullable=False),
        sa.Column("verb", sa.Text, nullable=False),
        sa.Column("job_id", sa.BigInteger, nullable=False),
        sa.Column("display_id", sa.Text, nullable=False),
        sa.Column("job_user", sa.Text, nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("before", sa.Text, nullable=False),
        sa.Column("after", sa.Text, nullable=False),
        sa.Column("changes", sa.Text, nullable=False),
        sa.Column("mark", sa.Text, nullable=False),
        sa.Column("site_factor", sa.BigInteger),
        sa.Column("outcome", sa.Text, nullable=False, server_default=""),
        sa.Column("words", sa.Text, nullable=False, server_default=""),
        sa.Column("finished", sa.BigInteger),
        sqlite_autoincrement=True,
    )
    op.create_index("audit_by_job", "audit", ["cluster", "job_id", "entry_id"])
    op.create_index("audit_by_time", "audit", ["cluster", "time", "entry_id"])
    op.create_index(
        "audit_unfinished",
        "audit",
        ["cluster", "entry_id"],
        sqlite_where=sa.text("outcome = ''"),
        postgresql_where=sa.text("outcome = ''"),
    )
    op.create_table(
        "votes",
        sa.Column("vote_id", _SERIAL, primary_key=True),
        sa.Column("cluster", sa.Text, nullable=False),
        sa.Column("job_id", sa.BigInteger, nullable=False),
        sa.Column("submit_time", sa.BigInteger, nullable=False),
        sa.Column("approver", sa.Text, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("votes_by_job", "votes", ["cluster", "job_id", "submit_time"])
    if op.get_bind().dialect.name == "sqlite":
        _guard_in_sqlite([column.name for column in audit.columns])
    else:
        _guard_in_postgresql()


def _guard_in_sqlite(columns: list[str]) -> None:
    refuse = f"BEGIN SELECT RAISE(ABORT, '{_APPEND_ONLY}'); END"
    changed = " OR ".join(
        f'OLD."{name}" IS NOT NEW."{name}"' for name in columns if name not in _COMPLETED
    )
    op.execute(f"CREATE TRIGGER audit_kept BEFORE DELETE ON audit {refuse}")
    op.execute(
        "CREATE TRIGGER audit_completed_once BEFORE UPDATE ON audit "
        f"WHEN OLD.outcome <> '' OR NEW.outcome = '' OR {changed} {refuse}"
    )
    op.execute(f"CREATE TRIGGER votes_kept BEFORE DELETE ON votes {refuse}")
    op.execute(f"CREATE TRIGGER votes_unchanged BEFORE UPDATE ON votes {refuse}")


def _guard_in_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_APPEND_ONLY}'; END $$"
    )
    without = "".join(f" - '{name}'" for name in _COMPLETED)
    op.execute(
        "CREATE TRIGGER audit_completed_once BEFORE UPDATE ON audit FOR EACH ROW "
        "WHEN (OLD.outcome <> '' OR NEW.outcome = '' OR "
        f"to_jsonb(OLD){without} IS DISTINCT FROM to_jsonb(NEW){without}) "
        "EXECUTE FUNCTION refuse_change()"
    )
    op.execute(
        "CREATE TRIGGER votes_unchanged BEFORE UPDATE ON votes FOR EACH ROW "
        "EXECUTE FUNCTION refuse_change()"
    )
    for table in ("audit", "votes"):
        op.execute(
            f"CREATE TRIGGER {table}_kept BEFORE DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
