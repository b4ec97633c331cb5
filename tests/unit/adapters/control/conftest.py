"""A controller's socket with a handler that a test can tell what to do."""

from __future__ import annotations

import threading

import pytest

from slurm_gpu_policy.adapters.control.client import ControlClient
from slurm_gpu_policy.adapters.control.doors import UnixDoor
from slurm_gpu_policy.adapters.control.server import ControlServer
from slurm_gpu_policy.adapters.identity import caller_of


class Handler:
    """Answers with what was asked, or raises what a test put into ``error``."""

    def __init__(self):
        self.asked = []
        self.error = None
        self.gate = threading.Event()
        self.gate.set()
        self.result = None

    def __call__(self, caller, request):
        self.asked.append((caller, request))
        self.gate.wait(30)
        if self.error:
            raise self.error
        return {"user": caller.user, "request": request} if self.result is None else self.result


@pytest.fixture
def handler():
    return Handler()


@pytest.fixture
def defects():
    return []


@pytest.fixture
def path(tmp_path):
    return tmp_path / "control.sock"


@pytest.fixture
def server(path, handler, defects):
    server = ControlServer(
        UnixDoor(str(path)), handler, caller_of, defects.append, patience_seconds=0.5
    )
    server.start()
    yield server
    handler.gate.set()
    server.stop()


@pytest.fixture
def client(server, path):
    return ControlClient(str(path), answer_seconds=20)
