"""Watching: few calls, every change seen, and the job's own exit code at the end."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise

import pytest

from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.submission import Submission
from slurm_gpu_policy.policy.explaining.waiting import places_of
from slurm_gpu_policy.services.selecting import Selection
from slurm_gpu_policy.services.watch import exit_code, watch
from tests.builders import make_job
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


def test_the_look_at_which_many_tasks_start_is_two_calls(slurm, clock):
    blockers = [submit(slurm, gpus=8, seconds=3600) for _ in range(2)]
    array = submit(slurm, seconds=3600, array="0-15")
    sights = watch(slurm, clock, [array])
    next(sights)
    for job in blockers:
        slurm.finish(job)
    slurm.calls.clear()
    sight = next(sights)
    assert [call[0] for call in slurm.calls] == ["read", "allocations"]
    assert len(sight.jobs) == len(sight.allocations) == 16
    assert all(held[0].gpu_indexes for held in sight.allocations.values())
    assert not sight.outputs
    slurm.calls.clear()
    next(sights)
    assert [call[0] for call in slurm.calls] == ["jobs"]


def test_paths_of_outputs_are_asked_for_only_by_who_follows(slurm, clock):
    jobs = [submit(slurm, seconds=3600) for _ in range(3)]
    sight = next(watch(slurm, clock, jobs, outputs=True))
    assert sorted(sight.outputs) == sorted(jobs)


def test_a_task_that_waits_with_the_others_of_its_array_is_not_over(slurm, clock):
    for _ in range(2):
        submit(slurm, gpus=8, seconds=60)
    array = submit(slurm, array="0-9", seconds=30)
    sights = watch(slurm, clock, [f"{array}_2"])
    first = next(sights)
    assert [(job.display_id, job.state) for job in first.jobs] == [(f"{array}_2", JobState.PENDING)]
    assert first.places[f"{array}_2"][0].place == 1
    assert not first.gone
    last = [*sights][-1]
    assert [(job.display_id, job.state) for job in last.jobs] == [
        (f"{array}_2", JobState.COMPLETED)
    ]
    assert exit_code(slurm, clock, [f"{array}_2"]) == 0


def test_a_job_that_ends_while_another_waits_is_seen_with_its_end(slurm, clock):
    for _ in range(2):
        submit(slurm, gpus=8, seconds=3600)
    slurm.cancel(short := submit(slurm))
    waiting = submit(slurm)
    sights = watch(slurm, clock, [short, waiting])
    sight = next(sights)
    assert {job.display_id: job.state for job in sight.jobs} == {
        short: JobState.CANCELLED,
        waiting: JobState.PENDING,
    }
    assert not sight.gone
    slurm.calls.clear()
    assert short in {job.display_id for job in next(sights).jobs}
    assert len(slurm.calls) == 1


def test_a_running_task_that_ends_while_others_wait_is_seen_with_its_end(slurm, clock):
    submit(slurm, gpus=8, seconds=3600)
    array = submit(slurm, gpus=8, seconds=3600, array="0-2")
    sights = watch(slurm, clock, [array])
    next(sights)
    slurm.finish(f"{array}_0", JobState.FAILED, exit_code=2)
    states = {job.display_id: job.state for job in next(sights).jobs}
    assert states[f"{array}_0"] is JobState.FAILED
    assert states[f"{array}_1"] is JobState.RUNNING


def test_an_ended_job_stays_ended_when_slurm_forgets_it(slurm, clock):
    short, long = submit(slurm, seconds=5), submit(slurm, seconds=6000)
    *_, last = watch(slurm, clock, [short, long])
    assert {job.display_id for job in last.jobs} == {short, long}
    assert not last.gone


def test_one_part_of_a_heterogeneous_job_is_watched_alone(slurm, clock, monkeypatch):
    parts = tuple(
        replace(make_job(20 + n, state=state), display_id=f"20+{n}", het_job_id=JobId(20))
        for n, state in enumerate((JobState.COMPLETED, JobState.FAILED))
    )
    monkeypatch.setattr(slurm, "jobs", lambda ids: parts if "20" in ids else ())
    (sight,) = watch(slurm, clock, ["20+0"])
    assert [job.display_id for job in sight.jobs] == ["20+0"]
    assert exit_code(slurm, clock, ["20+0"]) == 0


def test_a_requeued_job_is_shown_where_it_runs_now(slurm, clock):
    job = submit(slurm, gpus=2, seconds=3600)
    sights = watch(slurm, clock, [job])
    assert next(sights).allocations[job][0].node == "gpu01"
    slurm.fail_node("gpu01")
    assert next(sights).allocations[job][0].node == "gpu02"


def test_a_thousand_jobs_in_a_long_queue_take_well_under_a_second():
    queue = [
        make_job(number, state=JobState.PENDING, priority=number % 977 + 1)
        for number in range(1, 50_001)
    ]
    selection = Selection([str(number) for number in range(7, 50_000, 50)])
    began = time.perf_counter()
    found = selection.of(queue)
    assert len(places_of(found, queue)) == 1000
    assert time.perf_counter() - began < 1


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
        (JobState.FAILED, 0, 53, 1),  # Slurm's own mark, not a signal: no output file
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


@pytest.mark.parametrize("state", [JobState.NODE_FAIL, JobState.REQUEUED])
def test_of_a_requeued_task_only_the_last_run_counts_and_costs_no_wait(slurm, clock, state):
    job = submit(slurm, gpus=8, array="0-1", seconds=3600)
    slurm.jobs([job])
    slurm._requeue(slurm.records[int(job)], state)
    slurm.jobs([job])
    slurm.finish(job)
    before = clock.monotonic()
    assert exit_code(slurm, clock, [job]) == 0
    clock.advance(10_000)
    slurm.jobs([job])
    before = clock.monotonic()
    assert exit_code(slurm, clock, [job]) == 0
    assert clock.monotonic() == before


def test_memory_is_believed_where_accounting_is_behind(slurm, clock, monkeypatch):
    job = submit(slurm, array="0-1", seconds=3600)
    slurm.finish(job)
    late = tuple(replace(run, state=JobState.NODE_FAIL) for run in slurm.accounting(job_ids=[job]))
    monkeypatch.setattr(slurm, "accounting", lambda **_: late)
    assert exit_code(slurm, clock, [job]) == 0


def test_the_code_is_asked_for_again_when_slurm_is_away(slurm, clock):
    job = submit(slurm)
    slurm.finish(job, JobState.FAILED, exit_code=5)
    slurm.unavailable(times=3)
    assert exit_code(slurm, clock, [job]) == 5


def test_the_codes_of_many_jobs_are_one_call_of_accounting(slurm, clock):
    jobs = [submit(slurm, seconds=3600) for _ in range(16)]
    for number, job in enumerate(jobs):
        slurm.finish(job, JobState.FAILED, exit_code=number + 1)
    slurm.calls.clear()
    assert exit_code(slurm, clock, jobs) == 16
    assert len(slurm.calls) == 2
