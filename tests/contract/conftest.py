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
IN_CHROOT = os.environ.get("SLURM_GPU_POLICY_CONTRACT_BACKENDS", "")
"""Comma list that narrows the backends; run_in_chroot sets it."""

_BACKENDS = [
    pytest.param("fake"),
    pytest.param("commands", marks=pytest.mark.cluster),
    pytest.param("pyslurm", marks=pytest.mark.pyslurm),
]


def _missing(name):
    """Return why a backend cannot run here, ``""`` where it can."""
    if IN_CHROOT and name not in IN_CHROOT.split(","):
        return "not among SLURM_GPU_POLICY_CONTRACT_BACKENDS"
    if name == "fake":
        return ""
    if name == "pyslurm" and importlib.util.find_spec("pyslurm") is None:
        return "pyslurm is not installed here (tests/contract/run_in_chroot has it)"
    if os.geteuid() != 0:
        return "needs root, to submit for the cluster's users"
    if not cluster_answers():
        return "no Slurm controller answers here (make cluster)"
    return ""


def _open(name):
    reason = _missing(name)
    is_elsewhere = "run_in_chroot" in reason or "CONTRACT_BACKENDS" in reason
    if reason and REQUIRED and not is_elsewhere:
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


@pytest.fixture(params=_BACKENDS[1:])
def real_cluster(request):
    """A cluster that runs jobs for real."""
    backend = _open(request.param)
    yield backend
    backend.tidy()


@pytest.fixture(params=_BACKENDS[2:])
def pyslurm_cluster(request):
    """Pyslurm's own."""
    backend = _open(request.param)
    yield backend
    backend.tidy()
