"""Room for a job on nodes: now, or ever."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slurm_gpu_policy.model.cluster import NodeGpus
from slurm_gpu_policy.policy.explaining.room import fits_now, free_on, holds_at_all, is_of
from tests.builders import make_job, make_node


def test_a_job_fits_where_enough_nodes_have_its_even_part_free():
    nodes = [make_node("gpu01"), make_node("gpu02")]
    assert fits_now(make_job(gpus=16, nodes=2), nodes)
    assert not fits_now(make_job(gpus=16, nodes=1), nodes)
    assert not fits_now(make_job(gpus=24, nodes=3), nodes)


@pytest.mark.parametrize(
    "fields",
    [
        {"gpus": (NodeGpus("h100", 8, 5),)},
        {"cpus_used": 61},
        {"memory_used_mb": 999_500},
        {"flags": frozenset({"DRAIN"})},
        {"flags": frozenset({"RESERVED"})},
        {"flags": frozenset({"MAINT"})},
        {"partitions": ("cpu",)},
        {"gpus": (NodeGpus("a100", 8, 0),)},
    ],
)
def test_what_is_taken_down_reserved_or_of_another_kind_is_no_room(fields):
    job = make_job(gpus=4, cpus=4, memory_mb=1000)
    assert fits_now(job, [make_node("gpu01")])
    assert not fits_now(job, [replace(make_node("gpu01"), **fields)])


def test_what_is_in_use_now_is_room_later():
    full = replace(make_node("gpu01"), gpus=(NodeGpus("h100", 8, 8),), cpus_used=64)
    assert holds_at_all(make_job(gpus=8), [full])
    assert not holds_at_all(make_job(gpus=9), [full])
    assert free_on(make_job(), full) == 0


def test_a_job_without_a_type_takes_any_and_one_without_gpus_any_node():
    both = make_node("gpu01", "a100")
    assert is_of(make_job(gpu_type=""), both)
    assert not is_of(make_job(gpu_type="h100"), both)
    assert is_of(make_job(gpus=0, partitions=("cpu",)), make_node("cpu01", gpus=0))
    assert not is_of(make_job(features="ib"), both)


def test_without_gpus_it_is_the_cpus_of_open_nodes_that_count():
    job = make_job(gpus=0, partitions=("cpu",))
    node = make_node("cpu01", gpus=0)
    assert fits_now(job, [node])
    assert not fits_now(job, [replace(node, flags=frozenset({"MAINT"}))])
    assert not fits_now(job, [make_node("gpu01")])


def test_nothing_is_free_on_a_node_that_is_kept_for_others():
    assert free_on(make_job(), make_node("gpu01")) == 8
    assert free_on(make_job(), make_node("gpu01", flags=frozenset({"RESERVED"}))) == 0
