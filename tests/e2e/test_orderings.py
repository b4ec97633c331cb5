"""40 mixed GPU jobs start in the order the policy says, under a controller that enforces it.

The order is determined: every job fits on one of the two nodes only, because the other stays full;
whatever runs there has a longer time limit than all that waits, and the jobs on the node that is
freed a shorter one, so backfill finds no hole that a later job could use without delaying the
first. Slurm computes fair share only when its controller starts, so running jobs move nothing.
What order the policy means is computed here anew, from what Slurm shows.
"""

from __future__ import annotations

import random
import time

import pytest

from tests.clusters import PrivateCluster, require_cluster
from tests.e2e.daemons import Site, after_ticks, eventually, sites

pytestmark = [pytest.mark.cluster, pytest.mark.root]

JOBS = 40
GPUS = 8
FREED = "gpu01"
PEOPLE = (
    ("u1", "nlp-pretrain"),
    ("u1", "nlp-finetune"),
    ("u1", "vision"),
    ("u2", "nlp-finetune"),
    ("u2", "nlp-pretrain"),
    ("u3", "vision-seg"),
    ("u3", "vision-seg-medical"),
    ("u4", "vision-seg-medical"),
)
CLASSES = {"qos": {"high": "critical"}, "accounts": {"vision": "high", "nlp-finetune": "low"}}
RANKS = {"critical": 3, "high": 2, "normal": 1, "low": 0}


@pytest.fixture(scope="module")
def cluster():
    require_cluster()
    settings = ["PriorityWeightAge=0", "PriorityCalcPeriod=600", "PriorityDecayHalfLife=1-0"]
    with PrivateCluster("orderings", settings=settings) as one:
        _use_some(one)
        yield one


def _use_some(cluster):
    """Let some people have used something, so that fair share tells them apart."""
    ids = [
        cluster.sbatch("-A", account, "--gres=gpu:h100:1", "-o", "/dev/null",
                       f"--wrap=sleep {1 + number}", user=user)
        for number, (user, account) in enumerate(PEOPLE[::3])
    ]  # fmt: skip
    eventually(lambda: not cluster.run("squeue", "-h", "-j", ",".join(ids)).stdout, 60, every=0.5)


class Queue:
    """Full nodes, and jobs that wait for one of them."""

    def __init__(self, cluster, seed):
        self.cluster = cluster
        self.draw = random.Random(seed)  # noqa: S311
        self.running: list[str] = []
        self.gpus: dict[str, int] = {}
        self.facts: dict[str, dict] = {}

    def fill(self):
        """Take all GPUs: one job has the other node, eight small ones the node to be freed."""
        common = ("-o", "/dev/null", "--wrap=sleep 9999", "-c", "1")
        self.blocker = self.cluster.sbatch(
            "-w", "gpu02", "--gres=gpu:h100:8", "-t", "7-0", *common, user="root"
        )
        for _ in range(GPUS):
            job = self.cluster.sbatch(
                "-w", FREED, "--gres=gpu:h100:1", "-t", "1-0", *common, user="root"
            )
            self.running.append(job)
            self.gpus[job] = 1
        ids = ",".join([self.blocker, *self.running])
        eventually(
            lambda: (
                set(self.cluster.run("squeue", "-h", "-j", ids, "-o", "%t").stdout.split()) == {"R"}
            ),
            60,
        )

    def submit(self, number, *, sizes, different_limits):
        """Submit *number* jobs of different people, sizes and, if so, time limits."""
        limits = self.draw.sample(range(number), number)
        for place in range(number):
            user, account = self.draw.choice(PEOPLE)
            qos = self.draw.choice(["normal", "normal", "high"]) if user != "u4" else "normal"
            size = self.draw.choice(sizes)
            minutes = 3 * 1440 + (limits[place] if different_limits else 0)
            job = self.cluster.sbatch(
                "-A", account, "--qos", qos, f"--gres=gpu:h100:{size}", "-t", str(minutes),
                "-c", "1", "--no-requeue", "-o", "/dev/null", "--wrap=sleep 9999", user=user,
            )  # fmt: skip
            self.gpus[job] = size
            self.facts[job] = {
                "user": user, "account": account, "qos": qos, "minutes": minutes, "id": int(job)
            }  # fmt: skip

    def priorities(self):
        """Return each waiting job's priority by sprio."""
        said = self.cluster.run("sprio", "-h", "-o", "%i %Y").stdout
        pairs = [line.split() for line in said.splitlines()]
        return {job: int(points) for job, points in pairs if job in self.facts}

    def starts(self):
        """Return when each of the jobs that have started did so, in Slurm's seconds."""
        said = self.cluster.run(
            "squeue", "-h", "-t", "all", "-o", "%A %T %S", env={"SLURM_TIME_FORMAT": "%s"}
        ).stdout
        found = {}
        for line in said.splitlines():
            job, state, when = line.split()
            if job in self.facts and state != "PENDING" and when.isdigit():
                found[job] = int(when)
        return found

    def free_one_by_one(self, order):
        """End the longest running jobs, as few as the next in line needs, until all have run."""
        started: dict[str, int] = {}
        waits = list(order)
        while waits:
            free = GPUS - sum(self.gpus[job] for job in self.running)
            ended = []
            while free < self.gpus[waits[0]]:
                ended.append(self.running.pop(0))
                free += self.gpus[ended[-1]]
            if ended:
                time.sleep(1.02 - time.time_ns() % 10**9 / 1e9)  # Slurm tells whole seconds
                self.cluster.run("scancel", *ended)
            new = eventually(lambda: self.starts().keys() - started.keys(), 30, every=0.15)
            found = self.starts()
            for job in sorted(new, key=lambda job: (found[job], order.index(job))):
                started[job] = found[job]
                self.running.append(job)
                waits.remove(job)
        return started

    def free_fillers(self):
        """End the jobs that fill the node, one after another; return who started, in turn."""
        started: list[str] = []
        for filler in self.running:
            self.cluster.run("scancel", filler)
            (job,) = eventually(lambda: self.starts().keys() - set(started), 30, every=0.15)
            started.append(job)
        return started

    def tidy(self):
        ids = self.cluster.run("squeue", "-h", "-o", "%A").stdout.split()
        if ids:
            self.cluster.run("scancel", *ids)
        eventually(lambda: not self.cluster.run("squeue", "-h").stdout, 60, every=0.3)


def shares(cluster):
    """Return the fair-share factor of each (user, account), by sshare."""
    said = cluster.run("sshare", "-a", "-h", "-P", "-o", "user,account,fairshare").stdout
    rows = [line.split("|") for line in said.splitlines()]
    return {(user, account.strip()): float(text) for user, account, text in rows if user}


def expected(kind, queue, before):
    """Return the jobs in the policy's order; *before* are Slurm's own priorities."""
    factors = shares(queue.cluster)

    def key(job):
        fact = queue.facts[job]
        name = CLASSES["qos"].get(fact["qos"]) or CLASSES["accounts"].get(fact["account"], "normal")
        first = {
            "fcfs": (0,),
            "sjf": (fact["minutes"],),
            "fair_share": (-int(100_000 * factors[fact["user"], fact["account"]]),),
            "priority": (-RANKS[name], -before[job]),
        }[kind]
        return (*first, fact["id"])

    return sorted(queue.facts, key=key)


@pytest.mark.parametrize("kind", ["fcfs", "sjf", "fair_share", "priority"])
def test_jobs_start_in_the_order_of_the_policy(cluster, tmp_path, kind):
    cluster.do("restart-controller")  # the one moment when it computes fair share
    queue = Queue(cluster, seed=kind)
    ordering = {"kind": kind, "classes": CLASSES, "fair_share": {"per_gpu": 0}}
    site = Site(cluster, tmp_path, ordering=ordering)
    try:
        queue.fill()
        queue.submit(JOBS, sizes=[1, 2, 2, 3, 4, 4, 8], different_limits=kind == "sjf")
        before = eventually(lambda: found if len(found := queue.priorities()) == JOBS else None, 30)
        order = expected(kind, queue, before)
        assert order != sorted(order, key=lambda job: (-before[job], int(job))), "Slurm's own"
        controller = site.start()
        after_ticks(controller, 3)
        now = queue.priorities()
        assert sorted(now, key=lambda job: (-now[job], int(job))) == order
        started = queue.free_one_by_one(order)
        seconds = [started[job] for job in order]
        assert seconds == sorted(seconds), [(job, queue.gpus[job], started[job]) for job in order]
        assert len(set(seconds)) >= JOBS // 2, "too many started in the same second to tell"
        assert controller.end() == 0
    finally:
        site.tidy()
        queue.tidy()


def test_by_fair_share_people_take_turns(cluster, tmp_path):
    """P-605: each GPU of one's own that runs or waits ahead costs points; nothing ends here."""
    cluster.do("restart-controller")
    queue = Queue(cluster, seed="turns")
    site = Site(cluster, tmp_path, ordering={"kind": "fair_share"})
    try:
        queue.fill()
        queue.submit(GPUS + 12, sizes=[1], different_limits=False)
        factors, ahead = shares(cluster), {}
        score = {}
        for job, fact in queue.facts.items():  # in the order of submission
            whose = fact["user"], fact["account"]
            score[job] = int(100_000 * factors[whose]) - 500 * ahead.get(whose, 0)
            ahead[whose] = ahead.get(whose, 0) + 1
        order = sorted(score, key=lambda job: (-score[job], int(job)))
        controller = site.start()
        after_ticks(controller, 3)
        assert len(sites(cluster)) == GPUS + 12
        started = queue.free_fillers()
        assert started == order[:GPUS]
    finally:
        site.tidy()
        queue.tidy()
