"""10,000 jobs wait, each a record of its own: the controller asks little of Slurm."""

from __future__ import annotations

import pytest

from tests.clusters import PrivateCluster, require_cluster
from tests.e2e.daemons import Site, queue_many

pytestmark = [pytest.mark.cluster, pytest.mark.root]

JOBS = 10_000
CALLS = 20
UNBEARABLE_SECONDS = 20.0
"""bench/controller.py holds ticks to 3 s; here other tests may run beside this one."""


@pytest.fixture(scope="module")
def cluster():
    require_cluster()
    with PrivateCluster("load") as one:
        one.sbatch("-N2", "--gres=gpu:h100:8", "-t", "7-0", "-o", "/dev/null", "--wrap=sleep 9999")
        queue_many(one, JOBS + 2, "--gres=gpu:h100:1")
        yield one


@pytest.mark.parametrize("kind", ["fcfs", "priority"])
def test_a_tick_with_10000_waiting_jobs_makes_20_calls_at_most(cluster, tmp_path, kind):
    site = Site(cluster, tmp_path, ordering={"kind": kind})
    ticks = [site.tick() for _ in range(4)]
    assert all(tick["pending_jobs"] >= JOBS for tick in ticks)
    assert all(tick["slurm_calls"] <= CALLS for tick in ticks), ticks[0]["slurm_calls"]
    # No tick changes more than the site lets it, and the first ones have enough to do.
    assert 900 <= len(ticks[0]["actions"]) <= 1000
    assert all(len(tick["actions"]) <= 1000 for tick in ticks)
    if kind == "fcfs":  # 1,000 at the head of the line are placed, and that is all
        assert [tick["actions"] for tick in ticks[2:]] == [[], []]
    assert min(tick["duration_seconds"] for tick in ticks) < UNBEARABLE_SECONDS
    assert all(tick["errors"] == [] for tick in ticks)
