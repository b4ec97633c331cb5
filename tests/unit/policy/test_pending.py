"""What marks and Slurm's texts say of a waiting job."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.policy import pending
from tests.builders import NOW
from tests.queues import waiting


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", []),
        ("5-9%2", [5, 6, 7, 8, 9]),
        ("1,3,12-13", [1, 3, 12, 13]),
        ("1-9:4%1", [1, 5, 9]),
        ("1,3,...", [1, 3]),
        ("1,3-...", [1]),
        ("7", [7]),
    ],
)
def test_the_tasks_of_an_arrays_rest(text, numbers):
    job = waiting(1, array_task=text)
    assert [number for part in pending.task_ranges(job) for number in part] == numbers
    assert pending.task_count(job) == (len(numbers) or 1)


def test_an_array_of_four_million_tasks_is_counted_at_once():
    assert pending.task_count(waiting(1, array_task="0-3999999%5")) == 4_000_000


def test_the_first_submission_is_the_controllers_word_not_the_users():
    assert pending.submitted(waiting(1, submit_time=7)) == 7
    assert pending.submitted(waiting(1, submit_time=7, admin_comment="gpu-policy(first=5)")) == 5
    assert pending.submitted(waiting(1, submit_time=7, comment="gpu-policy(first=5)")) == 7
    assert pending.submitted(waiting(1, submit_time=7, admin_comment="gpu-policy(first=x)")) == 7
    assert pending.submitted(waiting(1, submit_time=None)) == 0


def test_a_job_that_may_not_start_yet_is_not_eligible():
    assert pending.is_eligible(waiting(1), NOW)
    assert pending.is_eligible(waiting(1, eligible_time=None), NOW)
    assert not pending.is_eligible(waiting(1, reason="Dependency"), NOW)
    assert not pending.is_eligible(waiting(1, eligible_time=NOW + 1), NOW)
