"""Runs migrations on the connection that upgrade.py hands over; Alembic executes this file."""

from alembic import context

from slurm_gpu_policy.adapters.database.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
)
with context.begin_transaction():
    context.run_migrations()
