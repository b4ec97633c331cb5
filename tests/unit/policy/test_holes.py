"""A hole is what is free on a node; who fills it leaves nothing free."""

from __future__ import annotations

from dataclasses import replace

from slurm_gpu_policy.model.cluster import NodeGpus
from slurm_gpu_policy.policy.holes import fills
from tests.builders import make_node
from tests.queues import waiting


def node(name, free, gpu_type="h100", total=8, **fields):
    made = make_node(name, gpu_type, total, **fields)
    return replace(made, gpus=(NodeGpus(gpu_type, total, total - free),))


def test_the_first_job_that_leaves_nothing_free_fills_the_hole():
    line = [waiting(1, gpus=4), waiting(2, gpus=3), waiting(3, gpus=3), waiting(4, gpus=8)]
    nodes = [node("a", 3), node("b", 0), node("c", 8)]
    assert fills(line, nodes) == {2: "a", 4: "c"}


def test_a_job_on_several_nodes_needs_as_many_holes_of_its_size():
    two = waiting(1, gpus=4, nodes=2)
    assert fills([two], [node("a", 2), node("b", 4)]) == {}
    assert fills([two], [node("a", 2), node("b", 2)]) == {1: "a, b"}
    assert fills([waiting(1, gpus=5, nodes=2)], [node("a", 2), node("b", 3)]) == {}


def test_type_partition_and_node_must_fit():
    job = waiting(1, gpus=2, gpu_type="a100")
    assert fills([job], [node("a", 2)]) == {}
    assert fills([job], [node("a", 2, "a100", partitions=("other",))]) == {}
    assert fills([job], [node("a", 2, "a100", flags=frozenset({"DRAIN"}))]) == {}
    assert fills([job], [node("a", 2, "a100")]) == {1: "a"}


def test_a_job_that_names_no_type_fills_a_node_of_one_type():
    job = waiting(1, gpus=2, gpu_type="")
    assert fills([job], [node("a", 2)]) == {1: "a"}
    assert fills([job], [node("a", 2, "")]) == {1: "a"}
    both = replace(node("b", 2), gpus=(NodeGpus("h100", 4, 2), NodeGpus("a100", 4, 2)))
    assert fills([job], [both]) == {}
    assert fills([waiting(1, gpus=2, gpu_type="h100")], [both]) == {1: "b"}


def test_cpus_and_memory_must_be_free_too():
    job = waiting(1, gpus=2, cpus=8, memory_mb=1000)
    assert fills([job], [node("a", 2, cpus_used=57)]) == {}
    assert fills([job], [node("a", 2, memory_used_mb=999_500)]) == {}
    assert fills([job], [node("a", 2, cpus_used=56, memory_used_mb=999_000)]) == {1: "a"}


def test_a_job_without_gpus_fills_nothing():
    assert fills([waiting(1, gpus=0)], [node("a", 2)]) == {}
