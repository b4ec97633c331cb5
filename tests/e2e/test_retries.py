"""Retries on a real cluster: what Slurm does with a requeued job, and what we make of it."""

from __future__ import annotations

import re
import time

import pytest

from tests.clusters import PrivateCluster, require_cluster
from tests.e2e.asking import open_site

pytestmark = [pytest.mark.cluster, pytest.mark.root]


@pytest.fixture(
    scope="module", params=["native", pytest.param("pyslurm", marks=pytest.mark.pyslurm)]
)
def cluster(request):
    require_cluster(request.param)
    settings = ["PriorityMaxAge=600", "PriorityWeightAge=36000"]
    with PrivateCluster("retries", kind=request.param, settings=settings) as up:
        yield up


@pytest.fixture
def site(cluster):
    with open_site(cluster, retries={"first_delay": "1s"}) as made:
        yield made


def done_to(site, job):
    """Do one tick, and return what it did to a job."""
    return [one for one in site.tick_there() if str(one["job_id"]) == job]


def test_a_failed_job_is_tried_again_as_often_as_asked_and_no_more(site):
    job = site.submit("--retries", "1", "--gpus", "1", "--time", "5m", "--", "false")
    site.wait(job, "FAILED")
    (action,) = done_to(site, job)
    assert (action["rule"], action["outcome"]) == ("T-801", "done")
    assert site.field(job, "Restarts") == "1"
    mark = site.field(job, "AdminComment")
    assert "attempt=1" in mark
    assert "first=" in mark
    site.wait(job, "FAILED")
    assert not done_to(site, job)
    assert site.field(job, "Restarts") == "1"


def test_the_retry_begins_after_its_backoff_not_after_slurms_two_minutes(site):
    job = site.submit("--retries", "1", "--gpus", "1", "--time", "5m", "--", "false")
    site.wait(job, "FAILED")
    began = time.monotonic()
    site.tick_there()
    site.wait(job, "FAILED", seconds=100)
    assert time.monotonic() - began < 100


def test_a_retry_after_a_failed_node_avoids_it_and_keeps_the_users_exclusions(site):
    site.write(retries={"first_delay": "1s", "exclude_bad_node": ["failed"]})
    job = site.submit(
        "--retries", "1", "--gpus", "1", "--time", "5m", "--exclude", "cpu01", "--", "false"
    )
    site.wait(job, "FAILED")
    node = site.field(job, "NodeList")
    site.tick_there()
    excluded = site.field(job, "ExcNodeList")
    assert node in excluded
    assert "cpu01" in excluded
    site.wait(job, "FAILED")
    assert site.field(job, "NodeList") != node


def test_one_task_of_an_array_is_tried_again_and_the_others_are_left_alone(site):
    """The last task's number is the array's: a requeue of the number would take all of them."""
    job = site.submit(
        "--retries", "1", "--gpus", "1", "--time", "5m", "--array", "0-2", "--",
        "bash", "-c", "exit $((SLURM_ARRAY_TASK_ID == 2))",
    )  # fmt: skip
    deadline = time.monotonic() + 60
    queue = ("squeue", "-h", "-t", "all", "-j", job, "-O", "jobarrayid:20,state:20,restartcnt:5")
    while time.monotonic() < deadline:
        rows = [line.split() for line in site.cluster.run(*queue).stdout.splitlines()]
        if len(rows) == 3 and {row[1] for row in rows} == {"COMPLETED", "FAILED"}:
            break
        time.sleep(0.3)
    site.tick_there()
    rows = [line.split() for line in site.cluster.run(*queue).stdout.splitlines()]
    assert {row[0]: row[2] for row in rows} == {f"{job}_0": "0", f"{job}_1": "0", f"{job}_2": "1"}
    site.cluster.run("scancel", job)


def test_a_job_that_ran_long_enough_to_be_seen_has_its_place_marked(site):
    job = site.submit("--retries", "1", "--gpus", "1", "--time", "5m", "--", "sleep", "60")
    site.wait(job, "RUNNING")
    submitted = site.field(job, "SubmitTime")
    site.tick_there()
    assert "first=" in site.field(job, "AdminComment")
    assert not done_to(site, job)
    site.cluster.run("scontrol", "requeue", job)
    (action,) = [one for one in done_to(site, job) if one["rule"] == "T-803"]
    assert action["outcome"] == "done"
    assert site.field(job, "SubmitTime") != submitted
    mark = site.field(job, "AdminComment")
    first = int(re.search(r"first=(\d+)", mark)[1])
    assert time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(first)) == submitted
    assert "attempt=1" in mark
    site.cluster.run("scancel", job)


def test_a_job_that_slurm_may_not_requeue_is_refused_once_and_left(site):
    site.write(retries={"first_delay": "1s", "default": 1})
    job = site.cluster.sbatch("--no-requeue", "-t5", "--wrap=false")
    site.wait(job, "FAILED")
    (action,) = done_to(site, job)
    assert action["outcome"] == "refused"
    assert site.field(job, "JobState") == "FAILED"
