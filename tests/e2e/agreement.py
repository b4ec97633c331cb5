"""A random account tree with real usage and a random queue, to hold our arithmetic to Slurm's.

Everything is drawn from a seed. The tree goes in by ``sacctmgr load``, usage comes from short
jobs that really run on ``cpu01``, and the queue waits on nodes that are drained.
"""

from __future__ import annotations

import os
import pwd
import random
import shlex
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from slurm_gpu_policy.adapters.clock import SystemClock
from slurm_gpu_policy.adapters.slurm.commands import CommandSlurm
from slurm_gpu_policy.services import standing

if TYPE_CHECKING:
    from slurm_gpu_policy.model.snapshot import Snapshot

PEOPLE = (
    *("daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "proxy"),
    *("www-data", "backup", "list", "irc", "u1", "u2", "u3", "u4"),
)
"""Users that both worlds have."""
PARENT = 2147483647
"""How ``fairshare=parent`` is written in a file of sacctmgr."""
SETTINGS = (
    "PriorityDecayHalfLife=01:00:00",
    "PriorityMaxAge=00:20:00",
    "PriorityWeightTRES=CPU=1000,Mem=2000,GRES/gpu=1500",
    "PriorityWeightJobSize=3000",
    "PriorityWeightAssoc=1500",
    "MinJobAge=10",
    # Where usage runs; dear, so that a second is much more than the hundredths to which Slurm
    # prints usage.
    *(
        f"PartitionName={name} Nodes=cpu01 MaxTime=60 PriorityJobFactor={factor} "
        f'TRESBillingWeights="{weights}"'
        for name, factor, weights in (
            ("now", 3, "CPU=137700,Mem=31000G"),
            ("busy", 2, "CPU=211300,Mem=17000G"),
        )
    ),
    # Where the queue waits. No drained nodes, for a controller may forget them when it restarts.
    *(
        f"PartitionName={name} Nodes={nodes} State=DOWN DefaultTime=90 MaxTime={most} "
        f'PriorityJobFactor={factor} TRESBillingWeights="CPU=2.0"'
        for name, nodes, most, factor in (
            ("never", "cpu01,gpu02", "UNLIMITED", 7),
            ("later", "gpu01,gpu02", "600", 1),
            ("soon", "gpu01,gpu02", "480", 12),
        )
    ),
)


class Place(NamedTuple):
    """A user association."""

    account: str
    user: str
    partition: str


class Tree(NamedTuple):
    """An account tree as text for ``sacctmgr load``, and the users in it."""

    text: str
    places: tuple[Place, ...]


def dice(seed: int) -> random.Random:
    """Return what all is drawn from."""
    return random.Random(seed)  # noqa: S311 - to be the same again


def make_tree(cluster_name: str, seed: int, users: int = 220) -> Tree:
    """Return at least *users* user associations in nested accounts with ties and idle corners."""
    draw = dice(seed)
    accounts = [("root", 0)]
    under: dict[str, list[str]] = {"root": []}
    lines: dict[str, list[str]] = {}
    for number in range(users // 6):
        parent, depth = draw.choice([one for one in accounts if one[1] < 5])
        name = f"a{number:02d}"
        accounts.append((name, depth + 1))
        under.setdefault(parent, []).append(name)
        under[name] = []
        # Equal shares are frequent, so that accounts tie; some have none, some their parent's.
        shares = draw.choice([0, 0, 1, 1, 1, 2, 10, 10, 30, PARENT, PARENT])
        priority = draw.choice([0, 5, 10, 40])
        lines.setdefault(parent, []).append(
            f"Account - '{name}':Description='{name}':Organization='lab':"
            f"Fairshare={shares}:Priority={priority}"
        )
    names = [name for name, _depth in accounts if name != "root"]
    places: list[Place] = []
    default: dict[str, str] = {}
    while len(places) < users:
        account, user = draw.choice(names), draw.choice(PEOPLE)
        if any((one.account, one.user) == (account, user) for one in places):
            continue
        default.setdefault(user, account)
        kinds = draw.choice([("",), ("",), ("",), ("",), ("", "now"), ("", "never", "later")])
        for partition in kinds:
            shares = draw.choice([0, 1, 1, 1, 2, 5, 5, 10, PARENT])
            more = f":Partition='{partition}'" if partition else ""
            if draw.random() < 0.2:
                more += f":Priority={draw.choice([1, 20, 77])}"
            lines.setdefault(account, []).append(
                f"User - '{user}':DefaultAccount='{default[user]}':Fairshare={shares}{more}"
            )
            places.append(Place(account, user, partition))
    qos = "normal,low,high,debug,half"
    text = [f"Cluster - '{cluster_name}':Fairshare=1:QOS='{qos}':DefaultQOS='normal'"]
    waiting = ["root"]
    while waiting:
        parent = waiting.pop(0)
        if parent in lines:
            text += [f"Parent - '{parent}'", *lines[parent]]
        waiting += under[parent]
    return Tree("\n".join(text) + "\n", tuple(places))


def usage_script(tree: Tree, seed: int, jobs: int = 150) -> str:
    """Return a shell script of short jobs, none for about half of the users."""
    draw = dice(seed)
    busy = [one for one in tree.places if draw.random() < 0.5]
    lines = []
    for number in range(jobs):
        place = busy[number % len(busy)]
        partition = place.partition if place.partition == "now" else "busy"
        size = ["-n", draw.choice(["1", "2", "4", "7"]), f"--mem={draw.randrange(500, 9000)}"]
        qos = draw.choice(["normal", "normal", "half"])
        run = draw.choice([1, 1, 2, 3, 5])
        lines.append(
            sbatch(place, "-p", partition, *size, "-q", qos, "-t", "5", "--wrap", f"sleep {run}")
        )
    return "\n".join(lines) + "\n"


def queue_script(tree: Tree, seed: int, jobs: int = 640, *, later: bool) -> str:
    """Return a shell script of waiting jobs of all kinds; *later* adds what 24.11 brought."""
    draw = dice(seed)
    # Slurm wants one partition of those who have an association for one.
    tied = {(one.account, one.user) for one in tree.places if one.partition}
    lines = []
    for _ in range(jobs):
        place = draw.choice(tree.places)
        partitions = ["later", "soon", "never"]
        draw.shuffle(partitions)
        chosen = partitions[: draw.choice([1, 1, 1, 2, 3])]
        if (place.account, place.user) in tied:
            chosen = [place.partition if place.partition in {"later", "never"} else chosen[0]]
        qos = draw.choice(["normal", "low", "high", "half"])
        if later and draw.random() < 0.15:
            qos = "low,normal,high"
        where = ["-p", ",".join(chosen), "-q", qos]
        options = [*where, *_size(draw, gpus="never" not in chosen), *_more(draw)]
        lines.append(sbatch(place, *options, "--wrap", "sleep 60"))
    return "\n".join(lines) + "\n"


def _size(draw: random.Random, *, gpus: bool) -> list[str]:
    nodes = draw.choice([1, 1, 1, 2])
    size = [f"-N{nodes}", "-n", str(nodes * draw.choice([1, 2, 3, 8, 31]))]
    size += ["-t", str(draw.choice([1, 10, 61, 240, 479]))]
    if gpus and draw.random() < 0.6:
        size += [f"--gres=gpu:h100:{draw.choice([1, 2, 3, 8])}"]
    return size + draw.choice([[], [], ["--mem=1001"], ["--mem-per-cpu=3333"], ["-c", "2"]])


def _more(draw: random.Random) -> list[str]:
    nice = draw.choice([[], [], [f"--nice={draw.randrange(-300, 3000)}"], ["--nice=20000"]])
    kinds = {
        "array": [f"--array=0-{draw.randrange(1, 30)}"],
        "held": ["-H"],
        "not today": ["--begin=now+6hours"],
        "soon": [f"--begin=now+{draw.randrange(2, 9)}"],
        "alone": ["--dependency=singleton", "-J", "alone"],
        "deadline": ["--deadline=now+2days"],
        "plain": [],
    }
    (kind,) = draw.choices(list(kinds), weights=[10, 4, 4, 4, 3, 3, 72])
    return nice + kinds[kind]


def sbatch(place: Place, *options: str) -> str:
    """Return the command line by which root submits for *place*'s user."""
    person = pwd.getpwnam(place.user)  # the same numbers in both worlds
    who = [f"--uid={person.pw_uid}", f"--gid={person.pw_gid}", "-A", place.account]
    argv = ["sbatch", "--parsable", "-D", "/tmp", "-o", "/dev/null", *who, *options]
    return shlex.join(argv)


def changes_script(jobs: list[str], seed: int) -> str:
    """Return a shell script that sets site factors and some priorities by hand."""
    draw = dice(seed)
    lines = []
    for job in jobs:
        kind = draw.random()
        if kind < 0.25:
            site = draw.choice([1, -1, 500, -20000, 100000, draw.randrange(-5000, 5000)])
            lines.append(f"scontrol update JobId={job} SiteFactor={site}")
        elif kind < 0.29:
            lines.append(
                f"scontrol update JobId={job} Priority={draw.randrange(1, 50000)} || :"
            )  # held
    return "\n".join(lines) + "\n"


def last_calculation(cluster) -> int:
    """Return the second of Slurm's last calculation; 0 in the moment in which it is written."""
    try:
        packed = (cluster.state / "spool/slurmctld/priority_last_decay_ran").read_bytes()
    except FileNotFoundError:  # it is unlinked, then linked anew
        return 0
    return int.from_bytes(packed[:8], "big")


def wait_for_calculation(cluster, after: int, seconds: float = 90) -> int:
    """Return the second of the first calculation after that of *after*."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (found := last_calculation(cluster)) > after:
            return found
        time.sleep(0.05)
    msg = f"no calculation in {seconds} s"
    raise AssertionError(msg)


def client_folder(cluster, folder) -> str:
    """Make programs named like Slurm's that talk to *cluster*; return a PATH with them first.

    So our own code runs here, whichever world the cluster lives in.
    """
    for name in ("scontrol", "squeue", "sprio", "sshare", "sacctmgr", "sacct", "sbatch"):
        path = folder / name
        inner = shlex.join(cluster.argv(name))
        knobs = " ".join(f"{key}={shlex.quote(value)}" for key, value in cluster._knobs.items())
        path.write_text(
            f'#!/bin/sh\nexec env PATH={shlex.quote(os.environ["PATH"])} {knobs} {inner} "$@"\n'
        )
        path.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


class Slurms(NamedTuple):
    """What Slurm says at one calculation: ``sshare``'s and ``sprio``'s figures as printed."""

    shares: dict[tuple[str, str, str], str]
    priorities: dict[tuple[int, str, str], int]
    by_hand: dict[int, int]
    """Priorities of jobs with several partitions that were set by hand, as squeue has them: of
    these sprio 22.05 shows one term only."""


def ask_slurm(cluster, *, with_qos: bool) -> Slurms:
    """Ask ``sshare``, ``sprio`` and ``squeue`` of *cluster*."""
    columns = "Account,User,Partition,FairShare"
    text = cluster.run("sshare", "-a", "-m", "-h", "-P", "-o", columns).stdout
    rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]
    shares = {(row[0], row[1], row[2]): row[3] for row in rows if row[1]}
    form = "%i|%r|%Y|%N" + ("|%n" if with_qos else "")
    priorities, by_hand = {}, {}
    listed = cluster.run("squeue", "-h", "-a", "-t", "PD", "-o", "%i|%Q").stdout
    own = {line.partition("_")[0].partition("|")[0]: line for line in listed.splitlines()}
    for line in cluster.run("sprio", "-h", "-o", form).stdout.splitlines():
        job, partition, priority, nice, *qos = (cell.strip() for cell in line.split("|"))
        key = (int(job), partition, qos[0] if qos else "")
        if nice == "-2147483648":
            by_hand[int(job)] = int(own[job].rpartition("|")[2])
        else:
            assert key not in priorities, line
            priorities[key] = int(priority)
    return Slurms(shares, priorities, by_hand)


class Ours(NamedTuple):
    """The same, computed by us, in the same forms."""

    shares: dict[tuple[str, str, str], str]
    priorities: dict[tuple[int, str, str], int]


def compute(snapshot: Snapshot, *, with_qos: bool) -> Ours:
    """Return what we make of *snapshot*."""
    shares = {
        (one.member.account, one.member.user, one.member.partition): f"{one.fair_share:.6f}"
        for one in standing.fair_shares(snapshot)
        if one.member.user
    }
    priorities = {
        (one.job.job_id, one.partition, one.qos if with_qos else ""): one.priority
        for one in standing.priorities(snapshot)
    }
    return Ours(shares, priorities)


def differences(ours: Ours, slurms: Slurms) -> list[str]:
    """Return a line for each figure that is not the same."""
    found = [
        f"fair share of {key}: sshare {slurms.shares.get(key)}, we {ours.shares.get(key)}"
        for key in sorted(slurms.shares.keys() | ours.shares.keys())
        if slurms.shares.get(key) != ours.shares.get(key)
    ]
    mine = {key: one for key, one in ours.priorities.items() if key[0] not in slurms.by_hand}
    found += [
        f"priority of {key}: sprio {slurms.priorities.get(key)}, we {mine.get(key)}"
        for key in sorted(slurms.priorities.keys() | mine.keys())
        if slurms.priorities.get(key) != mine.get(key)
    ]
    found += [
        f"priority of {key}, set by hand: squeue {slurms.by_hand[key[0]]}, we {one}"
        for key, one in sorted(ours.priorities.items())
        if slurms.by_hand.get(key[0], one) != one
    ]
    return found


class Rig:
    """A cluster with a tree, usage and a queue, and our code looking at it."""

    def __init__(self, cluster, folder, seed: int) -> None:
        self.cluster = cluster
        self.with_qos = cluster.kind != "native"
        self.tree = make_tree(cluster.name, seed)
        self._slurm = CommandSlurm(SystemClock())
        self._path = client_folder(cluster, folder)
        self._seed = seed

    @contextmanager
    def slurm(self):
        """Our own adapter in this process, with the cluster's programs first in PATH."""
        before, os.environ["PATH"] = os.environ["PATH"], self._path
        try:
            yield self._slurm
        finally:
            os.environ["PATH"] = before

    def script(self, name: str, text: str) -> str:
        """Run a shell script in the cluster's world and return what it printed."""
        (self.cluster.state / name).write_text(text)
        return self.cluster.run("sh", "-e", str(self.cluster.state / name)).stdout

    def fill(self) -> None:
        """Make the tree, its usage and the queue."""
        cluster = self.cluster
        cluster.run("sacctmgr", "-i", "-Q", "add", "qos", "half", "UsageFactor=0.5", "Priority=3")
        cluster.run("sacctmgr", "-i", "-Q", "modify", "account", "root", "set", "QOS+=half")
        (cluster.state / "tree.txt").write_text(self.tree.text)
        cluster.run("sacctmgr", "-i", "-Q", "load", f"file={cluster.state}/tree.txt")
        self.script("usage.sh", usage_script(self.tree, self._seed))
        deadline = time.monotonic() + 120
        while cluster.run("squeue", "-h").stdout:
            assert time.monotonic() < deadline, cluster.run("squeue").stdout
            time.sleep(0.5)
        queue = queue_script(self.tree, self._seed, later=self.with_qos)
        ids = self.script("queue.sh", queue).split()
        self.script("changes.sh", changes_script(ids, self._seed))

    def configure(self, *settings: str) -> int:
        """Change slurm.conf and start the controller anew; return its first calculation."""
        self.cluster.settings = [*SETTINGS, *settings]
        before = last_calculation(self.cluster)
        self.cluster.do("stop-controller")
        self.cluster.do("up")
        return wait_for_calculation(self.cluster, before)

    def snapshot(self) -> Snapshot:
        """Read what our arithmetic needs."""
        with self.slurm() as slurm:
            return slurm.read(*standing.PRIORITY_PARTS, fresh=True)

    def read_both(self) -> tuple[Snapshot, Slurms]:
        """Return our inputs and Slurm's results of one calculation.

        What is read while Slurm calculates anew is read again; no comparison is ever repeated.
        """
        for _ in range(5):
            before = last_calculation(self.cluster)
            time.sleep(0.3)  # the time is written a moment before the last priority is
            slurms = ask_slurm(self.cluster, with_qos=self.with_qos)
            snapshot = self.snapshot()
            if last_calculation(self.cluster) == before == snapshot.calculated_at:
                return snapshot, slurms
        msg = "Slurm calculated during each of five readings"
        raise AssertionError(msg)
