"""The real cluster, and its ordinary users."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.clusters import PrivateCluster, programs, require_cluster
from tests.e2e.daemons import WAITING, Site, eventually

ROOT = Path(__file__).parents[2]


class User(NamedTuple):
    """An ordinary user of the cluster, in their own home."""

    name: str
    home: Path
    programs: str
    started: list[subprocess.Popen]

    def environment(self, **more: str) -> dict[str, str]:
        path = f"{self.programs}:/usr/local/bin:/usr/bin:/bin"
        base = {"HOME": str(self.home), "USER": self.name, "PATH": path, "LANG": "C.UTF-8"}
        return {**base, **more}

    def identity(self) -> dict:
        entry = pwd.getpwnam(self.name)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    def start(self, *argv, env=None, **kwargs) -> subprocess.Popen:
        kwargs.setdefault("cwd", self.home)
        process = subprocess.Popen(
            argv,
            env=self.environment(**(env or {})),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **self.identity(),
            **kwargs,
        )
        self.started.append(process)
        return process

    def run(self, *argv, check=True, timeout=120, env=None, **kwargs):
        kwargs.setdefault("cwd", self.home)
        done = subprocess.run(
            argv,
            env=self.environment(**(env or {})),
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            **self.identity(),
            **kwargs,
        )
        assert "Traceback" not in done.stderr, done.stderr
        if check:
            assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def submit(self, *argv, **kwargs) -> str:
        """Submit by gpu-submit and return the job id."""
        return self.run("gpu-submit", "--parsable", *argv, **kwargs).stdout.strip()

    def submit_json(self, *argv, **kwargs) -> dict:
        return json.loads(self.run("gpu-submit", "--json", *argv, **kwargs).stdout)


@pytest.fixture(scope="session")
def cluster():
    """The native cluster; absent it is a skip here and a failure in CI."""
    done = subprocess.run(
        [ROOT / "vagrant/cluster", "status", "native"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        why = f"the local cluster is not up (make cluster): {done.stdout}{done.stderr}"
        if os.environ.get("SLURM_GPU_POLICY_REQUIRE_CLUSTER") == "1":
            pytest.fail(why)
        pytest.skip(why)


@pytest.fixture
def people(cluster):
    """u1 to u4, who leave nothing in the queue."""
    names = ("u1", "u2", "u3", "u4")
    started: list[subprocess.Popen] = []
    yield {name: User(name, Path(pwd.getpwnam(name).pw_dir), programs(), started) for name in names}
    for process in started:
        process.kill()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()
        process.wait()


@pytest.fixture
def users(people):
    """u1 to u4; what a test leaves in the queue is cancelled after it."""
    before = queued()
    yield people
    if left := queued() - before:
        subprocess.run(["scancel", *left], check=False, capture_output=True)


def queued() -> set[str]:
    """Ids of all jobs that wait or run."""
    done = subprocess.run(
        ["squeue", "--noheader", "--format=%A"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.fixture
def u1(users):
    return users["u1"]


def squeue(job: str, field: str) -> str:
    """One field of a job as squeue prints it, also of an ended one."""
    done = subprocess.run(
        ["squeue", "--noheader", "--states=all", f"--jobs={job}", f"--format={field}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def wait_for(job: str, *states: str, seconds: float = 60) -> str:
    """Wait until a job (or its array's every task) is in one of *states*; return its state."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = set(squeue(job, "%T").split())
        if found and found <= set(states):
            return found.pop()
        time.sleep(0.2)
    pytest.fail(f"job {job} is {squeue(job, '%T %r')}, not {states}, after {seconds} s")


def scontrol_indexes(job: str) -> dict[str, str]:
    """GPU indexes per node of a job, as Slurm itself prints them: {'gpu01': '0-3'}."""
    done = subprocess.run(
        ["scontrol", "-d", "show", "job", job], capture_output=True, text=True, check=True
    )
    found = {}
    for line in done.stdout.splitlines():
        words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if "Nodes" in words and "(IDX:" in words.get("GRES", ""):
            nodes = subprocess.run(
                ["scontrol", "show", "hostnames", words["Nodes"]],
                capture_output=True,
                text=True,
                check=True,
            )
            indexes = words["GRES"].partition("(IDX:")[2].rstrip(")")
            found.update(dict.fromkeys(nodes.stdout.split(), indexes))
    return found


@pytest.fixture(scope="module")
def steered_cluster(request):
    """A cluster of its own with full nodes, for controllers to steer."""
    require_cluster()
    name = request.module.__name__.rpartition("_")[2]  # modules may run side by side
    with PrivateCluster(name, settings=["PriorityWeightAge=0"]) as one:
        one.sbatch("-N2", "--gres=gpu:h100:8", "-t", "7-0", "-o", "/dev/null", "--wrap=sleep 9999")
        eventually(lambda: "R" in one.run("squeue", "-h", "-o", "%t").stdout)
        yield one


@pytest.fixture
def site(steered_cluster, tmp_path):
    """A site whose jobs go in the order in which they come; its controllers end with the test."""
    made = Site(steered_cluster, tmp_path, ordering={"kind": "fcfs"})
    yield made
    made.tidy()


@pytest.fixture
def waiting(steered_cluster):
    """Ids of five jobs that wait for the nodes; all that waits is cancelled after the test."""
    yield [int(steered_cluster.sbatch(*WAITING)) for _ in range(5)]
    ids = steered_cluster.run("squeue", "-h", "-o", "%A", "-t", "pending").stdout.split()
    if ids:
        steered_cluster.run("scancel", *ids)
