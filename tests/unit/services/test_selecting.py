"""Ids and the records they mean."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.services.selecting import Selection
from tests.builders import make_job


def record(number, **fields):
    return replace(make_job(number), **fields)


REST = record(
    3, display_id="3_[4-9%2]", array_task="4-9%2", array_job_id=JobId(3), state=JobState.PENDING
)
JOBS = (
    record(1),
    record(4, display_id="3_0", array_task="0", array_job_id=JobId(3)),
    REST,
    record(20, display_id="20+0", het_job_id=JobId(20)),
    record(21, display_id="20+1", het_job_id=JobId(20)),
)


@pytest.mark.parametrize(
    ("job_id", "meant"),
    [
        ("1", ["1"]),
        ("3", ["3_0", "3_[4-9%2]"]),
        ("3_0", ["3_0"]),
        ("4", ["3_0"]),
        ("3_5", ["3_5"]),
        ("3_1", []),
        ("3_[4-9%2]", ["3_[4-9%2]"]),
        ("3_[0-9]", ["3_0", "3_[4-9%2]"]),
        ("20", ["20+0", "20+1"]),
        ("20+0", ["20+0"]),
        ("20+1", ["20+1"]),
        ("21", ["20+1"]),
        ("1+0", []),
        ("99", []),
    ],
)
def test_an_id_means_its_own_records_and_no_others(job_id, meant):
    found = Selection([job_id]).of(JOBS)
    assert [job.display_id for job in found] == meant
    assert all(job_id in Selection([job_id]).ids_of(job) for job in found)


def test_two_tasks_that_wait_in_one_record_get_one_each():
    found = Selection(["3_4", "3_7"]).of(JOBS)
    assert [(job.display_id, job.array_task) for job in found] == [("3_4", "4"), ("3_7", "7")]


def test_parts_and_lists_are_asked_for_by_their_number():
    assert Selection(["20+1", "20+0", "3_[4-9]", "3_4"]).asked == ("20", "3", "3_4")
