"""Nothing unprintable reaches a terminal, and times name their zone."""

from __future__ import annotations

import json
import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.terminal import text


@given(st.text())
def test_safe_text_is_printable_and_on_one_line(raw):
    assert text.safe(raw).isprintable()


@given(st.text().filter(str.isprintable))
def test_printable_text_stays_as_it_is(raw):
    assert text.safe(raw) == raw


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[31m", r"\x1b[31m"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\u202egnp", r"\u202egnp"),
        ("\udcff", r"\udcff"),
        ("\x9b31m", r"\x9b31m"),
        ("Zürich 東京", "Zürich 東京"),
    ],
)
def test_what_could_harm_is_written_as_an_escape(raw, shown):
    assert text.safe(raw) == shown


def test_lines_are_kept_where_lines_are_meant():
    assert text.safe_lines("a\x07\nb") == "a\\x07\nb"


@pytest.fixture
def zone(monkeypatch):
    def use(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield use
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("UTC0", "2027-01-15T08:00:00+00:00"),
        ("XXX-05:30", "2027-01-15T13:30:00+05:30"),
        ("YYY+03:30", "2027-01-15T04:30:00-03:30"),
    ],
)
def test_a_time_is_iso_8601_with_its_offset(zone, name, shown):
    zone(name)
    assert text.iso(1_800_000_000) == shown
    assert datetime.fromisoformat(text.iso(1_800_000_000)).timestamp() == 1_800_000_000


def test_no_time_is_null():
    assert text.iso(None) is None
    assert text.iso(10**30) is None
    assert text.when(None) == "-"


@given(st.integers(0, 2**33))
def test_any_time_can_be_read_back(seconds):
    assert datetime.fromisoformat(text.iso(seconds)).timestamp() == seconds


def test_a_list_is_printed_with_one_item_a_line(capsys):
    text.print_json([{"a": 1}, {"b": "\x1b\udcff"}])
    out = capsys.readouterr().out
    assert out.count("\n") == 4
    assert out.isascii()
    assert json.loads(out) == [{"a": 1}, {"b": "\x1b\udcff"}]
    text.print_json([])
    assert capsys.readouterr().out == "[]\n"


def test_a_complaint_names_the_program_and_indents_what_follows(capsys):
    text.complain("gpu-x", "one\ntwo\x1b")
    assert capsys.readouterr().err == "gpu-x: error: one\n  two\\x1b\n"
