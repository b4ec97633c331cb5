"""What systemd hears, on a real datagram socket."""

from __future__ import annotations

import os
import socket
import time

import pytest

from slurm_gpu_policy.adapters.service_manager import ServiceManager


@pytest.fixture(params=["file", "abstract"])
def manager(request, tmp_path):
    """A socket as systemd's, and the environment that names it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.settimeout(20)
        if request.param == "file":
            address = f"{tmp_path}/notify"
            line.bind(address)
        else:
            address = f"@slurm-gpu-policy-test-{os.getpid()}"
            line.bind("\0" + address[1:])
        yield line, {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000"}


def heard(line):
    return line.recv(10_000).decode().split("\n")


def test_the_end_of_a_start_is_told(manager):
    line, environment = manager
    ServiceManager(environment).ready("leads, 40 jobs wait")
    assert heard(line) == ["READY=1", "STATUS=leads, 40 jobs wait"]


def test_a_reload_is_told_with_its_time(manager):
    line, environment = manager
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    ServiceManager(environment).reloading()
    state, stamp = heard(line)
    assert state == "RELOADING=1"
    name, _, microseconds = stamp.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(microseconds) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_signs_of_life_and_the_end_are_told(manager):
    line, environment = manager
    service_manager = ServiceManager(environment)
    service_manager.alive()
    service_manager.stopping()
    assert heard(line) == ["WATCHDOG=1"]
    assert heard(line) == ["STOPPING=1"]


def test_a_status_is_one_line_whatever_is_in_it(manager):
    line, environment = manager
    ServiceManager(environment).status("error: a\nMAINPID=1\r\nb\udc80")
    assert heard(line) == ["STATUS=error: a MAINPID=1 b\\udc80"]


def test_without_systemd_nothing_happens():
    service_manager = ServiceManager({})
    assert service_manager.watchdog_seconds is None
    service_manager.ready("status")
    service_manager.reloading()
    service_manager.alive()
    service_manager.stopping()
    service_manager.status("")


def test_a_manager_that_went_away_or_does_not_listen_is_no_error(tmp_path):
    ServiceManager({"NOTIFY_SOCKET": f"{tmp_path}/gone"}).ready()
    ServiceManager({"NOTIFY_SOCKET": "x" * 200}).ready()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(f"{tmp_path}/full")
        service_manager = ServiceManager(
            {"NOTIFY_SOCKET": f"{tmp_path}/full", "WATCHDOG_USEC": "1000000"}
        )
        for _ in range(5000):  # its queue is full long before: nobody reads
            service_manager.alive()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "180000000"}, 180.0),
        ({"WATCHDOG_USEC": "180000000", "WATCHDOG_PID": str(os.getpid())}, 180.0),
        ({"WATCHDOG_USEC": "180000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdogs_time_is_known_if_it_is_for_this_process(environment, seconds):
    assert ServiceManager(environment).watchdog_seconds == seconds


def test_no_sign_of_life_is_sent_where_none_is_waited_for(manager):
    line, environment = manager
    del environment["WATCHDOG_USEC"]
    service_manager = ServiceManager(environment)
    service_manager.alive()
    service_manager.stopping()
    assert heard(line) == ["STOPPING=1"]
