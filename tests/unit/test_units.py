"""Quantities: what is written is what is meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.errors import RequestError
from slurm_gpu_policy.units import (
    counted,
    format_duration,
    format_money,
    parse_duration,
    parse_memory,
    parse_money,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 1800), ("30:15", 1815), ("1:00:00", 3600), ("2-0", 172800), ("1-12:30", 131400),
        ("1-00:00:01", 86401), ("4h", 14400), ("1d12h", 129600), ("90s", 90), ("1h30m", 5400),
    ],
)  # fmt: skip
def test_durations_are_read_as_sbatch_does_and_as_people_write_them(text, seconds):
    assert parse_duration(text) == seconds


NOT_DURATIONS = ["", "0", "-1", "4 h", "h", "1:2:3:4", "1-", "٣", "4H", "9" * 30, "9" * 5000]


@pytest.mark.parametrize("text", [*NOT_DURATIONS, "9" * 5000 + "h"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(RequestError):
        parse_duration(text)


@given(st.integers(1, 10**9))
def test_a_duration_survives_being_printed(seconds):
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "mib"),
    [("500", 500), ("64G", 65536), ("1t", 1024**2), ("1024K", 1), ("1K", 1), ("80GiB", 81920)],
)
def test_memory_is_read_as_sbatch_does(text, mib):
    assert parse_memory(text) == mib


@pytest.mark.parametrize("text", ["", "G", "1.5G", "-1", "64X", "1GG"])
def test_what_is_no_memory_is_refused(text):
    with pytest.raises(RequestError):
        parse_memory(text)


@given(st.integers(0, 10**15))
def test_money_survives_being_printed_to_the_last_micro_unit(micros):
    assert parse_money(format_money(micros)) == micros


@pytest.mark.parametrize("text", ["", "-1", "1.", ".5", "1,5", "1e3", "0.0000001", "١"])
def test_what_is_no_money_is_refused(text):
    with pytest.raises(RequestError):
        parse_money(text)


def test_counts_know_their_plural():
    assert [counted(n, "job") for n in (0, 1, 2)] == ["0 jobs", "1 job", "2 jobs"]
