"""Which tests may run beside others (tools/test does so)."""

from __future__ import annotations

import signal

import pytest


@pytest.hookimpl(wrapper=True)  # before `-m` looks at the marks
def pytest_collection_modifyitems(items):
    """Mark what raises clusters of its own; all else shares one, or needs none."""
    for item in items:
        if hasattr(item.module, "PrivateCluster") or "steered_cluster" in item.fixturenames:
            item.add_marker(pytest.mark.own_cluster)
    return (yield)


def pytest_configure():
    """Undo what nohup and a shell's `&` leave to their children: tests send signals to theirs."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
