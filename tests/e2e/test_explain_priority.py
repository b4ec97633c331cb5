"""What ``gpu-policy explain`` says of the line, against Slurm's own figures on a real cluster."""

from __future__ import annotations

import json
import time

import pytest

from tests.clusters import PrivateCluster, require_cluster
from tests.e2e import agreement

pytestmark = [pytest.mark.cluster, pytest.mark.root]

APP = "slurm_gpu_policy.apps.policy"
AGE_POINTS = 1
"""What age may add between two questions: 2,000 points in seven days are one in five minutes."""


@pytest.fixture(scope="module", params=["native", "pyslurm"])
def cluster(request):
    """A full cluster, usage of u3 alone, a queue of four users, right after a calculation."""
    require_cluster(request.param)
    with PrivateCluster(f"explain-{request.param}", kind=request.param) as made:
        submit(made, "u3", "-N2", "--gres=gpu:h100:8", "-t60")
        wait_for(lambda: "RUNNING" in made.run("squeue", "-h", "-o", "%T").stdout)
        made.queue = {
            "mine": submit(made, "u3", "--gres=gpu:h100:4", "-t60", "--nice=100"),
            "nlp": submit(made, "u1", "--gres=gpu:h100:4", "-t30"),
            "medical": submit(made, "u4", "--gres=gpu:h100:4", "-t30", "--nice=20"),
            "low": submit(made, "u1", "--gres=gpu:h100:2", "-t30", "-qlow", "-Anlp-finetune"),
        }
        at = agreement.last_calculation(made)
        for _ in range(2):  # the first one counts the usage, the second ranks by it
            at = agreement.wait_for_calculation(made, at)
        yield made


def submit(cluster, user, *options):
    wrap = ("-o", "/dev/null", "-p", "gpu", "--wrap", "sleep 600")
    return cluster.sbatch(*options, *wrap, user=user)


def wait_for(is_done, seconds=60):
    deadline = time.monotonic() + seconds
    while not is_done():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def explain(cluster, job, user="root"):
    return json.loads(cluster.ours(APP, "explain", job, "--json", user=user).stdout)


def slurms_line(cluster):
    """Slurm's own line: job id and priority, first to last."""
    rows = cluster.run("squeue", "-h", "-t", "PD", "-o", "%i %Q").stdout.splitlines()
    found = [tuple(map(int, row.split())) for row in rows]
    return sorted(found, key=lambda one: (-one[1], one[0]))


def priority(cluster, job):
    return dict(slurms_line(cluster))[int(job)]


def test_who_is_ahead_is_who_slurm_has_ahead(cluster):
    line = slurms_line(cluster)
    assert len({number for _, number in line}) == len(line) == 4
    above = None
    for job_id, number in line:
        found = explain(cluster, str(job_id))
        mine = found["priority_terms"][0]["priority"]
        assert abs(mine - number) <= AGE_POINTS
        if above is None:
            assert found["ahead"] is None
        else:
            assert found["ahead"]["job_id"] == above[0]
            assert abs(found["ahead"]["priority"] - above[1]) <= AGE_POINTS
            assert abs(found["ahead"]["difference"] - (above[1] - number)) <= 2 * AGE_POINTS
        assert found["places"][0]["place"] == line.index((job_id, number)) + 1
        above = (job_id, number)


def test_the_usage_of_the_account_decides(cluster):
    found = explain(cluster, cluster.queue["mine"], user="u3")
    by_id = {int(job): name for name, job in cluster.queue.items()}
    assert by_id[found["ahead"]["job_id"]] == "medical"
    assert found["ahead"]["decided_by"] == "fair_share"
    assert "account vision-seg-medical used nothing of its share" in found["ahead"]["text"]
    out = cluster.ours(APP, "explain", cluster.queue["mine"], user="u3").stdout
    assert "x its share" in out


CHANGES = {
    "QOS high": "qos=high",
    "no nice": "nice=0",
    "partition interactive": "partition=interactive",
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_predicted_gain_is_what_slurm_then_adds(cluster, what):
    job = cluster.queue["mine"]
    changes = {one["what"]: one for one in explain(cluster, job, user="u3")["changes"]}
    if what not in changes:  # it would pass nobody as things stand, so somebody gets a close rival
        rival = submit(cluster, "u3", "--gres=gpu:h100:4", "-t60", "--nice=50")
        changes = {one["what"]: one for one in explain(cluster, job, user="u3")["changes"]}
        cluster.run("scancel", rival)
    found = changes[what]
    before = priority(cluster, job)
    was = {"qos": "normal", "nice": "100", "partition": "gpu"}
    field = CHANGES[what].partition("=")[0]
    words = found["how"].split()
    try:
        cluster.run(*words, user="u3")
        gained = priority(cluster, job) - before
        assert abs(gained - found["gain_points"]) <= AGE_POINTS
        if what != "partition interactive":  # its own line there
            place = [one for one, _ in slurms_line(cluster)].index(int(job)) + 1
            assert place == found["place"]
    finally:
        cluster.run("scontrol", "update", f"jobid={job}", f"{field}={was[field]}")


def test_a_site_factor_the_controller_will_give_gains_what_is_predicted(cluster):
    job = cluster.queue["low"]
    policy = cluster.state / "explain.yaml"
    policy.write_text("enforcement: enforce\nordering: {kind: fcfs}\n")
    policy.chmod(0o644)
    done = cluster.ours(APP, "explain", job, "--json", env={"GPU_POLICY_FILE": str(policy)})
    answer = json.loads(done.stdout)
    (found,) = (one for one in answer["changes"] if one["what"].startswith("the next tick"))
    site = int(found["note"].split("site factor ")[1].split(":")[0].replace(",", ""))
    before = priority(cluster, job)
    try:
        cluster.run("scontrol", "update", f"jobid={job}", f"SiteFactor={site}")
        gained = priority(cluster, job) - before
        assert abs(gained - found["gain_points"]) <= AGE_POINTS
        terms = explain(cluster, job)["priority_terms"][0]["terms"]
        assert terms["site"] == site
    finally:
        cluster.run("scontrol", "update", f"jobid={job}", "SiteFactor=0")


def test_slurms_plan_goes_before_our_estimate(cluster):
    job = cluster.queue["nlp"]
    wait_for(lambda: explain(cluster, job)["estimated_start_source"] == "slurm", seconds=90)
    found = explain(cluster, job)
    start = cluster.run("squeue", "-h", "-j", job, "-o", "%S").stdout.strip()
    assert found["estimated_start"][:19] == start
