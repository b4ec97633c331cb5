"""``gpu-policyd`` processes on a private cluster, and what they leave in their audit log."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import yaml

from tests.clusters import ROOT

if TYPE_CHECKING:
    from pathlib import Path

TICK_SECONDS = 0.3
"""Production's minute."""
LEASE = "5s"
"""Longer than any tick, also on a busy machine; some tests have the usual one and a half ticks."""

WAITING = ("--gres=gpu:h100:8", "-t", "10", "-o", "/dev/null", "--wrap=sleep 60")
"""Options of a job that waits while the nodes are full."""


class Site:
    """A policy file, a database and a socket for controllers of one cluster."""

    def __init__(self, cluster, folder: Path, *, lease=LEASE, **policy):
        self.cluster = cluster
        self.folder = folder
        self.file = folder / "policy.yaml"
        self.database = folder / "policy.db"
        self.started: list[Controller] = []
        self.policy = {
            "enforcement": "enforce",
            "slurm": {"timeout": "10s"},
            "controller": {
                "database": f"sqlite:///{self.database}",
                "socket": str(folder / "sock"),
                "metrics": "",
                **({"lease": lease} if lease else {}),
            },
            **policy,
        }
        self.write()

    def write(self, **changes):
        """Write the policy file with *changes*."""
        self.policy |= changes
        # Where it does not say otherwise it is the machine's own.
        table = {"table": str(self.folder / "budgets.lua")}
        self.policy["ledger"] = table | self.policy.get("ledger", {})
        self.file.write_text(yaml.safe_dump(self.policy))

    def environment(self, **more):
        return os.environ | {
            "SLURM_CONF": self.cluster.conf,
            "PYTHONPATH": str(ROOT),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            **more,
        }

    def argv(self, *args):
        program = (sys.executable, "-m", "slurm_gpu_policy.apps.controller")
        return [*program, "--config", str(self.file), *args]

    def start(self, *args, tick=TICK_SECONDS, env=None):
        """Start a controller."""
        made = Controller(
            self.argv("--verbose", "--tick", str(tick), *args),
            self.environment(**(env or {})),
            self.folder / f"log{len(self.started)}",
        )
        self.started.append(made)
        return made

    def once(self, *args, check=True):
        """Run one tick, or what *args* say, and return the process that is over."""
        done = subprocess.run(
            self.argv("--once", *args),
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert "Traceback" not in done.stderr, done.stderr
        if check:
            assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def tick(self):
        """Do one tick and return its report."""
        return json.loads(self.once("--json").stdout)

    def entries(self):
        """Return the audit log, oldest first, as mappings."""
        if not self.database.exists():
            return []
        with sqlite3.connect(self.database, timeout=10) as connection:
            connection.row_factory = sqlite3.Row
            rows = connection.execute("SELECT * FROM audit ORDER BY 1").fetchall()
        return [dict(row) for row in rows]

    def holder(self):
        """Return who holds the lease."""
        with sqlite3.connect(self.database, timeout=10) as connection:
            rows = connection.execute("SELECT holder FROM lease").fetchall()
        return rows[0][0] if rows else ""

    def end_lease(self):
        """Let the lease of a controller that was killed have run out."""
        with sqlite3.connect(self.database, timeout=10) as connection:
            connection.execute("UPDATE lease SET holder = ''")

    def is_whole(self):
        """Whether the database is sound, says sqlite itself."""
        with sqlite3.connect(self.database, timeout=10) as connection:
            return connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"

    def tidy(self):
        """End all controllers."""
        for one in self.started:
            one.kill()


class Controller:
    """A running ``gpu-policyd``."""

    def __init__(self, argv, env, log: Path):
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(argv, env=env, stdout=out, stderr=out)

    @property
    def pid(self):
        return self.process.pid

    def events(self, name=None):
        """Return what it has logged, as mappings."""
        found = []
        for line in self.log.read_text().splitlines():
            assert line.startswith("{"), self.log.read_text()
            found.append(json.loads(line))
        return [one for one in found if name in {None, one["event"]}]

    def ticks(self):
        """Return its ticks as the leader."""
        return [one for one in self.events("tick") if one["leading"]]

    def good_ticks(self):
        """Return its ticks as the leader that had no errors."""
        return [one for one in self.ticks() if not one["errors"]]

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()

    def end(self, seconds=30):
        """Ask it to end, and return its exit code."""
        self.signal(signal.SIGTERM)
        return self.process.wait(seconds)


def eventually(is_so, seconds=30, every=0.05):
    """Wait until ``is_so()`` is true, and return that."""
    deadline = time.monotonic() + seconds
    while not (found := is_so()):
        assert time.monotonic() < deadline, f"not so after {seconds} s: {is_so}"
        time.sleep(every)
    return found


def after_ticks(controller, count=2, seconds=30):
    """Wait for *count* further ticks without errors."""
    before = len(controller.good_ticks())
    eventually(lambda: len(controller.good_ticks()) >= before + count, seconds)


def sites(cluster):
    """Return the site factor of each job that competes, by sprio."""
    said = cluster.run("sprio", "-h", "-o", "%i %S").stdout.split("\n")
    return {int(line.split()[0]): int(line.split()[1]) for line in said if line.strip()}


def in_order(cluster, ids):
    """Whether the jobs' site factors put them into this order, each with one of its own."""
    found = sites(cluster)
    mine = [found.get(one, 0) for one in ids]
    return all(mine) and mine == sorted(mine, reverse=True)


def queue_many(cluster, count, *options, at_once=6):
    """Queue *count* jobs, each a record of its own, by several loops of sbatch at the same time."""
    common = "sbatch --parsable -t 10 -o /dev/null --wrap=true"
    loop = f"for n in $(seq {count // at_once}); do {common} {' '.join(options)}; done"
    argv = cluster.argv("sh", "-c", loop, user="u1", cwd="/tmp")
    loops = [
        subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(at_once)
    ]
    for one in loops:
        _, words = one.communicate()
        assert one.returncode == 0, words.decode()
