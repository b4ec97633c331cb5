"""The queue view: who comes first, what is held where, which GPUs are free."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slurm_gpu_policy.model.cluster import NodeGpus
from slurm_gpu_policy.model.job import JobState, NodeAllocation
from slurm_gpu_policy.model.submission import Submission
from slurm_gpu_policy.services.queue import (
    GpuCount,
    Wanted,
    count_gpus,
    gpu_indexes,
    node_names,
    read_queue,
)
from tests.builders import make_job, make_node
from tests.fakes.slurm import FakeSlurm


@pytest.fixture
def slurm():
    return FakeSlurm()


def submit(slurm, gpus=1, nodes=1, **options):
    options = {"gres": f"gpu:h100:{gpus}", "nodes": str(nodes), "partition": "gpu", **options}
    return slurm.submit(Submission("#!/bin/bash\n", tuple(options.items()), "t"))


def ids(view):
    return [entry.job.job_id for entry in view.entries]


def test_jobs_that_run_come_before_jobs_that_wait_and_those_by_priority(slurm):
    running = submit(slurm, gpus=8, nodes=2)
    low, high = submit(slurm), submit(slurm)
    slurm.user = "root"
    slurm.modify(str(high), {"priority": "5000"})
    assert ids(read_queue(slurm, Wanted())) == [running, high, low]


def test_a_running_job_shows_its_gpu_indexes_on_each_node(slurm):
    submit(slurm, gpus=3)
    submit(slurm, gpus=2, nodes=2)
    entries = read_queue(slurm, Wanted()).entries
    assert entries[0].gpu_indexes == {"gpu01": [0, 1, 2]}
    assert entries[1].gpu_indexes == {"gpu01": [3, 4], "gpu02": [0, 1]}
    assert entries[1].nodes == ("gpu01", "gpu02")
    assert entries[1].words.text == ""


def test_a_waiting_job_holds_nothing_and_says_why_it_waits(slurm):
    submit(slurm, gpus=8, nodes=2)
    submit(slurm, gpus=4)
    entry = read_queue(slurm, Wanted()).entries[1]
    assert (entry.nodes, entry.gpu_indexes) == ((), {})
    assert "waits for 4 h100 GPUs" in entry.words.text


def test_one_call_brings_the_indexes_of_all_jobs_and_none_is_made_without_need(slurm):
    read_queue(slurm, Wanted())
    assert [name for name, *_ in slurm.calls] == ["read"]
    for _ in range(5):
        submit(slurm)
    slurm.calls.clear()
    read_queue(slurm, Wanted())
    assert [name for name, *_ in slurm.calls] == ["read", "allocations"]


def test_only_what_is_shown_is_asked_for(slurm):
    mine = submit(slurm)
    slurm.user = "u3"
    submit(slurm)
    slurm.calls.clear()
    view = read_queue(slurm, Wanted(users=frozenset({"u1"})))
    assert slurm.calls[-1] == ("allocations", str(mine))
    assert view.entries[0].gpu_indexes == {"gpu01": [0]}


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (Wanted(), 3),
        (Wanted(users=frozenset({"u1"})), 2),
        (Wanted(users=frozenset({"u1", "u3"})), 3),
        (Wanted(users=frozenset({"nobody"})), 0),
        (Wanted(accounts=frozenset({"vision-seg"})), 1),
        (Wanted(partitions=frozenset({"interactive"})), 1),
        (Wanted(states=frozenset({JobState.RUNNING})), 3),
        (Wanted(states=frozenset({JobState.PENDING})), 0),
        (Wanted(users=frozenset({"u1"}), partitions=frozenset({"gpu"})), 1),
    ],
)
def test_filters_let_pass_what_was_asked_for(slurm, wanted, count):
    submit(slurm)
    submit(slurm, partition="interactive")
    slurm.user = "u3"
    submit(slurm)
    assert len(read_queue(slurm, wanted).entries) == count


def test_gpus_are_counted_by_type_with_those_that_are_out_of_order():
    nodes = (
        make_node("a", gpus=0),
        make_node("b", state="MIXED"),
        make_node("c", state="DOWN"),
        make_node("d", gpu_type="a100", gpus=4, flags=frozenset({"DRAIN"})),
    )
    held = replace(nodes[3], gpus=(NodeGpus("a100", 4, 3),))
    assert count_gpus((*nodes[:3], held)) == (
        GpuCount("a100", total=4, used=3, free=0, down=1),
        GpuCount("h100", total=16, used=0, free=8, down=8),
    )


def test_a_draining_nodes_gpus_that_are_still_in_use_count_as_used(slurm):
    slurm.jobs([str(submit(slurm, gpus=3))])
    slurm.drain("gpu01")
    (count,) = read_queue(slurm, Wanted()).gpus
    assert (count.used, count.free, count.down) == (3, 8, 5)


def test_several_types_on_one_node_are_one_list_of_indexes():
    held = (NodeAllocation("n", "a", (4, 5)), NodeAllocation("n", "b", (0,)))
    assert gpu_indexes(held) == {"n": [0, 4, 5]}
    assert node_names(make_job(), held) == ("n",)


def test_slurms_own_list_serves_where_it_names_plain_nodes():
    assert node_names(make_job(node_list="gpu01,gpu02"), ()) == ("gpu01", "gpu02")
    assert node_names(make_job(node_list="gpu[01-02]"), ()) == ()
    assert node_names(make_job(state=JobState.COMPLETED), ()) == ()
