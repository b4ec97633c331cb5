"""Signals that a program takes note of."""

from __future__ import annotations

import os
import signal
import threading
import time

from slurm_gpu_policy.adapters.signals import Inbox


def test_a_signal_is_noted_and_ends_a_wait_at_once():
    before = signal.getsignal(signal.SIGHUP)
    with Inbox(signal.SIGHUP, signal.SIGTERM) as inbox:
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGHUP))
        timer.start()
        began = time.monotonic()
        inbox.wait(60)
        timer.join()
        assert time.monotonic() - began < 30
        assert inbox.came(signal.SIGTERM, signal.SIGHUP)
        assert not inbox.came(signal.SIGTERM)
        assert inbox.take(signal.SIGHUP)
        assert not inbox.take(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is before


def test_a_signal_that_came_before_the_wait_is_not_waited_for():
    with Inbox(signal.SIGTERM) as inbox:
        os.kill(os.getpid(), signal.SIGTERM)
        began = time.monotonic()
        inbox.wait(60)
        assert time.monotonic() - began < 30
        assert inbox.came(signal.SIGTERM)
        inbox.wait(0.01)  # and nothing is left in the pipe
