"""Which backends there are here. A missing one is skipped, or fails where CI requires it."""

from __future__ import annotations

import importlib.util
import os

import pytest

from tests.contract.backends import (
    CommandBackend,
    FakeBackend,
    PyslurmBackend,
    cluster_answers,
)

REQUIRED = os.environ.get("SLURM_GPU_POLICY_REQUIRE_CLUSTER") == "1"
HAS_PYSLURM = importlib.util.find_spec("pyslurm") is not None
CHOSEN = os.environ.get("SLURM_GPU_POLICY_CONTRACT_BACKENDS") or (
    "fake,commands,pyslurm" if HAS_PYSLURM else "fake,commands"
)
"""Comma list of backends. pyslurm is at home in the chroot, where run_in_chroot chooses it."""

collect_ignore = [] if HAS_PYSLURM else ["test_pyslurm.py"]
"""Not skipped where pyslurm is not: run_in_chroot runs it where pyslurm is."""
if importlib.util.find_spec("sqlalchemy") is None:
    collect_ignore += ["records", "ledger"]  # nothing about Slurm: these run outside the chroot

_MARKS = {"fake": (), "commands": pytest.mark.cluster, "pyslurm": pytest.mark.pyslurm}
_BACKENDS = [pytest.param(name, marks=_MARKS[name]) for name in CHOSEN.split(",")]
_REAL = [backend for backend in _BACKENDS if backend.values != ("fake",)]


def _missing(name):
    """Return why a backend cannot run here, ``""`` where it can."""
    if name == "fake":
        return ""
    if name == "pyslurm" and not HAS_PYSLURM:
        return "pyslurm is not installed here (tests/contract/run_in_chroot has it)"
    if os.geteuid() != 0:
        return "needs root, to submit for the cluster's users"
    if not cluster_answers():
        return "no Slurm controller answers here (make cluster)"
    return ""


def _open(name):
    reason = _missing(name)
    if reason and REQUIRED:
        pytest.fail(f"backend {name} is required: {reason}")
    if reason:
        pytest.skip(reason)
    return {"fake": FakeBackend, "commands": CommandBackend, "pyslurm": PyslurmBackend}[name]()


@pytest.fixture(params=_BACKENDS)
def cluster(request):
    """A cluster behind one of the adapters."""
    backend = _open(request.param)
    yield backend
    backend.tidy()


@pytest.fixture(params=_REAL)
def real_cluster(request):
    """A cluster that runs jobs for real."""
    backend = _open(request.param)
    yield backend
    backend.tidy()


@pytest.fixture(params=[pytest.param("pyslurm", marks=pytest.mark.pyslurm)])
def pyslurm_cluster(request):
    """Pyslurm's own."""
    backend = _open(request.param)
    yield backend
    backend.tidy()
