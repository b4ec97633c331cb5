"""slurmctld goes away and comes back under many gpu-submit at once, on a cluster of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.root]

SUBMITTERS = 200
AWAY_SECONDS = 3


class Scratch:
    """A cluster beside the shared one, whose controller may be killed."""

    def __init__(self, folder: Path) -> None:
        self.conf = str(folder / "etc/slurm.conf")
        self._env = {
            **os.environ,
            "CLUSTER_STATE": str(folder / "state"),
            "CLUSTER_CONF": str(folder / "etc"),
            "CLUSTER_LIMITS": str(folder / "limits.lua"),
            "CLUSTER_NAME": "restart",
            "CLUSTER_CTLD_PORT": "28817",
            "CLUSTER_DBD_PORT": "28819",
            "CLUSTER_SLURMD_PORT": "28821",
        }

    def do(self, command: str, *options: str) -> None:
        argv = [ROOT / "vagrant/cluster", command, "native", *options]
        done = subprocess.run(argv, env=self._env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def jobs(self) -> Counter:
        """How many jobs of each name Slurm knows, whatever their state."""
        done = subprocess.run(
            ["squeue", "--noheader", "--states=all", "--format=%j"],
            env={**os.environ, "SLURM_CONF": self.conf},
            capture_output=True,
            text=True,
            check=True,
        )
        return Counter(done.stdout.split())


@pytest.fixture(scope="module")
def scratch(cluster):
    folder = Path(tempfile.mkdtemp(prefix="slurm-gpu-policy-restart"))
    folder.chmod(0o755)
    made = Scratch(folder)
    try:
        made.do("up")
        yield made
    finally:
        made.do("reset")
        shutil.rmtree(folder)


def submit_while(u1, scratch: Scratch, prefix: str, stops: list[float], *options: str):
    """Start SUBMITTERS gpu-submit at once; stop the controller at each of *stops* (seconds).

    Returns the exit code of each, by the name of its job.
    """
    waiting = [f"{prefix}{number}" for number in range(SUBMITTERS)]
    running: dict[str, subprocess.Popen] = {}
    codes: dict[str, int] = {}
    said: dict[str, str] = {}
    began = time.monotonic()
    back_at: float | None = None
    while waiting or running or back_at is not None:
        while waiting:
            name = waiting.pop()
            running[name] = u1.start(
                *("gpu-submit", "--parsable", "--gpus", "1", "-t", "1", "-H", "-J", name),
                *("--", "true"),
                env={"SLURM_CONF": scratch.conf},
            )
        now = time.monotonic() - began
        if back_at is None and stops and now > stops[0]:
            stops.pop(0)
            scratch.do("stop-controller", *options)
            back_at = now + AWAY_SECONDS
        elif back_at is not None and now > back_at:
            scratch.do("start-controller")
            back_at = None
        for name, process in list(running.items()):
            if process.poll() is not None:
                codes[name] = process.returncode
                said[name] = process.communicate()[1].decode()
                del running[name]
        time.sleep(0.02)
    wrong = {name: (code, said[name]) for name, code in codes.items() if code not in {0, 4}}
    assert not wrong
    return codes


def test_every_submission_has_exactly_one_job_or_exited_4(u1, scratch):
    codes = submit_while(u1, scratch, "stopped-", [0.7, 6.0])
    found = scratch.jobs()
    wrong = {name: (code, found[name]) for name, code in codes.items() if found[name] != (not code)}
    assert not wrong
    assert Counter(codes.values())[0] >= SUBMITTERS // 2, "the test proves little if most fail"


def test_no_submission_has_two_jobs_when_the_controller_is_killed(u1, scratch):
    """SIGKILL takes with it what slurmctld had acknowledged and not yet saved (up to 5 s).

    So a job may be missing, which no client can prevent, but none may be there twice.
    """
    codes = submit_while(u1, scratch, "killed-", [0.7, 6.0], "--kill")
    found = scratch.jobs()
    assert [name for name in codes if found[name] > 1] == []
    assert [name for name, code in codes.items() if code == 4 and found[name]] == []
