"""slurmctld goes away and comes back under many gpu-submit at once."""

from __future__ import annotations

import subprocess
import time
from collections import Counter

import pytest

from tests.e2e.conftest import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.root]

SUBMITTERS = 200
AT_ONCE = 40


def controller(command: str, *options: str) -> None:
    argv = [ROOT / "vagrant/cluster", command, "native", *options]
    subprocess.run(argv, check=True, capture_output=True)


def jobs_by_name(prefix: str) -> Counter:
    done = subprocess.run(
        ["squeue", "--noheader", "--states=all", "--user=u1", "--format=%j"],
        capture_output=True,
        text=True,
        check=True,
    )
    return Counter(name for name in done.stdout.split() if name.startswith(prefix))


def test_every_submission_has_one_job_or_exited_4(u1):
    """200 submissions, 40 at a time, while the controller is stopped and started twice."""
    prefix = f"restart{time.time_ns()}-"
    waiting = [f"{prefix}{number}" for number in range(SUBMITTERS)]
    running: dict[str, subprocess.Popen] = {}
    codes: dict[str, int] = {}
    began = time.monotonic()
    stops = [1.0, 8.0]
    down_since = None
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            name = waiting.pop()
            running[name] = u1.start(
                "gpu-submit", "--parsable", "--gpus", "1", "-t", "1", "-J", name, "-H", "--", "true"
            )
        now = time.monotonic() - began
        if down_since is None and stops and now > stops[0]:
            stops.pop(0)
            controller("stop-controller")
            down_since = now
        elif down_since is not None and now > down_since + 3:
            controller("start-controller")
            down_since = None
        for name, process in list(running.items()):
            if process.poll() is not None:
                codes[name] = process.returncode
                process.communicate()
                del running[name]
        time.sleep(0.02)
    if down_since is not None:
        controller("start-controller")
    found = jobs_by_name(prefix)
    assert set(codes.values()) <= {0, 4}, Counter(codes.values())
    wrong = {
        name: (code, found[name]) for name, code in codes.items() if found[name] != (code == 0)
    }
    assert not wrong
    assert Counter(codes.values())[0] >= SUBMITTERS // 2, "the test proves little if most fail"
