from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.adapters.slurm import quantities as q
from slurm_gpu_policy.errors import SlurmUnreadable
from slurm_gpu_policy.units import format_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0:00", 0),
        ("5:00", 300),
        ("1:00:00", 3600),
        ("00:05.123", 5),
        ("2-00:00:00", 172800),
        ("1-02", 93600),
        ("UNLIMITED", None),
        ("NOT_SET", None),
        ("Partition_Limit", None),
        ("INVALID", None),
        ("", None),
    ],
)
def test_durations_are_seconds(text, seconds):
    assert q.seconds(text) == seconds


@given(st.integers(0, 10**9))
def test_any_duration_slurm_prints_is_read_back(seconds):
    assert q.seconds(format_duration(seconds)) == seconds


@pytest.mark.parametrize("text", ["5", "-5:00", "1:2:3:4", "x", "1:-2", "1 :00", "²:00", "1_0:00"])
def test_a_duration_in_no_known_form_is_an_error(text):
    with pytest.raises(ValueError, match=r"."):
        q.seconds(text)


@pytest.mark.parametrize(
    ("text", "mebibytes"),
    [
        ("8000M", 8000),
        ("62.50G", 64000),
        ("0.5G", 512),
        ("1T", 1024**2),
        ("1K", 1),
        ("500", 500),
        ("0", 0),
        ("N/A", 0),
    ],
)
def test_memory_is_mebibytes(text, mebibytes):
    assert q.mebibytes(text) == mebibytes


@pytest.mark.parametrize(
    ("text", "number"), [("7", 7), ("1K", 1024), ("1.50K", 1536), ("2-4", 2), ("(null)", 0)]
)
def test_counts_may_be_shortened_or_ranges(text, number):
    assert q.count(text) == number


def test_times_that_are_not_set_are_none():
    for text in ("N/A", "Unknown", "None", "", "0", "NONE"):
        assert q.epoch(text) is None
    assert q.epoch("1800000000") == 1800000000


def test_limits_that_are_not_set_or_infinite_are_none():
    for text in ("", "UNLIMITED", "4294967295", "4294967294", "N/A"):
        assert q.optional_count(text) is None
    assert q.optional_count("0") == 0


def test_tres_are_counts_by_name_and_memory_in_mebibytes():
    text = "cpu=4,mem=62.50G,node=1,billing=32,gres/gpu=4,gres/gpu:nvidia_a100_1g.5gb=4"
    assert dict(q.tres(text)) == {
        "cpu": 4,
        "mem": 64000,
        "node": 1,
        "billing": 32,
        "gres/gpu": 4,
        "gres/gpu:nvidia_a100_1g.5gb": 4,
    }


def test_a_limit_that_was_cleared_is_no_limit():
    assert dict(q.tres("cpu=-1,gres/gpu=,node=3")) == {"node": 3}
    assert dict(q.tres("")) == dict(q.tres("(null)")) == {}


@given(st.dictionaries(st.from_regex(r"[a-z/:_0-9]{1,12}", fullmatch=True), st.integers(0, 2**40)))
def test_any_tres_list_is_read_back(counts):
    counts = {name: number for name, number in counts.items() if name not in {"mem", "vmem"}}
    text = ",".join(f"{name}={number}" for name, number in counts.items())
    assert dict(q.tres(text)) == counts


@pytest.mark.parametrize(
    ("text", "pair"), [("0:0", (0, 0)), ("3:0", (3, 0)), ("0:9", (0, 9)), ("", (0, 0))]
)
def test_exit_codes_have_a_signal_behind_them(text, pair):
    assert q.exit_status(text) == pair


@given(st.text())
def test_no_text_breaks_a_reader_with_anything_but_a_value_error(text):
    readers = (q.seconds, q.count, q.optional_count, q.epoch, q.mebibytes, q.tres, q.minutes,
               q.exit_status, q.words, q.word)  # fmt: skip
    for read in readers:
        try:
            read(text)
        except ValueError:
            continue


def test_the_error_names_field_record_and_value():
    with pytest.raises(SlurmUnreadable, match=r"timelimit of job 7 .*'x'"):
        q.unreadable("timelimit", "x", "job 7")
