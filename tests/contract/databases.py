"""Empty databases for contract tests: SQLite files, and those of a real PostgreSQL server."""

from __future__ import annotations

import os

import pytest

from slurm_gpu_policy.adapters.database.connection import Database
from slurm_gpu_policy.adapters.database.upgrade import upgrade
from tests import postgresql


@pytest.fixture(scope="session")
def server():
    """A PostgreSQL server of this test run; absent it is a skip here and a failure in CI."""
    if reason := postgresql.missing():
        if os.environ.get("SLURM_GPU_POLICY_REQUIRE_CLUSTER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    server = postgresql.PrivateServer()
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.remove()


def new_address(kind, request, tmp_path):
    if kind == "postgresql":
        return request.getfixturevalue("server").make_database()
    return f"sqlite:///{tmp_path}/records.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request, tmp_path):
    """The address of an empty database."""
    return new_address(request.param, request, tmp_path)


@pytest.fixture
def database(address):
    """A database with its tables."""
    database = Database(address, patience_seconds=10)
    upgrade(database)
    return database
