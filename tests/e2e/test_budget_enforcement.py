"""Budgets are enforced by a real Slurm without decay: what it admits is what the ledger has.

The books are in memory (tests/e2e/budget_driver.py), Slurm and its accounting are real.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from itertools import count

import pytest
import yaml

from tests.clusters import CHROOT_PYTHON, ROOT, PrivateCluster, require_cluster

pytestmark = [pytest.mark.cluster, pytest.mark.root]

SETTINGS = [
    "PriorityDecayHalfLife=0",
    "PriorityUsageResetPeriod=YEARLY",  # Slurm takes no decay of 0 without one
    "PriorityCalcPeriod=1",
    "SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=2",
]
HOUR = 3600
REQUESTS = 200
PEOPLE = [
    ("nlp-finetune", "u1"), ("nlp-finetune", "u2"), ("nlp-pretrain", "u1"), ("nlp-pretrain", "u2"),
    ("vision-seg", "u3"), ("vision-seg-medical", "u3"), ("vision", "u1"),
]  # fmt: skip
_LIMIT_REASONS = ("AssocGrpGRESMinutes", "AssocGrpBillingMinutes")


class World:
    """A cluster, and a controller that ticks when it is told to."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.policy = cluster.state / "policy.yaml"
        self.process = None
        self.names = count()

    def site(self, *, lua=False, **policy):
        """Begin anew: with this policy, fresh books, and job_submit.lua's table or none."""
        self.tidy()
        state = self.cluster.state
        ledger = {"table": str(state / "budgets.lua"), **policy.pop("ledger", {})}
        apply = {"limits_table": str(state / "limits.lua"), "job_submit": lua}
        self.policy.write_text(
            yaml.safe_dump({"enforcement": "enforce", **policy, "ledger": ledger, "apply": apply})
        )
        self.cluster.limits.unlink(missing_ok=True)
        python = [f"PYTHONPATH={ROOT}", f"{ROOT}/.venv/bin/python"]
        if self.cluster.kind == "pyslurm":
            python = list(CHROOT_PYTHON[1:])
        argv = self.cluster.argv("env", *python, "-m", "tests.e2e.budget_driver", str(self.policy))
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | self.cluster._knobs,
        )  # fmt: skip
        if lua:
            self.say("table")
        found = self.tick()
        time.sleep(1.1 if lua else 0)  # job_submit.lua looks at its tables once a second
        return found

    def say(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def tick(self):
        found = self.say("tick")
        assert found["errors"] == [], found
        return found

    def change(self, **fields):
        policy = yaml.safe_load(self.policy.read_text())
        self.policy.write_text(yaml.safe_dump({**policy, **fields}))

    def submit(self, account, user, gpus, minutes, *more, check=True):
        what = ("-p", "gpu", f"--gres=gpu:h100:{gpus}", "-c1", "--mem=100", "-t", str(minutes))
        argv = ("sbatch", "--parsable", "-A", account, *what, "-o", "/dev/null", *more)
        done = self.cluster.run(*argv, "--wrap=sleep 600", user=user, cwd="/tmp", check=check)
        self.said = done.stderr
        return done.stdout.strip()

    def state(self, job):
        text = self.cluster.run("squeue", "-h", "-j", job, "-o", "%T %r %q", check=False).stdout
        return text.split() or ["GONE", "", ""]

    def settled(self, job):
        """Wait until Slurm has started a job, or has said why it does not."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            state, reason, _ = self.state(job)
            if state in {"RUNNING", "CONFIGURING"}:
                return "RUNNING"
            if state == "PENDING" and reason not in {"None", "Priority", "Resources"}:
                return reason
            time.sleep(0.02)
        return pytest.fail(f"{self.state(job)}")

    def until(self, job, wanted, seconds=30):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.state(job)[0] == wanted:
                return
            time.sleep(0.1)
        pytest.fail(f"{self.state(job)}, not {wanted}")

    def never_starts(self, job, seconds=5):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.state(job)[0] == "PENDING"
            time.sleep(0.2)

    def cancel(self, *jobs):
        self.cluster.run("scancel", *jobs, check=False)
        for job in jobs:
            self.until(job, "GONE") if self.state(job)[0] == "PENDING" else None

    def limit(self, account, user=""):
        text = self.cluster.run("scontrol", "-o", "show", "assoc_mgr", "flags=assoc").stdout
        line = next(one for one in text.splitlines()
                    if f" Account={account} UserName={user}" in one)  # fmt: skip
        return line.partition("GrpTRESMins=")[2].partition("gres/gpu=")[2].partition("(")[0]

    def idle(self):
        """Cancel everything, and wait until the accounting knows."""
        for user in ("u1", "u2", "u3", "u4"):
            self.cluster.run("scancel", "-u", user)
        deadline = time.monotonic() + 60
        while self.cluster.run("squeue", "-h").stdout.strip() and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(1)

    def tidy(self):
        if self.process is not None:
            self.change(ledger={"slurm_limits": "off"}, apply={"job_submit": False})
            self.tick()  # takes our limits out of Slurm
            self.process.stdin.close()
            self.process.stdout.close()
            self.process.wait(timeout=30)
            self.process = None
            self.idle()


@pytest.fixture(scope="module", params=["native", "pyslurm"])
def world(request):
    require_cluster(request.param)
    with PrivateCluster(f"money-{request.param}", kind=request.param, settings=SETTINGS) as cluster:
        for words in (
            ("add", "qos", "idle"),
            (
                "modify",
                "account",
                "root",
                "nlp",
                "nlp-finetune",
                "nlp-pretrain",
                "set",
                "QOS+=idle",
            ),
            ("modify", "user", "u1", "u2", "set", "QOS+=idle"),
        ):
            cluster.run("sacctmgr", "-i", *words)
        one = World(cluster)
        yield one
        one.tidy()


# --- agreement --------------------------------------------------------------------------------


def budgets(draw, kind):
    """Random budgets on an account tree and its users."""

    def amount(low, high):
        hours = draw.randint(low, high)
        return {"gpu_hours": hours} if kind == "gpu_hours" else {"amount": f"{2 * hours}"}

    return {
        "nlp": amount(20, 30),
        "nlp-finetune": amount(8, 20),
        "finetune-users": {"account": "nlp-finetune", "each_user": "true", **amount(4, 12)},
        "u2": {"account": "nlp-pretrain", "user": "u2", **amount(4, 12)},
        "vision": amount(10, 25),
        "medical": {"account": "vision-seg-medical", **amount(5, 15)},
    }


@pytest.mark.parametrize("kind", ["gpu_hours", "money"])
def test_what_the_ledger_has_left_is_what_slurm_admits(world, kind):
    draw = random.Random(f"{world.cluster.kind} {kind}")  # noqa: S311 - repeatable
    prices = {"gpu_types": {"h100": {"price_per_hour": "2"}}}
    first = world.site(budgets=budgets(draw, kind), ledger={"when_spent": "nothing"}, **prices)
    assert first["remarks"] == []
    kept: list[tuple[str, int]] = []
    told, refused, cut = 0, 0, []
    while told < REQUESTS // 2:
        account, user = draw.choice(PEOPLE)
        gpus, minutes = draw.randint(1, 4), draw.choice([draw.randint(1, 90), draw.randint(1, 900)])
        ask = world.say("ask", account, user, gpus, minutes * 60)
        job = world.submit(account, user, gpus, minutes)
        found = world.settled(job)
        assert found == "RUNNING" or found in _LIMIT_REASONS, found
        admits = found == "RUNNING"
        told, refused = told + 1, refused + (not admits)
        if admits and not ask["covered"]:
            pytest.fail(f"Slurm started {gpus} x {minutes} min of {user} in {account}: {ask}")
        if ask["covered"] and not admits:
            cut.append((account, user, gpus, minutes))
        changed = told % 10 == 0
        if admits and sum(one[1] for one in kept) + gpus <= 8 and draw.random() < 0.4:
            kept.append((job, gpus))
            changed = True
        else:
            world.cancel(job)
        if kept and draw.random() < 0.2:
            world.cancel(kept.pop(draw.randrange(len(kept)))[0])
            changed = True
        if changed:
            world.tick()
    assert 10 < refused < told - 10, (told, refused)
    assert len(cut) <= 3, cut  # within two GPU-minutes of what is left


# --- no mode lets a job start that is not covered -----------------------------------------------

LIMITED = {"budgets": {"nlp-finetune": {"gpu_hours": 2}}}
TOO_MUCH = ("nlp-finetune", "u1", 2, 90)


def grant(world, hours=2):
    world.say("grant", "nlp-finetune", "-", hours * HOUR)
    return world.tick()


def test_by_limits_alone(world):
    world.site(**LIMITED, ledger={"when_spent": "nothing"})
    job = world.submit(*TOO_MUCH)
    assert world.settled(job) in _LIMIT_REASONS
    world.never_starts(job)
    grant(world)
    world.until(job, "RUNNING")
    world.change(budgets={"vision": {"gpu_hours": 1}})
    world.cancel(job)


def test_a_limit_goes_with_its_budget_and_others_stay(world):
    world.cluster.run(
        "sacctmgr", "-i", "modify", "account", "vision", "set", "GrpTRESMins=gres/gpu=999"
    )
    try:
        found = world.site(budgets={"nlp": {"gpu_hours": 1}, "vision": {"gpu_hours": 1}})
        assert (world.limit("nlp").isdigit(), world.limit("vision")) == (True, "999")
        assert "vision has a GrpTRESMins of gres/gpu=999 that is not ours" in found["remarks"][0]
        world.change(
            ledger={"table": str(world.cluster.state / "budgets.lua"), "slurm_limits": "off"}
        )
        world.tick()
        assert (world.limit("nlp"), world.limit("vision")) == ("N", "999")
    finally:
        words = ("modify", "account", "vision", "set", "GrpTRESMins=gres/gpu=-1")
        world.cluster.run("sacctmgr", "-i", *words)


def test_by_holds_alone_where_it_waits_for_gpus(world):
    world.site(**LIMITED, ledger={"slurm_limits": "off"})
    full = [world.submit("vision", "u1", 8, 60) for _ in range(2)]
    for job in full:
        world.until(job, "RUNNING")
    job = world.submit(*TOO_MUCH)
    done = world.tick()
    assert [(one["rule"], one["outcome"]) for one in done["actions"]] == [("B-006", "done")]
    world.cancel(*full)
    world.never_starts(job)
    assert world.state(job)[1] == "JobHeldAdmin"
    assert world.cluster.run("scontrol", "release", job, user="u1", check=False).returncode != 0
    assert world.tick()["actions"] == []
    grant(world)
    world.until(job, "RUNNING")
    world.cancel(job)


def test_by_job_submit_lua_before_the_controller_has_seen_it(world):
    world.site(**LIMITED, lua=True, ledger={"slurm_limits": "off"})
    fits = world.submit("nlp-finetune", "u1", 1, 60)
    world.until(fits, "RUNNING")
    job = world.submit("nlp-finetune", "u1", 1, 61)  # the table still says two hours
    assert "(rule B-006)" in world.said
    world.never_starts(job, 2)
    assert world.cluster.run("scontrol", "release", job, user="u1", check=False).returncode != 0
    assert [one["rule"] for one in world.tick()["actions"]] == ["B-006"]
    assert world.state(job)[:2] == ["PENDING", "JobHeldAdmin"]
    grant(world)
    world.until(job, "RUNNING")
    world.cancel(job, fits)


def test_a_spent_account_gets_no_gpus_by_the_table(world):
    world.site(budgets={"nlp-finetune": {"gpu_hours": 0}}, lua=True, ledger={"slurm_limits": "off"})
    assert world.submit(*TOO_MUCH, check=False) == ""
    assert "account nlp-finetune has spent its budget (rule L-207)" in world.said
    grant(world, 4)
    time.sleep(1.1)
    world.until(world.submit(*TOO_MUCH), "RUNNING")


def test_in_the_over_budget_qos_a_job_runs_on_idle_gpus_and_comes_home(world):
    world.site(
        **LIMITED, lua=True, submission={"over_budget_qos": "idle"}, ledger={"when_spent": "qos"}
    )
    job = world.submit(*TOO_MUCH)
    assert "(rule B-007)" in world.said
    world.until(job, "RUNNING")  # the accounts' limit in Slurm does not bind that QOS
    assert world.state(job)[2] == "idle"
    assert world.tick()["actions"] == []
    full = [world.submit("vision", "u1", 6, 60) for _ in range(2)]
    for one in full:
        world.until(one, "RUNNING")
    waits = world.submit("nlp-finetune", "u1", 4, 60)
    assert world.state(waits)[2] == "idle"
    assert world.tick()["actions"] == []
    done = grant(world, 4)
    assert [(one["rule"], one["outcome"]) for one in done["actions"]] == [("B-007", "done")]
    assert world.state(waits)[2] == "normal"
    world.cancel(waits, job, *full)


def test_a_job_of_an_overspent_account_is_warned_and_a_grant_saves_it(world):
    world.site(
        budgets={"nlp-finetune": {"gpu_hours": 2}},
        ledger={"slurm_limits": "off", "end_jobs_after": "5m"},
    )
    job = world.submit("nlp-finetune", "u1", 1, 60, "-o", "/tmp/money-%j.out")
    world.until(job, "RUNNING")
    world.tick()
    world.say("grant", "nlp-finetune", "-", 0)
    world.change(budgets={"nlp-finetune": {"gpu_hours": 0}})
    time.sleep(2)
    done = world.tick()
    assert done["overspent"] == [["nlp-finetune", ""]]
    mine = [one for one in done["actions"] if one["job"] == int(job)]
    assert [(one["verb"], one["outcome"]) for one in mine] == [("notify", "done")], done
    assert world.tick()["actions"] == [], done
    shown = world.cluster.run("scontrol", "show", "job", job).stdout
    assert "money_warned=" in shown
    grant(world)
    shown = world.cluster.run("scontrol", "show", "job", job).stdout
    assert "money_warned=" not in shown
    assert world.state(job)[0] == "RUNNING"
    world.cancel(job)
