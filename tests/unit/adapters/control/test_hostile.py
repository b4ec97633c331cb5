"""What no client can do to the controller's socket."""

from __future__ import annotations

import json
import threading
import time
from contextlib import ExitStack

import pytest

from slurm_gpu_policy.adapters.control.client import ControlClient
from slurm_gpu_policy.adapters.control.doors import UnixDoor
from slurm_gpu_policy.adapters.control.protocol import LONGEST_REQUEST, decode_request
from slurm_gpu_policy.adapters.control.server import ControlServer
from slurm_gpu_policy.adapters.identity import caller_of
from slurm_gpu_policy.errors import (
    RequestError,
)
from tests.unit.adapters.control.lines import connect, send

GARBAGE = [
    b"\n",
    b"\0\0\0\n",
    b"\xff\xfe\n",
    b"hello\n",
    b"[]\n",
    b'"approve"\n',
    b"null\n",
    b"{}\n",
    b'{"request": 7}\n',
    b'{"request": null}\n',
    b'{"request": ["approve"]}\n',
    b'{"do": "approve"}\n',
    b'{"request": "approve"\n',
    b'{"request": "x", "n": NaN}\n',
    b'{"request": "x", "n": Infinity}\n',
    b'{"request": "x", "n": ' + b"9" * 5000 + b"}\n",
    b"[" * 60_000 + b"\n",
    b'{"a":' * 10_000 + b"\n",
]


@pytest.mark.parametrize("data", GARBAGE, ids=lambda data: repr(data[:24]))
def test_what_is_no_request_is_answered_and_never_handled(server, path, handler, defects, data):
    answer = send(path, data)
    assert answer["ok"] is False
    assert answer["error"] == "RequestError"
    assert not handler.asked
    assert not defects
    assert send(path, b'{"request": "x"}\n')["ok"] is True


def test_a_request_without_its_end_is_told_so(server, path):
    assert "without a line end" in send(path, b'{"request": "x"}', end=True)["message"]


def test_one_who_says_nothing_and_goes_is_nobody(server, path, defects):
    assert send(path, b"", end=True) is None
    connect(path).close()
    assert not defects


@pytest.mark.parametrize("size", [LONGEST_REQUEST + 2, 10 * LONGEST_REQUEST, 20_000_000])
def test_a_line_without_end_is_not_read_to_its_end(server, path, size):
    answer = send(path, b"x" * size)
    assert answer["error"] == "RequestError"
    assert "65536 bytes" in answer["message"]


def test_the_client_does_not_send_what_is_too_long(client, handler):
    with pytest.raises(RequestError, match="65536 are allowed"):
        client.ask("approve", reason="x" * LONGEST_REQUEST)
    assert not handler.asked


def test_one_who_speaks_too_slowly_is_sent_away(server, path, handler):
    with connect(path) as line:
        began = time.monotonic()
        try:
            while time.monotonic() - began < 15:
                line.sendall(b" ")
                time.sleep(0.02)
        except BrokenPipeError:
            pass
        answer = json.loads(line.makefile().readline())
    assert "did not come in 0.5 s" in answer["message"]
    assert not handler.asked


def test_one_who_does_not_read_the_answer_is_given_up(client, path, handler):
    handler.result = {"entries": ["x" * 1000] * 20_000}
    with connect(path) as line:
        line.sendall(b'{"request": "audit"}\n')
        deadline = time.monotonic() + 20
        while not handler.asked and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(1)
        handler.result = None
        assert client.ask("approve")
        got = 0
        with pytest.raises(ConnectionResetError):  # noqa: PT012
            while part := line.recv(1 << 20):
                got += len(part)
            raise ConnectionResetError  # an end that came early is as good
    assert got < 20_000_000


def test_one_who_goes_while_it_is_answered_disturbs_nobody(client, path, handler, defects):
    handler.gate.clear()
    with connect(path) as line:
        line.sendall(b'{"request": "approve"}\n')
    handler.gate.set()
    assert client.ask("approve")
    assert not defects


def test_slow_clients_do_not_keep_others_waiting(path, handler, defects):
    server = ControlServer(
        UnixDoor(str(path)), handler, caller_of, defects.append, patience_seconds=120
    )
    server.start()
    try:
        slow = [connect(path) for _ in range(20)]
        for line in slow:
            line.sendall(b'{"requ')
        began = time.monotonic()
        assert ControlClient(str(path)).ask("approve")
        assert time.monotonic() - began < 60
        for line in slow:
            line.close()
    finally:
        server.stop()


def test_one_user_cannot_have_all_connections(path, handler):
    server = ControlServer(
        UnixDoor(str(path)), handler, caller_of, lambda _: None, patience_seconds=120
    )
    server.start()
    with ExitStack() as stack:
        stack.callback(server.stop)
        for _ in range(32):
            stack.enter_context(connect(path))
        for _ in range(8):
            answer = send(path, b'{"request": "approve"}\n')
            assert answer["error"] == "ControllerUnavailable"
            assert "too many requests at once (yours)" in answer["message"]


def test_many_clients_at_once_are_all_answered(client, handler):
    answers = []

    def ask(number):
        answers.extend(client.ask("x", number=number, turn=turn)["request"] for turn in range(10))

    threads = [threading.Thread(target=ask, args=[number]) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({(answer["number"], answer["turn"]) for answer in answers}) == 200


@pytest.mark.parametrize("depth", [10, 60_000])
def test_nesting_never_raises_anything_else(depth):
    with pytest.raises(RequestError):
        decode_request(b"[" * depth + b"]" * depth)
