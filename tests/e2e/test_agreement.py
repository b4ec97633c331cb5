"""Our fair shares and priorities against ``sshare`` and ``sprio``, on both real releases.

Set AGREEMENT_SECONDS for a longer forecast (an hour: 3600), AGREEMENT_SEED for other trees.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from functools import cache

import pytest

from slurm_gpu_policy.policy.billing import billing
from slurm_gpu_policy.policy.usage import Running
from slurm_gpu_policy.services.forecast import forecast
from tests.clusters import PrivateCluster, require_cluster
from tests.e2e import agreement

pytestmark = [pytest.mark.cluster, pytest.mark.root]

SEED = int(os.environ.get("AGREEMENT_SEED", "1"))
FORECAST_SECONDS = int(os.environ.get("AGREEMENT_SECONDS", "190"))
KINDS = ("native", "pyslurm")
PERIOD = 60
"""PriorityCalcPeriod: a minute is the shortest."""

CONFIGURATIONS = {
    "fair tree, as installed": (),
    "small and short jobs first": (
        "PriorityFlags=SMALL_RELATIVE_TO_TIME,MAX_TRES",
        "PriorityFavorSmall=YES",
    ),
    "short jobs last": ("PriorityFlags=SMALL_RELATIVE_TO_TIME",),
    "classic fair share, small jobs first": (
        "PriorityFlags=NO_FAIR_TREE",
        "PriorityFavorSmall=YES",
        "FairShareDampeningFactor=3",
    ),
    "raw numbers of QOS, partition and association": (
        "PriorityFlags=NO_NORMAL_QOS,NO_NORMAL_PART,NO_NORMAL_ASSOC",
        "PriorityWeightQOS=7",
    ),
    "raw numbers of everything": ("PriorityFlags=NO_NORMAL_ALL", "PriorityWeightQOS=3"),
}
SLOW = ("PriorityFlags=DEPTH_OBLIVIOUS,NO_FAIR_TREE,ACCRUE_ALWAYS",)
"""Shows its effect from a controller's second calculation on: the first has no jobs' accrue times
(22.05 with ACCRUE_ALWAYS), and depth-oblivious fair shares look at the usage of siblings, which
for users is that of the last time somebody asked (a job of theirs, or sshare)."""


@pytest.fixture(scope="module")
def rigs(tmp_path_factory):
    """Return by kind a private cluster with a random tree, usage and queue, made when asked for.

    All stay up until the end, so that what takes minutes is waited for on all at once.
    """
    with ExitStack() as stack:

        @cache
        def rig(kind):
            require_cluster(kind)
            settings = agreement.SETTINGS
            cluster = stack.enter_context(
                PrivateCluster(f"agree-{kind}", kind=kind, settings=settings)
            )
            made = agreement.Rig(cluster, tmp_path_factory.mktemp("clients"), SEED)
            made.fill()
            return made

        yield rig


@pytest.fixture(params=KINDS)
def rig(request, rigs):
    return rigs(request.param)


@pytest.mark.parametrize("settings", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_fair_shares_and_priorities_are_slurms(rig, settings):
    rig.configure(*settings)
    _compare(rig)


def test_depth_oblivious_fair_shares_and_ages_from_submission_are_slurms(rigs):
    first = {kind: rigs(kind).configure(*SLOW) for kind in KINDS}
    for kind in KINDS:
        rigs(kind).cluster.run("sshare", "-a")
    for kind in KINDS:
        agreement.wait_for_calculation(rigs(kind).cluster, first[kind])
        _compare(rigs(kind))


def _compare(rig):
    snapshot, slurms = rig.read_both()
    assert len(slurms.shares) >= 200
    assert len({job for job, _partition, _qos in slurms.priorities}) >= 500
    ours = agreement.compute(snapshot, with_qos=rig.with_qos)
    assert agreement.differences(ours, slurms) == []


def test_the_commands_print_the_same_figures(rig):
    rig.configure()
    for _ in range(3):
        before = agreement.last_calculation(rig.cluster)
        slurms = agreement.ask_slurm(rig.cluster, with_qos=rig.with_qos)
        shares = json.loads(
            rig.cluster.ours("slurm_gpu_policy.apps.policy", "fairshare", "--json").stdout
        )
        rows = json.loads(
            rig.cluster.ours("slurm_gpu_policy.apps.policy", "priority", "--json").stdout
        )
        if agreement.last_calculation(rig.cluster) == before:
            break
    ours = agreement.Ours(
        {
            (row["account"], row["user"], row["partition"]): f"{row['fair_share_factor']:.6f}"
            for row in shares
            if row["user"]
        },
        {
            (row["job_id"], row["partition"], row["qos"] if rig.with_qos else ""): row["priority"]
            for row in rows
        },
    )
    assert agreement.differences(ours, slurms) == []


def test_an_ordinary_user_may_ask_for_fair_shares(rig):
    done = rig.cluster.ours("slurm_gpu_policy.apps.policy", "fairshare", "--json", user="u1")
    assert len(json.loads(done.stdout)) > 200


def test_what_is_forecast_comes_true(rigs):
    """After waiting and a given usage, over at least three calculations."""
    for kind in KINDS:
        rigs(kind).configure()
    check_forecasts([rigs(kind) for kind in KINDS])


def check_forecasts(rigs, seconds=FORECAST_SECONDS):
    """Hold forecasts of up to so many *seconds* to what comes, on all *rigs* at once."""
    steps = range(PERIOD, seconds + 1, PERIOD)
    assert len(steps) >= 3
    begun = [(rig, rig.read_both()[0], _use_some(rig)) for rig in rigs]
    begun.sort(key=lambda one: one[1].calculated_at)  # who calculates first is looked at first
    # An hour has sixty calculations: the first three and the last are looked at.
    for step in sorted({*steps[:3], steps[-1]}):
        for rig, before, jobs in begun:
            at = agreement.wait_for_calculation(
                rig.cluster, before.calculated_at + step - PERIOD // 2, seconds=step + 60
            )
            assert abs(at - before.calculated_at - step) <= 3, "a calculation out of the rhythm"
            _now, slurms = rig.read_both()
            later = forecast(before, at, _runs(rig, jobs, before))
            ours = agreement.compute(later, with_qos=rig.with_qos)
            assert agreement.differences(ours, slurms) == [], f"{step} seconds later"


def _use_some(rig):
    """Start jobs that use up shares: some end before a calculation, one lasts through two."""
    places = [one for one in rig.tree.places if not one.partition]
    jobs = []
    for number, (cpus, seconds) in enumerate([(3, 7), (1, 40), (5, 75), (2, 130), (7, 20)]):
        place = places[number * 7]
        options = ["-p", "busy", "-n", str(cpus), "--mem=2000", "-q", "half", "-t", "5"]
        line = agreement.sbatch(place, *options, "--wrap", f"sleep {seconds}")
        jobs.append((rig.script("use.sh", line).strip(), place))
    return jobs


def _runs(rig, jobs, snapshot):
    """Return what these jobs did, from the accounting's times."""
    (partition,) = (one for one in snapshot.partitions if one.name == "busy")
    flags = frozenset(snapshot.config.settings["PriorityFlags"].split(","))
    runs = []
    for job_id, place in jobs:
        with rig.slurm() as slurm:
            (record,) = slurm.accounting(job_ids=[job_id])
        runs.append(
            Running(
                account=place.account,
                user=place.user,
                start_time=record.start_time,
                end_time=record.end_time,
                billing=billing(record.allocated_tres, partition.billing_weights, flags),
                usage_factor=0.5,
            )
        )
    return runs
