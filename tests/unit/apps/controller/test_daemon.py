"""The pace of ticks: even, and slower while they fail."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import nullcontext
from itertools import pairwise
from types import SimpleNamespace

import pytest

from slurm_gpu_policy.apps.controller.daemon import Daemon
from slurm_gpu_policy.errors import ControllerUnavailable, RecordsUnavailable
from slurm_gpu_policy.model.caller import Caller
from slurm_gpu_policy.model.tick import TickReport
from tests.builders import make_policy
from tests.fakes.clock import FakeClock


class Stub:
    """A controller whose ticks go as a test says."""

    tick_seconds = 60.0
    heartbeat_seconds = 9.0

    def __init__(self, clock):
        self.clock = clock
        self.began = []
        self.leads = True
        self.errors = ()
        self.lasts = 1.0
        self.told = []

    def keep_lead(self):
        if isinstance(self.leads, Exception):
            raise self.leads
        return self.leads

    def run_tick(self):
        self.began.append(self.clock.monotonic())
        self.clock.advance(self.lasts)
        return TickReport(0, self.lasts, leading=True, errors=self.errors)

    def stands_by(self, began):
        self.told.append("stands by")

    def failed(self, began, seconds, error):
        self.told.append(type(error).__name__)

    def status(self):
        return {"leading": True}

    def may_go_beside(self, request):
        return request["request"] == "budget"

    def handle(self, caller, request):
        return {"handled": request["request"]}


@pytest.fixture
def stub():
    return Stub(FakeClock(0))


def daemon(stub):
    return Daemon(stub, None, None, stub.clock)


def beats(one, stub, seconds):
    """Let the daemon beat whenever it wants to, for some time."""
    end = stub.clock.monotonic() + seconds
    while stub.clock.monotonic() < end:
        one._beat()
        stub.clock.seconds = max(stub.clock.seconds, one._due)


def gaps(stub):
    return [after - before for before, after in pairwise(stub.began)]


def test_ticks_begin_at_an_even_pace_whatever_they_take(stub):
    beats(daemon(stub), stub, 300)
    assert gaps(stub) == [60.0] * 4


def test_a_tick_that_takes_longer_than_the_pace_is_not_made_up_for(stub):
    one = daemon(stub)
    stub.lasts = 150
    beats(one, stub, 10)
    stub.lasts = 1
    beats(one, stub, 300)
    assert gaps(stub)[0] >= 150
    assert all(gap >= 60 for gap in gaps(stub))


def test_failing_ticks_come_more_slowly_and_the_lease_is_kept_meanwhile(stub):
    one = daemon(stub)
    stub.errors = ("SlurmUnavailable",)
    kept = []
    stub.keep_lead = lambda: kept.append(stub.clock.monotonic()) or True
    beats(one, stub, 3600)
    assert gaps(stub)[0] == 60
    assert 90 <= gaps(stub)[1] <= 120
    assert all(225 <= gap <= 300 for gap in gaps(stub)[3:])
    waits = [after - before for before, after in pairwise(kept)]
    assert max(waits) <= stub.heartbeat_seconds + stub.lasts
    stub.errors = ()
    beats(one, stub, 600)
    assert gaps(stub)[-1] == pytest.approx(60)


def test_a_standby_looks_at_the_lease_often_and_says_so_once_a_tick(stub):
    one = daemon(stub)
    stub.leads = False
    beats(one, stub, 600)
    assert stub.began == []
    assert 8 <= stub.told.count("stands by") <= 11
    stub.leads = True
    before = stub.clock.monotonic()
    beats(one, stub, 10)
    assert stub.began == [before]


def test_a_database_that_is_away_is_told_and_ends_nothing(stub):
    one = daemon(stub)
    stub.leads = RecordsUnavailable("locked")
    beats(one, stub, 30)
    assert set(stub.told) == {"RecordsUnavailable"}


def test_the_same_trouble_is_told_once_a_tick_and_another_at_once(stub):
    one = daemon(stub)
    stub.leads = RecordsUnavailable("locked")
    beats(one, stub, 600)
    assert 8 <= len(stub.told) <= 11
    stub.leads = ControllerUnavailable("else")
    beats(one, stub, 1)
    assert stub.told[-1] == "ControllerUnavailable"


def test_a_reload_says_what_only_a_start_can_change(stub):
    late = []
    reloaded = []
    surface = SimpleNamespace(
        reloading=lambda: None,
        ready=lambda: None,
        needs_restart=late.append,
        reloaded=lambda policy: reloaded.append(policy.controller.tick),
    )
    stub.policy = make_policy()
    stub.loaded = lambda policy: setattr(stub, "policy", policy)
    wanted = [
        make_policy(ordering={"kind": "fcfs"}),
        make_policy(
            slurm={"timeout": "9s"},
            controller={"tick": "2m", "socket": "/run/else", "listen": "ctl:9812", "reach": "a:1"},
        ),
    ]
    one = Daemon(stub, surface, lambda: wanted.pop(0), stub.clock)
    one._reload()
    assert late == []
    one._reload()
    assert late == [["controller.socket", "controller.listen", "slurm"]]
    assert reloaded == [60, 120]


def test_a_defect_is_told_ends_nothing_and_leaves_the_watchdog_without_a_sign(stub):
    one = daemon(stub)
    defects = []
    one._surface = SimpleNamespace(defect=lambda what, error: defects.append((what, str(error))))

    def broken():
        raise KeyError("x")  # noqa: EM101

    well, stub.run_tick = stub.run_tick, broken
    beats(one, stub, 30)
    assert defects == [("a tick failed", "'x'")]
    assert stub.told == ["KeyError"]
    assert one._is_defective
    stub.run_tick = well
    beats(one, stub, 100)
    assert stub.began
    assert not one._is_defective


def test_a_request_waits_for_the_tick_and_a_question_for_the_state_does_not(stub, monkeypatch):
    monkeypatch.setattr("slurm_gpu_policy.apps.controller.daemon._ANSWER_SECONDS", 0.01)
    one, caller = daemon(stub), Caller(0, "root")
    assert one._answer(caller, {"request": "audit"}) == {"handled": "audit"}
    with one._lock:
        assert one._answer(caller, {"request": "status"}) == {"leading": True}
        with pytest.raises(ControllerUnavailable, match="nothing was done"):
            one._answer(caller, {"request": "audit"})
    assert one._answer(caller, {"request": "audit"}) == {"handled": "audit"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_is_told_with_the_signal_that_asked_for_it(stub, number):
    told = []
    stub.policy = make_policy()
    stub.stop_when = stub.loaded = lambda _: None
    stub.resign = lambda: told.append("resigned")
    is_up = threading.Event()

    class Surface(nullcontext):
        ready = staticmethod(lambda: None)
        open = staticmethod(lambda _: None)
        alive = staticmethod(is_up.set)
        stopping = staticmethod(told.append)

    def end():
        is_up.wait(20)
        os.kill(os.getpid(), number)

    ending = threading.Thread(target=end)
    ending.start()
    Daemon(stub, Surface(), None, stub.clock).run()
    ending.join()
    assert told == [number.name, "resigned"]


def test_a_defect_that_ends_it_is_no_signal(stub):
    told = []
    stub.policy = make_policy()
    stub.stop_when = lambda _: None
    stub.resign = lambda: None

    def broken(_):
        raise KeyError("x")  # noqa: EM101

    class Surface(nullcontext):
        stopping = staticmethod(told.append)

    stub.loaded = broken
    with pytest.raises(KeyError):
        Daemon(stub, Surface(), None, stub.clock).run()
    assert told == [""]
