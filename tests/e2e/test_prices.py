"""What gpu-submit estimates is what Slurm's accounting makes of the same job, on two releases."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime
from types import MappingProxyType

import pytest

from slurm_gpu_policy.adapters.clock import SystemClock
from slurm_gpu_policy.adapters.slurm import quantities
from slurm_gpu_policy.model.prices import Use
from slurm_gpu_policy.policy.prices.pricing import cost, price_book
from slurm_gpu_policy.policy.prices.usage_of import gpus_in
from slurm_gpu_policy.units import format_money
from tests.builders import make_policy
from tests.clusters import PrivateCluster, require_cluster

pytestmark = [pytest.mark.cluster, pytest.mark.root]

SITE = {
    "gpu_types": {"h100": {"price_per_hour": "2.50"}},
    "pricing": {"cpu_hour": "0.013", "memory_hour": "0.0021", "partitions": {"cpu": "0.3"}},
}
MIXES = (
    "--gpus 1",
    "--gpus 4 -c 3",
    "--gpus 16",
    "--gpus 2 --mem 4G",
    "--gpus 2 --mem-per-gpu 3G",
    "--gpus 4 --cpus-per-gpu 4",
    "--gpus 1 -n 3 -c 2",
    "--gpus 0 -c 5",
    "--gpus-per-node 2 -N 2 --ntasks-per-node 3",
    "--gpus 1 --mem-per-cpu 500M -c 4",
    "--gpus 1 --exclusive",
    "--gpus 1 --mem 0",
    "--gpus 8 -N 2",
)
MINUTES = 7


@pytest.fixture(scope="module", params=["native", "pyslurm"])
def cluster(request):
    require_cluster(request.param)
    with PrivateCluster("prices", kind=request.param) as cluster:
        (cluster.state / "policy.yaml").write_text(json.dumps(SITE))
        yield cluster


def submitted(cluster, mix):
    argv = ["--policy", f"{cluster.state}/policy.yaml", "--json", "-t", str(MINUTES)]
    argv += [*mix.split(), "-o", "/dev/null", "--", "true"]
    done = cluster.ours("slurm_gpu_policy.apps.submit", *argv, cwd="/tmp", check=False)
    assert done.returncode == 0, f"{mix}: {done.stdout}{done.stderr}"
    return json.loads(done.stdout)


def accounted(cluster, job_id):
    """Return what a run held as sacct has it, once it has ended."""
    end = time.monotonic() + 120
    fields = ("State", "AllocTRES", "Partition", "QOS")
    while time.monotonic() < end:
        argv = ("sacct", "-nXP", "-j", str(job_id), "-o", ",".join(fields))
        found = cluster.run(*argv).stdout.strip().split("|")
        # Of a short job the database may hear the end before the start.
        if re.match("COMPLETED", found[0]) and found[1] and found[2]:
            tres = quantities.tres(found[1])
            gpus = MappingProxyType(gpus_in(tres))
            return Use(gpus, tres["cpu"], tres["mem"], found[2], found[3])
        time.sleep(0.5)
    pytest.fail(f"job {job_id} has not ended: {found}")


def test_c_401_the_estimate_is_what_the_accounted_resources_cost(cluster):
    """A whole time limit of what Slurm gave costs to the millionth what was estimated."""
    (tariff,) = book = price_book(make_policy(**SITE))
    assert tariff.prices.cpu == 13_000
    jobs = {mix: submitted(cluster, mix) for mix in MIXES}
    for mix, said in jobs.items():
        used = accounted(cluster, said["job_id"])
        assert used.gpu_count == said["gpus"], mix
        whole = cost(used, 0, MINUTES * 60, book).micros
        assert said["estimated_cost"]["amount"] == format_money(whole), f"{mix}: {used}"


def test_c_404_optimize_finds_the_cheap_hours_and_slurm_would_start_it_then(cluster):
    now = SystemClock().now()
    begin = now - now % 60 + 2 * 3600
    clock = time.strftime("%H:%M", time.gmtime(begin))
    end = time.strftime("%H:%M", time.gmtime(begin + 4 * 3600))
    hours = [{"start": clock, "end": end, "factor": "0.25"}]
    path = cluster.state / "nights.yaml"
    path.write_text(json.dumps({**SITE, "pricing": {"hours": hours}}))
    argv = ("optimize", "--json", "--gpus", "4", "--min-gpus", "2", "--time", "2h")
    done = cluster.ours(
        "slurm_gpu_policy.apps.policy", *argv, env={"GPU_POLICY_FILE": str(path)}, cwd="/tmp"
    )
    found = json.loads(done.stdout)["options"]
    assert {(one["gpus"], one["partition"]) for one in found} == {
        (gpus, partition) for gpus in (2, 4) for partition in ("gpu", "interactive")
    }
    (cheapest,) = [one for one in found if one["cheapest"]]
    (soonest,) = [one for one in found if one["soonest"]]
    assert (cheapest["gpus"], cheapest["estimated_cost"]["amount"]) == (2, "2.50")
    times = (cheapest["begin"], cheapest["estimated_start"], soonest["estimated_start"])
    starts = [datetime.fromisoformat(one).timestamp() for one in times]
    assert begin <= starts[0] <= begin + 60
    assert begin <= starts[1] <= begin + 180
    assert starts[2] < now + 120
    assert (soonest["gpus"], soonest["begin"]) == (4, None)
    assert 19 < float(soonest["estimated_cost"]["amount"]) <= 20  # its end may be in cheap hours
    # Its options are such as gpu-submit takes.
    argv = ["--policy", str(path), "--json", "-t", "120", *cheapest["arguments"], "--", "true"]
    said = json.loads(cluster.ours("slurm_gpu_policy.apps.submit", *argv, cwd="/tmp").stdout)
    assert said["gpus"] == 2
