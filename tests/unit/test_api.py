"""The Python interface: what it takes, and that GPUs go back whatever happens."""

from __future__ import annotations

import logging
import math
import signal
import threading
from pathlib import PurePath

import pytest

from slurm_gpu_policy import api, bootstrap
from slurm_gpu_policy.api import allocation, submit
from slurm_gpu_policy.errors import RequestError, SlurmRefused, SlurmUnavailable
from slurm_gpu_policy.model.job import JobState
from tests.fakes.clock import FakeClock
from tests.fakes.slurm import FakeSlurm


@pytest.fixture
def slurm(monkeypatch):
    fake = FakeSlurm()
    clock = FakeClock()
    monkeypatch.setattr(bootstrap, "load_policy", lambda _path: bootstrap.default_policy())
    monkeypatch.setattr(bootstrap, "connect", lambda _policy: fake)
    monkeypatch.setattr(api, "SystemClock", lambda: clock)
    monkeypatch.setattr(api, "current_user", lambda: "u1")
    return fake


@pytest.fixture
def put_back():
    """Handlers as they were, whatever a test does to them."""
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def state(slurm, job_id):
    return slurm.records[job_id].state


# --- what a request can be --------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"hours": 0},
        {"hours": -1},
        {"hours": math.nan},
        {"hours": math.inf},
        {"hours": "8"},
        {"hours": True},
        {"hours": 1e-9},
        {"hours": 1, "time_seconds": 60},
        {"gpus": -1},
        {"gpus": 1.5},
        {"gpus": "4"},
        {"gpus": True},
        {"gpus": 2**70},
        {"gpus": 2, "gpus_per_node": 2},
        {"gpus_per_node": -1},
        {"nodes": 0},
        {"memory_mb": "8G"},
        {"time_seconds": -5},
        {"retries": None},
        {"gpu_type": 4},
        {"gpu_type": [4]},
        {"account": 7},
        {"name": b"bytes"},
        {"name": "nul\0"},
        {"workload": None},
        {"environment": {"A": 1}},
        {"environment": "A=1"},
        {"environment": 5},
        {"options": [("a", "b", "c")]},
        {"cpu_fallback": "yes"},
        {"user": "u2"},
        {"gpu_types": ("h100",)},
        {"bogus": 1},
    ],
)
@pytest.mark.parametrize("call", ["submit", "allocation"])
def test_what_cannot_be_understood_is_said_in_words_before_slurm_is_asked(slurm, wrong, call):
    calls = {
        "submit": lambda: submit(["true"], **wrong),
        "allocation": allocation(**wrong).__enter__,
    }
    with pytest.raises(RequestError) as caught:
        calls[call]()
    assert any(name in str(caught.value) for name in wrong)
    assert slurm.calls == []


@pytest.mark.parametrize("command", ["python train.py", b"x", [], [1], [None], 5, {"a": "b"}])
def test_a_command_is_a_list_of_words(slurm, command):
    with pytest.raises(RequestError, match="command"):
        submit(command)
    assert slurm.calls == []


def test_paths_and_mappings_are_taken(slurm):
    job = submit(["sh", PurePath("run.sh")], environment={"A": "1"}, gpus=2, hours=0.5)
    script = slurm.records[job.job_id].script
    assert "run.sh" in script
    assert slurm.records[job.job_id].time_limit == 1800


def test_a_job_has_one_gpu_unless_it_says_otherwise(slurm):
    assert slurm.records[submit(["true"]).job_id].gpus == 1
    assert slurm.records[submit(["true"], gpus_per_node=2, nodes=2).job_id].gpus == 4


@pytest.mark.parametrize("how", [{"workload": "interactive"}, {"template": "interactive"}])
def test_what_is_interactive_is_not_queued_as_a_batch_job(slurm, how):
    with pytest.raises(RequestError, match=r"terminal.*allocation"):
        submit(["true"], **how)
    assert slurm.submissions == []


@pytest.mark.parametrize("what", ["array", "script", "template"])
def test_an_allocation_has_no_script(slurm, what):
    with pytest.raises(RequestError, match=what):
        allocation(**{what: "1"}).__enter__()


# --- giving back ------------------------------------------------------------------------------


def test_the_gpus_go_back_at_the_end(slurm):
    with allocation(gpus=2) as held:
        assert len(held.indexes) == 2
        assert state(slurm, held.job_id) is JobState.RUNNING
    assert state(slurm, held.job_id) is JobState.CANCELLED


@pytest.mark.parametrize(
    "error", [SlurmUnavailable("away"), SlurmRefused("`scancel` ended with code 130")]
)
def test_the_gpus_go_back_although_slurm_is_away_for_a_while(slurm, caplog, error):
    with allocation() as held:
        slurm.unavailable(times=3, error=error)
    assert state(slurm, held.job_id) is JobState.CANCELLED
    assert caplog.records[0].levelno == logging.WARNING


def test_a_look_at_the_nodes_that_fails_once_loses_nothing(slurm, monkeypatch):
    whole = slurm.allocate

    def allocate(*args):
        job_id = whole(*args)
        slurm.unavailable(times=2)
        return job_id

    monkeypatch.setattr(slurm, "allocate", allocate)
    with allocation() as held:
        assert held.node
    assert state(slurm, held.job_id) is JobState.CANCELLED


def test_what_cannot_be_given_back_is_said_with_the_way_to_do_it(slurm, caplog):
    with allocation() as held:
        slurm.unavailable(times=1000)
    last = caplog.records[-1]
    assert last.levelno == logging.ERROR
    assert f"job {held.job_id} " in last.getMessage()
    assert f"scancel {held.job_id}" in last.getMessage()


def test_an_error_of_the_block_is_not_hidden_by_a_slurm_that_is_away(slurm):
    def fail():
        slurm.unavailable(times=1000)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), allocation():
        fail()


def test_without_any_logging_set_up_the_words_are_on_standard_error(slurm, capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with allocation() as held:
        slurm.unavailable(times=1000)
    assert f"scancel {held.job_id}" in capsys.readouterr().err


# --- signals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_block_and_the_handlers_are_as_before(slurm, put_back, number):
    signal.signal(number, signal.SIG_DFL)
    with pytest.raises(SystemExit) as left, allocation():
        signal.raise_signal(number)
    assert left.value.code == 128 + number
    assert {one.state for one in slurm.records.values()} == {JobState.CANCELLED}
    assert signal.getsignal(number) is signal.SIG_DFL


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (signal.SIGTERM, SystemExit),
        (signal.SIGHUP, SystemExit),
        (signal.SIGINT, KeyboardInterrupt),
    ],
)
def test_a_signal_during_the_release_waits_for_it(slurm, put_back, monkeypatch, number, error):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cancel = slurm.cancel

    def slow(job_id):
        signal.raise_signal(number)
        cancel(job_id)

    monkeypatch.setattr(slurm, "cancel", slow)
    with pytest.raises(error), allocation():
        pass
    assert {one.state for one in slurm.records.values()} == {JobState.CANCELLED}


def test_a_hangup_that_is_ignored_stays_ignored(slurm, put_back):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with allocation():
        signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_handler_that_is_not_pythons_is_left_alone(slurm, put_back, monkeypatch):
    whole = signal.getsignal
    monkeypatch.setattr(
        signal, "getsignal", lambda number: None if number == signal.SIGTERM else whole(number)
    )
    before = whole(signal.SIGTERM)
    with allocation():
        assert whole(signal.SIGTERM) is before
    assert whole(signal.SIGTERM) is before


def test_a_handler_set_in_the_block_outlives_it(slurm, put_back):
    def own(_number, _frame):
        pass

    with allocation():
        signal.signal(signal.SIGTERM, own)
    assert signal.getsignal(signal.SIGTERM) is own


def test_another_thread_can_hold_an_allocation(slurm):
    seen = []

    def hold():
        with allocation(gpus=2) as held:
            seen.append(held)

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert len(seen[0].indexes) == 2
    assert state(slurm, seen[0].job_id) is JobState.CANCELLED
