"""Changes of a waiting job that its owner can make and Slurm would accept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slurm_gpu_policy.model.account import Qos
from slurm_gpu_policy.model.cluster import NodeGpus
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.policy.explaining.alternatives import (
    other_partitions,
    other_qos,
    shorter,
    smaller,
    without_nice,
)
from tests.builders import (
    NOW,
    make_association,
    make_job,
    make_node,
    make_partition,
    make_policy,
    make_snapshot,
)


def waiting(number=9, **fields):
    return make_job(number, **{"state": JobState.PENDING, "node_list": "", **fields})


def named(found):
    return [one.what for one in found]


def with_used(first, second=8):
    return tuple(
        replace(make_node(name), gpus=(NodeGpus("h100", 8, used),))
        for name, used in (("gpu01", first), ("gpu02", second))
    )


# --- QOS --------------------------------------------------------------------------------------


def qos_of(job, *qos, policy=None, **parts):
    names = frozenset(one.name for one in qos) - {"closed"}
    parts.setdefault("associations", (make_association(qos=names | {"normal"}),))
    snapshot = make_snapshot(qos=(Qos("normal"), *qos), **parts)
    return list(other_qos(job, snapshot, policy or make_policy()))


def test_another_qos_is_one_that_the_owner_may_use():
    (found,) = qos_of(waiting(), Qos("high"), Qos("closed"))
    assert (found.what, found.job.qos) == ("QOS high", "high")
    assert found.how == "scontrol update jobid=9 qos=high"


@pytest.mark.parametrize(
    "limits",
    [
        {"max_wall_seconds": 1800},
        {"max_tres_per_job": {"gres/gpu": 1}},
        {"max_tres_per_user": {"gres/gpu": 5}},
        {"grp_tres": {"gres/gpu:h100": 1}},
    ],
)
def test_a_qos_whose_limits_the_job_is_above_is_none(limits):
    running = make_job(1, gpus=4, qos="tight", tres={"gres/gpu": 4})
    assert qos_of(waiting(gpus=2), Qos("tight", **limits), jobs=(running,)) == []


def test_limits_that_slurm_does_not_enforce_do_not_count():
    config = replace(make_snapshot().config, settings={"AccountingStorageEnforce": "associations"})
    tight = Qos("tight", max_wall_seconds=60)
    assert named(qos_of(waiting(), tight, config=config)) == ["QOS tight"]


def test_a_qos_that_the_partition_does_not_take_is_none():
    closed = (make_partition("gpu", "gpu01", deny_qos=frozenset({"high"})),)
    assert qos_of(waiting(), Qos("high"), partitions=closed) == []
    others = (make_partition("gpu", "gpu01", allow_qos=frozenset({"normal"})),)
    assert qos_of(waiting(), Qos("high"), partitions=others) == []


def test_qos_that_the_controller_moves_jobs_between_are_not_the_owners_to_choose():
    both = (Qos("guaranteed"), Qos("over-quota"))
    assert qos_of(waiting(), *both, policy=make_policy(over_quota={})) == []
    assert len(qos_of(waiting(), *both)) == 2
    spent = make_policy(submission={"over_budget_qos": "over-budget"})
    assert qos_of(waiting(), Qos("over-budget"), policy=spent) == []


def test_what_a_qos_costs_and_risks_is_noted():
    cheap = Qos("cheap", usage_factor=0.5, max_wall_seconds=86400)
    found = qos_of(waiting(), cheap, Qos("boss", preempts=frozenset({"cheap"})))
    assert found[0].note == (
        "its use counts 0.5 x; jobs run 1-00:00:00 at most; "
        "jobs of QOS boss may take its place while it runs"
    )


def test_without_the_owners_associations_no_qos_is_named():
    assert qos_of(waiting(), Qos("high"), associations=()) == []


# --- partitions -------------------------------------------------------------------------------


def partitions_of(job, **fields):
    other = make_partition("other", "gpu01", "gpu02", **fields)
    nodes = [make_node(name, partitions=("gpu", "other")) for name in ("gpu01", "gpu02")]
    parts = (make_partition("gpu", "gpu01", "gpu02"), other)
    return named(other_partitions(job, make_snapshot(partitions=parts, nodes=tuple(nodes))))


def test_another_partition_is_one_that_is_open_and_has_such_nodes():
    assert partitions_of(waiting(gpus=16, nodes=2)) == ["partition other"]
    assert partitions_of(waiting(gpus=24, nodes=3)) == []
    assert partitions_of(waiting(gpu_type="a100")) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"state": "DOWN"},
        {"max_time_seconds": 60},
        {"allow_accounts": frozenset({"vision"})},
        {"deny_accounts": frozenset({"nlp"})},
        {"allow_qos": frozenset({"high"})},
        {"allow_groups": frozenset({"lab"})},
        {"max_nodes": 0},
    ],
)
def test_a_partition_that_is_closed_to_the_job_is_none(fields):
    assert partitions_of(waiting(), **fields) == []


# --- time, size, nice -------------------------------------------------------------------------


def test_a_shorter_time_is_one_that_ends_before_the_room_is_needed():
    snapshot = make_snapshot(nodes=with_used(4))
    (found,) = shorter(waiting(gpus=4), snapshot, NOW + 1830)
    assert (found.what, found.job.time_limit_seconds) == ("a time limit of 00:30:00", 1800)
    assert found.how == "scontrol update jobid=9 timelimit=00:30:00"


@pytest.mark.parametrize(
    ("fields", "before"),
    [
        ({"gpus": 5}, NOW + 1800),  # no room now
        ({"time_limit_seconds": 1800}, NOW + 1800),  # short enough already
        ({}, NOW + 200),  # too short for anybody
        ({}, None),
    ],
)
def test_a_shorter_time_that_helps_nothing_is_none(fields, before):
    job = waiting(**{"gpus": 4, **fields})
    assert list(shorter(job, make_snapshot(nodes=with_used(4)), before)) == []


def test_a_smaller_job_is_the_largest_that_fits_now():
    job = waiting(gpus=16, nodes=2, cpus=8, memory_mb=2000, tres={"gres/gpu": 16, "node": 2})
    (found,) = smaller(job, make_snapshot(nodes=with_used(5, 8)))
    small = found.job
    assert (found.what, small.gpus, small.nodes) == ("3 GPUs on 1 node", 3, 1)
    assert (small.cpus, small.memory_mb) == (4, 1000)
    assert small.tres == {"gres/gpu": 3, "node": 1}
    assert (small.accrue_time, small.submit_time) == (NOW, NOW)


def test_a_smaller_job_may_keep_its_nodes():
    (found,) = smaller(waiting(gpus=16, nodes=2), make_snapshot(nodes=with_used(2, 2)))
    assert (found.job.gpus, found.job.nodes) == (12, 2)
    (found,) = smaller(waiting(gpus=16, nodes=2), make_snapshot(nodes=with_used(4, 4)))
    assert (found.job.gpus, found.job.nodes) == (8, 2)


def test_no_smaller_job_where_there_is_room_or_nothing_free():
    assert list(smaller(waiting(gpus=8), make_snapshot())) == []
    assert list(smaller(waiting(gpus=8), make_snapshot(nodes=with_used(8)))) == []
    assert list(smaller(waiting(gpus=1), make_snapshot(nodes=with_used(8)))) == []


def test_only_a_nice_that_takes_points_can_be_given_back():
    (found,) = without_nice(waiting(nice=50))
    assert found.job.nice == 0
    assert list(without_nice(waiting(nice=-50))) == []
