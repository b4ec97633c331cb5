"""The controller's socket: what goes through, who it is, start and stop."""

from __future__ import annotations

import gc
import json
import os
import pwd
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from slurm_gpu_policy import errors
from slurm_gpu_policy.adapters.control.client import ControlClient
from slurm_gpu_policy.adapters.control.doors import UnixDoor
from slurm_gpu_policy.adapters.control.protocol import failure
from slurm_gpu_policy.adapters.control.server import ControlServer
from slurm_gpu_policy.adapters.identity import caller_of
from slurm_gpu_policy.errors import (
    ControllerUnavailable,
    JobNotFound,
    NotAllowed,
    PolicyFileError,
    PolicyLayerError,
    Refused,
    RequestError,
    SlurmTimeout,
)
from slurm_gpu_policy.model.caller import Caller
from slurm_gpu_policy.model.decision import Decision, Reason
from tests.unit.adapters.control.lines import connect

ROOT = Path(__file__).parents[4]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")


# --- what goes through ---------------------------------------------------------------------------


def test_a_request_arrives_with_who_asks_and_its_answer_comes_back(client, handler):
    user = pwd.getpwuid(os.geteuid()).pw_name
    request = {"request": "approve", "job": "7", "reason": "naïve ☃ \n\x1b[31m"}
    assert client.ask("approve", job="7", reason="naïve ☃ \n\x1b[31m") == {
        "user": user,
        "request": request,
    }
    ((caller, arrived),) = handler.asked
    assert caller == caller_of(os.geteuid())
    assert arrived == request


def test_a_large_answer_comes_whole(client, handler):
    handler.result = {"entries": ["x" * 1000] * 5000}
    assert client.ask("audit") == handler.result


@pytest.mark.parametrize(
    "error",
    [
        NotAllowed("u1 may not: operators may"),
        RequestError("no such class"),
        SlurmTimeout("no answer from slurmctld"),
        JobNotFound("77"),
        PolicyFileError("/etc/policy.yaml", ["line 3: wrong", "line 4: too"]),
        Refused(Decision("refuse", (Reason("L-201", "too many GPUs", "9", "8", "ask for 8"),))),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_ours_is_raised_again_at_the_client(client, handler, defects, error):
    handler.error = error
    with pytest.raises(type(error)) as caught:
        client.ask("approve")
    assert type(caught.value) is type(error)
    assert str(caught.value) == str(error)
    assert {**vars(caught.value)} == {**vars(error)}
    assert not defects


def test_every_kind_of_error_has_a_way_through():
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, PolicyLayerError):
            if kind in {JobNotFound, PolicyFileError, Refused}:
                continue
            assert failure(kind("words"))["error"] == kind.__name__


def test_an_adapters_own_kind_of_error_goes_as_what_it_is_a_kind_of():
    class Late(SlurmTimeout):
        pass

    assert failure(Late("late"))["error"] == "SlurmTimeout"


@pytest.mark.parametrize("result", [{"bad": object()}, {"bad": float("nan")}, {"bad": {1, 2}}])
def test_an_answer_that_is_no_json_is_a_defect(client, handler, defects, result):
    handler.result = result
    with pytest.raises(PolicyLayerError, match="its log says at what"):
        client.ask("audit")
    assert len(defects) == 1


def test_a_defect_is_for_the_log_and_hidden_from_the_client(client, handler, defects):
    handler.error = KeyError("a secret of ours")
    with pytest.raises(PolicyLayerError, match="gpu-policyd failed at this") as caught:
        client.ask("approve")
    assert "secret" not in str(caught.value)
    assert defects == [handler.error]
    handler.error = None
    assert client.ask("approve")


# --- who it is -----------------------------------------------------------------------------------


def test_a_user_id_without_a_name_is_a_caller_that_no_user_can_be():
    assert caller_of(3_999_999_999) == Caller(3_999_999_999, "#3999999999", ())


def test_everybody_may_open_the_socket(server, path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o666


@needs_root
def test_what_root_leaves_behind_keeps_the_folders_owner_from_nothing(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    os.chown(folder, 6001, 6001)
    server = ControlServer(UnixDoor(folder / "sock"), lambda *_: {}, caller_of, lambda _: None)
    server.start()
    server.stop()
    assert [one.stat().st_uid for one in folder.iterdir()] == [6001]


ASK_AS_SOMEBODY = """
import json, socket, sys
line = socket.socket(socket.AF_UNIX)
line.connect(sys.argv[1])
line.sendall(b'{"request": "who", "user": "root", "user_id": 0}\\n')
print(line.makefile().readline())
"""


@pytest.mark.root
@needs_root
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--reuid=nobody", "--regid=nogroup", "--clear-groups"], "nobody"),
        (["--reuid=3999999", "--regid=nogroup", "--clear-groups"], "#3999999"),
    ],
)
def test_who_asks_is_who_the_kernel_says_whatever_the_request_says(
    server, path, handler, options, expected
):
    for folder in path.parents:
        if folder.is_relative_to("/tmp/pytest-of-root"):
            folder.chmod(0o755)
    done = subprocess.run(
        ["setpriv", *options, "/usr/bin/python3", "-c", ASK_AS_SOMEBODY, path],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["result"]["user"] == expected
    assert handler.asked[0][0].user == expected


# --- a controller that is not there --------------------------------------------------------------


def test_nobody_there_is_said_with_the_socket_and_what_to_do(path):
    with pytest.raises(ControllerUnavailable, match=r"control\.sock.*systemctl status gpu-policyd"):
        ControlClient(str(path)).ask("approve")


def test_a_dead_controllers_socket_is_said_to_be_dead(path):
    with socket.socket(socket.AF_UNIX) as line:
        line.bind(str(path))
    with pytest.raises(ControllerUnavailable, match="nobody listens there"):
        ControlClient(str(path)).ask("approve")


def test_a_path_that_is_too_long_is_said_to_be(tmp_path):
    with pytest.raises(ControllerUnavailable, match="too long"):
        ControlClient(f"{tmp_path}/{'x' * 120}").ask("approve")


def test_no_answer_in_time_leaves_it_open_whether_it_took_effect(server, path, handler):
    handler.gate.clear()
    with pytest.raises(ControllerUnavailable, match=r"is not known.*gpu-policy audit"):
        ControlClient(str(path), answer_seconds=0.3).ask("approve")


@pytest.mark.parametrize(
    "answer", [b"", b"{}\n", b"[]\n", b"nonsense\n", b'{"ok": false}\n', b'{"ok": true', b"\xff\n"]
)
def test_an_answer_that_nobody_can_read_is_an_error_of_ours(path, answer):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve():
            line, _ = listening.accept()
            with line:
                line.recv(1000)
                line.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ControllerUnavailable):
            ControlClient(str(path)).ask("approve")
        thread.join()


# --- start and stop ------------------------------------------------------------------------------


def make(path, handler):
    return ControlServer(UnixDoor(str(path)), handler, caller_of, lambda _: None)


def test_a_second_controller_is_refused_and_disturbs_nothing(client, path, handler):
    with pytest.raises(ControllerUnavailable, match="another gpu-policyd on this machine has it"):
        make(path, handler).start()
    assert client.ask("approve")


def test_a_socket_somebody_else_listens_on_is_left_alone(path, handler):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(ControllerUnavailable, match="another program listens there"):
            make(path, handler).start()
        connect(path).close()


def test_what_is_no_socket_is_left_alone(path, handler):
    path.write_text("precious")
    with pytest.raises(ControllerUnavailable, match="no socket"):
        make(path, handler).start()
    assert path.read_text() == "precious"


def test_a_socket_of_a_controller_that_was_killed_is_replaced(path, handler):
    with socket.socket(socket.AF_UNIX) as line:
        line.bind(str(path))
    server = make(path, handler)
    server.start()
    assert ControlClient(str(path)).ask("approve")
    server.stop()


def test_after_it_was_stopped_nothing_is_left_and_it_can_start_again(path, handler):
    for _ in range(2):
        server = make(path, handler)
        server.start()
        assert ControlClient(str(path)).ask("approve")
        server.stop()
        assert not path.exists()


def test_a_request_under_way_is_answered_before_the_end(path, handler):
    server = make(path, handler)
    server.start()
    handler.gate.clear()
    answers = []
    asking = threading.Thread(target=lambda: answers.append(ControlClient(str(path)).ask("x")))
    asking.start()
    while not handler.asked:
        time.sleep(0.01)
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    handler.gate.set()
    stopping.join(20)
    asking.join(20)
    assert answers
    assert not path.exists()


def test_an_end_while_clients_come_leaves_no_connection_open(path, handler):
    for _ in range(30):
        server = make(path, handler)
        server.start()
        lines = [connect(path) for _ in range(3)]
        lines[0].close()
        server.stop()
        for line in lines:
            line.close()
    gc.collect()  # an open one would be a ResourceWarning, which is an error here


def test_a_folder_that_cannot_be_made_is_named(handler):
    with pytest.raises(ControllerUnavailable, match=r"/proc/nothing/control\.sock: "):
        make(Path("/proc/nothing/control.sock"), handler).start()


@pytest.mark.parametrize("client", ["client", "remote_client"])
def test_a_client_needs_neither_asyncio_nor_a_vendors_package(client):
    script = (
        "import sys\n"
        f"import slurm_gpu_policy.adapters.control.{client}\n"
        "print({'asyncio', 'sqlalchemy', 'pydantic', 'structlog'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "set()\n"
