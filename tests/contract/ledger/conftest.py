"""The three that keep the ledger: the fake, SQLite, a real PostgreSQL server."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.adapters.database.connection import Database
from slurm_gpu_policy.adapters.database.ledger import DatabaseLedger
from slurm_gpu_policy.adapters.database.upgrade import upgrade
from tests.contract.databases import (  # noqa: F401 - fixtures
    address,
    database,
    new_address,
    server,
)
from tests.fakes.books import FakeLedger


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
def ledger(request, tmp_path):
    """What every implementation of LedgerPort promises is tested on this."""
    if request.param == "fake":
        return FakeLedger()
    store = Database(new_address(request.param, request, tmp_path), patience_seconds=10)
    upgrade(store)
    return DatabaseLedger(store, "cluster")


@pytest.fixture
def stored(database):  # noqa: F811
    """The two that are databases."""
    return DatabaseLedger(database, "cluster")
