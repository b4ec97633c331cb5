"""The three that remember for the controller: the fake, SQLite, a real PostgreSQL server."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.adapters.database.connection import Database
from slurm_gpu_policy.adapters.database.records import DatabaseRecords
from slurm_gpu_policy.adapters.database.upgrade import upgrade
from tests.contract.databases import (  # noqa: F401 - fixtures
    address,
    database,
    new_address,
    server,
)
from tests.fakes.records import FakeRecords


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
def records(request, tmp_path):
    """What every implementation of RecordsPort promises is tested on this."""
    if request.param == "fake":
        return FakeRecords()
    store = Database(new_address(request.param, request, tmp_path))
    upgrade(store)
    return DatabaseRecords(store, "cluster")


@pytest.fixture
def sqlite_file(tmp_path):
    upgrade(Database(f"sqlite:///{tmp_path}/records.db", patience_seconds=0.5))
    return tmp_path / "records.db"


@pytest.fixture
def sqlite_records(sqlite_file):
    return DatabaseRecords(Database(f"sqlite:///{sqlite_file}", patience_seconds=0.5), "cluster")
