from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.policy.explaining import estimating
from slurm_gpu_policy.policy.explaining.estimating import estimated_start
from tests.builders import NOW, make_job, make_node, make_partition, make_snapshot


def waiting(number, gpus=1, priority=1000, **fields):
    defaults = {"state": JobState.PENDING, "node_list": "", "start_time": None}
    return make_job(number, gpus=gpus, priority=priority, **{**defaults, **fields})


def running(number, node, gpus, left=3600, **fields):
    defaults = {"start_time": NOW - 600, "time_limit_seconds": left + 600, "node_list": node}
    return make_job(number, gpus=gpus, **{**defaults, **fields})


def estimate(job, *others, **parts):
    return estimated_start(job, make_snapshot(jobs=(job, *others), **parts))


def test_on_an_empty_cluster_a_job_starts_now():
    assert estimate(waiting(1, gpus=16, nodes=2)).start == NOW


def test_a_job_waits_for_the_time_limit_of_who_holds_its_gpus():
    full = running(2, "gpu01", 8, left=100), running(3, "gpu02", 8, left=500)
    assert estimate(waiting(1, gpus=8), *full).start == NOW + 100
    assert estimate(waiting(1, gpus=16, nodes=2), *full).start == NOW + 500


def test_what_several_running_jobs_hold_adds_up():
    held = [running(number, "gpu01", 4, left=number) for number in (10, 20)]
    held.append(running(30, "gpu02", 8, left=900))
    assert estimate(waiting(1, gpus=8), *held).start == NOW + 20
    assert estimate(waiting(1, gpus=4), *held).start == NOW + 10


def test_a_job_over_two_nodes_holds_its_part_on_each():
    both = running(2, "gpu[01-02]", 8, left=60, nodes=2)
    assert estimate(waiting(1, gpus=4), both).start == NOW
    assert estimate(waiting(1, gpus=5), both).start == NOW + 60


def test_those_ahead_take_their_room_first():
    ahead = waiting(2, gpus=16, nodes=2, priority=2000, time_limit_seconds=70)
    found = estimate(waiting(1, gpus=1), ahead)
    assert (found.start, found.ahead) == (NOW + 70, 1)


def test_of_equal_priorities_the_older_job_is_ahead():
    other = waiting(1, gpus=16, nodes=2, time_limit_seconds=70)
    assert estimate(waiting(2), other).start == NOW + 70
    assert estimate(waiting(1), replace(other, job_id=2)).start == NOW


def test_each_waiting_task_of_an_array_ahead_counts():
    array = waiting(
        5, gpus=8, priority=2000, array_task="0-3", array_job_id=5, time_limit_seconds=100
    )
    assert estimate(waiting(9, gpus=8), array) == estimating.Estimate(NOW + 200, ahead=4)


def test_who_is_held_depends_or_waits_elsewhere_is_not_ahead():
    big = {"gpus": 16, "nodes": 2, "time_limit_seconds": 5000}
    held = waiting(2, priority=0, **big)
    depends = waiting(3, priority=9000, dependency="afterok:9", **big)
    elsewhere = waiting(4, priority=9000, partitions=("cpu",), **big)
    reserved = waiting(5, priority=9000, reservation="course", **big)
    assert estimate(waiting(1), held, depends, elsewhere, reserved).start == NOW


def test_one_that_can_never_start_holds_up_nobody():
    never = waiting(2, gpus=64, nodes=8, priority=9000)
    full = running(3, "gpu01", 8, left=50), running(4, "gpu02", 8, left=90)
    assert estimate(waiting(1), never, *full).start == NOW + 50


def test_drained_nodes_are_no_room():
    nodes = (make_node("gpu01", flags=frozenset({"DRAIN"})), make_node("gpu02"))
    full = running(2, "gpu02", 8, left=40)
    assert estimate(waiting(1, gpus=8), full, nodes=nodes).start == NOW + 40
    found = estimate(waiting(1, gpus=16, nodes=2), full, nodes=nodes)
    assert (found.start, found.why_none) == (None, "no set of nodes that are up has room for it")


def test_cpus_and_memory_count_too():
    hog = running(2, "gpu01", 0, left=30, cpus=64), running(3, "gpu02", 0, left=80, cpus=64)
    assert estimate(waiting(1, gpus=1), *hog).start == NOW + 30
    memory = [replace(one, cpus=1, memory_mb=1_000_000) for one in hog]
    assert estimate(waiting(1, gpus=1), *memory).start == NOW + 30


def test_gpu_type_and_features_choose_the_nodes():
    nodes = (make_node("gpu01", "a100", features=frozenset({"ib"})), make_node("gpu02"))
    full = running(2, "gpu02", 8, left=40)
    assert estimate(waiting(1, gpu_type="h100"), full, nodes=nodes).start == NOW + 40
    assert estimate(waiting(1, gpu_type="a100"), full, nodes=nodes).start == NOW
    assert estimate(waiting(1, gpu_type=""), full, nodes=nodes).start == NOW
    assert estimate(waiting(1, gpu_type="", features="ib"), nodes=nodes).start == NOW
    assert estimate(waiting(1, gpu_type="", features="none"), nodes=nodes).start is None


def test_an_unlimited_job_lasts_as_long_as_its_partition_lets_it():
    unlimited = running(2, "gpu[01-02]", 16, nodes=2, time_limit_seconds=None)
    week = estimate(waiting(1), unlimited)
    assert week.start == NOW - 600 + 7 * 86400
    for_ever = (make_partition("gpu", "gpu01", "gpu02", max_time_seconds=None),)
    assert estimate(waiting(1), unlimited, partitions=for_ever).start is None


def test_one_over_its_limit_is_taken_to_end_now():
    late = running(2, "gpu[01-02]", 16, nodes=2, time_limit_seconds=10)
    assert estimate(waiting(1), late).start == NOW


def test_there_is_no_estimate_for_who_may_not_start():
    assert estimate(waiting(1, priority=0)).why_none == "it is held"
    assert estimate(waiting(1, reservation="r")).why_none == "it waits for its reservation"
    later = waiting(1, eligible_time=NOW + 9, reason="BeginTime")
    assert estimate(later).why_none == "it may not start yet"


def test_a_long_line_is_said_to_be_too_long():
    array = waiting(5, priority=2000, array_task="0-20000", array_job_id=5)
    assert "more than 1000 jobs" in estimate(waiting(9), array).why_none


sizes = st.tuples(st.integers(1, 16), st.integers(1, 500), st.integers(1, 5000))


def made(number, size):
    gpus, seconds, priority = size
    nodes = 1 if gpus <= 8 else 2
    return waiting(number, gpus=gpus, nodes=nodes, time_limit_seconds=seconds, priority=priority)


@given(st.lists(sizes, max_size=12), sizes, sizes)
def test_one_more_ahead_never_makes_it_sooner_than_the_line_allows(line, mine, more):
    jobs = [made(number, size) for number, size in enumerate(line, 10)]
    job = made(9, (*mine[:2], 1))
    start = estimate(job, *jobs).start
    last = replace(made(8, more), priority=1)  # right before it, and behind all the others
    later = estimate(job, last, *jobs).start
    assert NOW <= start <= later


@given(st.lists(sizes, min_size=1, max_size=12))
def test_nobody_overtakes(line):
    jobs = [made(number, size) for number, size in enumerate(line, 1)]
    order = sorted(jobs, key=lambda job: (-job.priority, job.job_id))
    starts = [estimate(job, *(one for one in jobs if one is not job)).start for job in order]
    assert starts == sorted(starts)
