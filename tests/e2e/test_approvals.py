"""Approvals on a real cluster, by real users through the controller's socket."""

from __future__ import annotations

import json

import pytest

from tests.clusters import PrivateCluster, require_cluster
from tests.e2e.asking import SUBMIT, open_site
from tests.e2e.daemons import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.root]

BIG = ("--gpus", "4", "--time", "5m", "--", "sleep", "60")
RAW = ("--gres=gpu:h100:4", "-t", "5", "-o", "/dev/null", "--wrap=sleep 60")


@pytest.fixture(scope="module")
def cluster():
    require_cluster()
    with PrivateCluster("approvals") as up:
        up.run("sacctmgr", "-i", "add", "coordinator", "account=nlp", "names=u4")
        yield up


@pytest.fixture
def site(cluster):
    approvals = {"thresholds": [{"gpus": 2}], "approvers": {"users": ["u1", "u2", "u3"]}}
    with open_site(cluster, approvals=approvals) as made:
        yield made


def start(site):
    """Start a controller that looks seldom: what happens at once, happens without a tick."""
    controller = site.start(tick=600)
    eventually(controller.ticks)
    return controller


def test_a_job_waits_held_until_somebody_else_approves_it(site):
    start(site)
    said = site.ask(*BIG, program=SUBMIT)
    assert "held until it is approved" in said.stdout
    assert "V-901" in said.stderr
    job = said.stdout.split()[2].rstrip(":")
    own = site.ask("approve", job, "--reason", "mine", check=False)
    assert (own.returncode, "own" in own.stderr) == (1, True)
    stranger = site.ask("approve", job, "--reason", "hm", user="u4", check=False)
    assert (stranger.returncode, "u1, u2, u3" in stranger.stderr) == (1, True)
    (waiting,) = json.loads(site.ask("approvals", "--json", user="u2").stdout)
    assert (str(waiting["job_id"]), waiting["may_vote"]) == (job, True)
    assert json.loads(site.ask("approvals", "--json", user="u4").stdout) == []
    told = site.ask("approve", job, "--reason", "for the paper", user="u2")
    assert "approved and let go" in told.stdout
    site.wait(job, "RUNNING")
    assert "approval=approved" in site.field(job, "AdminComment")
    log = json.loads(site.ask("audit", "--job", job, "--json").stdout)
    assert {entry["actor"] for entry in log} == {"u2"}
    assert {entry["outcome"] for entry in log} == {"done"}
    site.cluster.run("scancel", job)


def test_a_denied_job_is_cancelled_at_once(site):
    start(site)
    job = site.submit(*BIG)
    assert "is denied" in site.ask("deny", job, "--reason", "no budget", user="u3").stdout
    site.wait(job, "CANCELLED")


def test_a_coordinator_may_approve_jobs_of_the_accounts_below(site):
    site.write(approvals={**site.policy["approvals"], "approvers": {"coordinators": True}})
    start(site)
    job = site.submit("-A", "nlp-pretrain", *BIG)
    other = site.submit("-A", "vision", *BIG)
    refused = site.ask("approve", other, "--reason", "x", user="u4", check=False)
    assert (refused.returncode, "coordinator" in refused.stderr) == (1, True)
    assert "approved" in site.ask("approve", job, "--reason", "x", user="u4").stdout
    site.wait(job, "RUNNING")
    site.cluster.run("scancel", job, other)


def test_an_owner_who_releases_the_job_finds_it_held_again_and_for_good(site):
    job = site.submit("--hold", "--begin", "now+1hour", *BIG)
    assert site.field(job, "Reason") == "JobHeldUser"
    site.cluster.run("scontrol", "release", job, user="u1")
    site.tick()
    assert site.field(job, "Reason") == "JobHeldAdmin"
    tried = site.cluster.run("scontrol", "release", job, user="u1", check=False)
    assert tried.returncode != 0
    assert site.tick()["actions"] == []
    site.cluster.run("scancel", job)


def test_a_raw_job_is_held_by_the_controller_and_its_approval_ends_that(site):
    job = site.cluster.sbatch("--begin=now+1hour", *RAW)
    site.tick()
    assert site.field(job, "Reason") == "JobHeldAdmin"
    start(site)
    site.ask("approve", job, "--reason", "x", user="u2")
    assert site.field(job, "Priority") != "0"
    site.cluster.run("scancel", job)


def test_what_was_made_larger_after_its_approval_is_held_again(site):
    start(site)
    job = site.submit("--begin", "now+1hour", *BIG)
    site.ask("approve", job, "--reason", "x", user="u2")
    site.cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=60", user="u1")
    for one in site.started:
        one.end()
    (action,) = [one for one in site.tick()["actions"] if str(one["job_id"]) == job]
    assert (action["rule"], action["outcome"]) == ("V-906", "done")
    assert site.field(job, "Reason") == "JobHeldAdmin"
    assert site.tick()["actions"] == []  # u2's approval was for the shorter one
    site.cluster.run("scancel", job)


def test_an_array_is_approved_as_a_whole(site):
    start(site)
    job = site.submit("--array", "0-1", *BIG)
    site.ask("approve", job, "--reason", "x", user="u2")
    queue = ("squeue", "-h", "-j", job, "-o", "%T")
    eventually(lambda: site.cluster.run(*queue).stdout.split() == ["RUNNING", "RUNNING"])
    site.cluster.run("scancel", job)


def test_only_operators_set_classes(site):
    start(site)
    job = site.cluster.sbatch("-H", "-t5", "--wrap=true")
    refused = site.ask("set-priority", job, "critical", check=False)
    assert (refused.returncode, "operators" in refused.stderr) == (1, True)
    assert "critical" in site.ask("set-priority", job, "critical", user="root").stdout
    assert "class=critical" in site.field(job, "AdminComment")
    assert site.field(job, "Reason") == "JobHeldUser"
    site.cluster.run("scancel", job)


def test_under_observe_nothing_is_held(site):
    site.write(enforcement="observe")
    said = site.ask(*BIG, program=SUBMIT)
    assert "V-901" in said.stderr
    job = said.stdout.split()[2].rstrip(":")
    site.wait(job, "RUNNING")
    site.cluster.run("scancel", job)


def test_without_a_controller_an_approver_is_told_so(site):
    answer = site.ask("approve", "1", "--reason", "x", user="u2", check=False)
    assert (answer.returncode, "gpu-policyd" in answer.stderr) == (4, True)


@pytest.mark.pyslurm
def test_a_later_slurm_holds_and_releases_alike():
    require_cluster("pyslurm")
    approvals = {"thresholds": [{"gpus": 2}], "approvers": {"users": ["u2"]}, "on_denial": "keep"}
    with (
        PrivateCluster("approvals", kind="pyslurm") as up,
        open_site(up, approvals=approvals) as site,
    ):
        job = up.sbatch("--hold", "--begin=now+1hour", "-a0-1%1", *RAW)
        site.tick_there()
        assert site.field(job, "Reason") == "JobHeldAdmin"
        assert up.run("scontrol", "release", job, user="u1", check=False).returncode != 0
        assert site.tick_there() == []
        submitted = up.run("squeue", "-h", "-j", job, "-O", "submittime:30").stdout.split()[0]
        seconds = int(up.run("date", "+%s", "-d", submitted).stdout)
        (denied,) = site.tick_there(f"{job}:{seconds}:u2:deny")
        assert (denied["rule"], denied["outcome"]) == ("V-904", "done")
        (given,) = site.tick_there(f"{job}:{seconds}:u2:approve")
        assert (given["rule"], given["outcome"]) == ("V-903", "done")
        assert site.field(job, "Priority") != "0"
        site.tick_there(f"{job}:{seconds}:u2:approve")
        assert "approval=approved" in site.field(job, "AdminComment")
        assert site.tick_there() == []
