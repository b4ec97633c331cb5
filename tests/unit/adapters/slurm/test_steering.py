"""Many commands for one scontrol, and whose complaint is whose."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.adapters.slurm import steering
from slurm_gpu_policy.adapters.slurm.run import Answer
from slurm_gpu_policy.errors import SlurmTimeout, SlurmUnavailable

OLD = """\
Invalid job id specified for job 999
Job has already finished for job 5
1204_1-2: Job is no longer pending execution
1204_3: No error
1300_4-6: Invalid qos specification
1400_7: Job has already finished
slurm_suspend error: Invalid job id specified
"""
NEW = """\
Invalid job id specified for job 999
Job has already finished for job 5
1204_[1-2]: Job is no longer pending execution
1300_[4-6]: Invalid qos specification
1400_[7]: Job has already finished
"""


def answer(text, code=1):
    return Answer(("scontrol",), code, b"", text.encode())


@pytest.mark.parametrize("text", [OLD, NEW], ids=["22.05", "26.05"])
def test_each_complaint_goes_to_its_job_or_tasks(text):
    asked = ["1", "999", "5", "1204_[1-3]", "1204_1", "1300_[4-9]", "1400_7", "1400_[7-8]", "12"]
    assert steering.refusals(answer(text), asked) == {
        "999": "Invalid job id specified",
        "5": "Job has already finished",
        "1204_1": "Job is no longer pending execution",
        "1300_[4-9]": "Invalid qos specification",
        "1400_7": "Job has already finished",
    }


def test_a_whole_array_is_refused_where_any_task_is_for_another_reason_than_being_late():
    said = answer("12_1-2: Job has already finished\n13_4: Access/permission denied\n")
    assert steering.refusals(said, ["12", "13"]) == {"13": "Access/permission denied"}


def test_a_complaint_that_names_nobody_is_everybodys():
    found = steering.refusals(answer("scontrol: error: Invalid value\n"), ["1", "2"])
    assert set(found) == {"1", "2"}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("slurm_update error: Unable to contact slurm controller (connect failure)\n", None),
        # What 22.05 says for each line once its controller has gone.
        ("Unexpected message received for job 1\n", SlurmTimeout),
        ("Invalid job id specified for job 2\nZero Bytes were transmitted for job 1\n", None),
    ],
)
def test_no_controller_is_no_refusal(text, kind):
    with pytest.raises(kind or SlurmUnavailable):
        steering.refusals(answer(text), ["1", "2"])


@given(st.lists(st.text(alphabet="ab =\"'\\\n\t\x00;()", max_size=12), min_size=1, max_size=4))
def test_no_plain_command_has_more_or_other_words_once_it_is_a_line(words):
    if steering.is_plain(words) and all(words):
        assert steering.script([words]).decode() == " ".join(words) + "\n"
        assert steering.script([words]).decode().split() == words
        assert not any(mark in word for word in words for mark in "\"'\\\n")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("3", {3}),
        ("[1-4,7]", {1, 2, 3, 4, 7}),
        ("0-8:2%3", {0, 2, 4, 6, 8}),
        ("", set()),
        ("x", set()),
        ("1-3:0", {1, 2, 3}),
    ],
)
def test_task_lists_are_read(text, numbers):
    assert steering.task_numbers(text) == numbers


def test_times_are_said_in_the_zone_that_scontrol_is_given(monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        words = steering.scontrol_words({"begin_time": "1800000000"})
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert words == ["StartTime=2027-01-15T08:00:00"]
