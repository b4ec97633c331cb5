"""Watching: few calls, every change seen, and the job's own exit code at the end."""

from __future__ import annotations

from itertools import pairwise

import pytest

from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.submission import Submission
from slurm_gpu_policy.services.watch import exit_code, watch
from tests.fakes.clock import FakeClock
from tests.fakes.slurm import FakeSlurm


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def slurm(clock):
    return FakeSlurm(clock=clock)


def submit(slurm, *, gpus=1, seconds=600, array=None):
    options = [("gres", f"gpu:h100:{gpus}"), ("time", "02:00:00"), ("partition", "gpu")]
    if array:
        options.append(("array", array))
    token = f"t{len(slurm.submissions)}"
    options.append(("comment", f"gpu-submit(token={token})"))
    return str(slurm.submit(Submission(f"#!/bin/bash\nsleep {seconds}\n", tuple(options), token)))


def test_a_running_job_is_seen_with_its_gpus_and_then_with_its_end(slurm, clock):
    job = submit(slurm, gpus=2, seconds=30)
    sights = list(watch(slurm, clock, [job]))
    running = next(s for s in sights if s.jobs and s.jobs[0].state is JobState.RUNNING)
    assert [len(held.gpu_indexes) for held in running.allocations[job]] == [2]
    assert sights[-1].jobs[0].state is JobState.COMPLETED
    assert sights[-1].is_over
    assert exit_code(slurm, clock, [job]) == 0


def test_a_waiting_job_is_seen_with_its_place_in_the_queue(slurm, clock):
    for _ in range(2):
        submit(slurm, gpus=8)
    first, second = submit(slurm), submit(slurm)
    sight = next(watch(slurm, clock, [second]))
    (place,) = sight.places[second]
    assert (place.partition, place.place, place.of) == ("gpu", 2, 2)
    assert first != second


def test_a_look_is_one_call_however_many_jobs_are_watched(slurm, clock):
    jobs = [submit(slurm, seconds=3600) for _ in range(10)]
    sights = watch(slurm, clock, jobs)
    next(sights)
    next(sights)
    slurm.calls.clear()
    next(sights)
    assert len(slurm.calls) == 1


def test_looks_grow_rarer_while_nothing_changes(slurm, clock):
    job = submit(slurm, seconds=3600)
    sights = watch(slurm, clock, [job])
    times = []
    for _ in range(25):
        next(sights)
        times.append(clock.monotonic())
    gaps = [b - a for a, b in pairwise(times)]
    assert gaps[1] < 2
    assert gaps[-1] == pytest.approx(30)


def test_a_controller_that_is_away_is_said_and_watching_goes_on(slurm, clock):
    job = submit(slurm, seconds=20)
    sights = watch(slurm, clock, [job])
    next(sights)
    slurm.unavailable(times=1)
    assert next(sights).trouble
    assert not next(sights).trouble


def test_a_job_that_left_slurms_memory_is_gone_and_accounting_knows_its_code(slurm, clock):
    job = submit(slurm, seconds=3600)
    slurm.finish(job, JobState.FAILED, exit_code=3)
    clock.advance(10_000)
    (sight,) = watch(slurm, clock, [job])
    assert sight.gone == (job,)
    assert exit_code(slurm, clock, [job]) == 3


@pytest.mark.parametrize(
    ("state", "code", "signal", "expected"),
    [
        (JobState.COMPLETED, 0, 0, 0),
        (JobState.FAILED, 7, 0, 7),
        (JobState.FAILED, 0, 9, 137),
        (JobState.TIMEOUT, 0, 0, 1),
        (JobState.CANCELLED, 0, 15, 143),
    ],
)
def test_the_exit_code_is_the_jobs_own(slurm, clock, state, code, signal, expected):
    job = submit(slurm)
    slurm.finish(job, state, exit_code=code, exit_signal=signal)
    assert exit_code(slurm, clock, [job]) == expected


def test_the_exit_code_of_an_array_is_its_highest(slurm, clock):
    job = submit(slurm, array="0-2", seconds=3600)
    slurm.finish(f"{job}_1", JobState.FAILED, exit_code=4)
    slurm.finish(f"{job}_0")
    slurm.finish(f"{job}_2")
    assert exit_code(slurm, clock, [job]) == 4
