"""The controller's log: whole lines, whatever is in them."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace

import pytest

from slurm_gpu_policy.adapters.logs import LogObserver, make_logger
from slurm_gpu_policy.model.action import Action, AuditEntry
from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.ledger import LedgerState
from slurm_gpu_policy.model.notice import Delivery, Notice
from slurm_gpu_policy.model.tick import LedgerReport, TickReport

NOW = 1_800_000_000
HOSTILE = 'job\n{"level": "error"}\r\x1b[2J\u2028\u202e"quoted"\x00\udc80 é'
REPORT = TickReport(time=NOW, duration_seconds=1.23456, leading=True)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def output():
    return io.StringIO()


@pytest.fixture
def observer(output):
    return LogObserver(make_logger(output))


def lines(output):
    return [json.loads(line) for line in output.getvalue().splitlines()]


def make_entry(outcome="done", **fields):
    defaults = {"reason": "because", "before": "site 0", "after": "site 1"}
    action = Action("site_factor", JobId(7), "7", "P-601", **{**defaults, **fields})
    return AuditEntry(12, NOW, "gpu-policyd@head", action, "enforce", outcome, "Slurm's words")


def test_a_line_is_json_with_time_level_and_event_first(output):
    make_logger(output).info("started", version="0.1", count=3)
    (line,) = lines(output)
    assert list(line) == ["time", "level", "event", "version", "count"]
    assert line["time"].endswith("Z")
    assert (line["level"], line["event"], line["count"]) == ("info", "started", 3)


def test_other_peoples_text_stays_in_its_line(output):
    make_logger(output).info(HOSTILE, words=HOSTILE)
    text = output.getvalue()
    assert text.count("\n") == 1
    assert text.isascii()
    (line,) = lines(output)
    assert line["event"] == line["words"] == HOSTILE


def test_other_peoples_text_does_nothing_to_a_terminal():
    output = Terminal()
    make_logger(output).warning(HOSTILE, words=HOSTILE)
    text = output.getvalue()
    assert text.count("\n") == 1
    assert text.strip().isprintable()
    assert "warning" in text


def test_a_traceback_on_a_terminal_is_indented_below_its_line():
    output = Terminal()
    try:
        int(HOSTILE)
    except ValueError as error:
        make_logger(output).error("defect", exc_info=error)
    first, *rest = output.getvalue().splitlines()
    assert first.endswith("defect")
    assert rest[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") and line.isprintable() for line in rest)


def test_a_traceback_in_json_is_one_field(output):
    try:
        int(HOSTILE)
    except ValueError as error:
        make_logger(output).error("defect", exc_info=error)
    (line,) = lines(output)
    assert "ValueError" in line["exception"]


def test_what_is_no_json_is_written_as_python_shows_it(output):
    make_logger(output).info("odd", value={1, 2}, path=object)
    (line,) = lines(output)
    assert line["value"] == "{1, 2}"


@pytest.mark.parametrize(("level", "count"), [("debug", 3), ("info", 2), ("error", 1)])
def test_the_level_is_the_least_that_is_written(output, level, count):
    logger = make_logger(output, level=level)
    logger.debug("a")
    logger.info("b")
    logger.error("c")
    assert len(lines(output)) == count


class Broken(io.StringIO):
    """A pipe that nobody reads any more."""

    def write(self, text):
        raise BrokenPipeError


def test_a_stream_that_cannot_be_written_is_no_reason_to_end():
    make_logger(Broken()).error("nobody reads this")
    closed = io.StringIO()
    logger = make_logger(closed)
    closed.close()
    logger.error("nobody reads this")


@pytest.mark.parametrize("journal", [True, False])
def test_journald_is_told_the_priority(tmp_path, monkeypatch, journal):
    with (tmp_path / "log").open("w+") as stream:
        found = os.fstat(stream.fileno())
        if journal:
            monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        else:
            monkeypatch.setenv("JOURNAL_STREAM", "1:1")  # another's, passed on
        logger = make_logger(stream)
        logger.info("a")
        logger.warning("b")
        logger.error("c")
        stream.seek(0)
        starts = [line.partition("{")[0] for line in stream]
    assert starts == (["<6>", "<4>", "<3>"] if journal else ["", "", ""])


# --- as an observer ------------------------------------------------------------------------------


def test_each_action_is_a_line_with_all_that_the_audit_log_has(output, observer):
    observer.ticked(replace(REPORT, actions=(make_entry(user="u1"),)))
    action, leads, tick = lines(output)
    assert action["event"] == "action"
    assert (action["rule"], action["verb"], action["job_id"]) == ("P-601", "site_factor", 7)
    assert (action["before"], action["after"], action["user"]) == ("site 0", "site 1", "u1")
    assert (action["outcome"], action["words"]) == ("done", "Slurm's words")
    assert (action["entry_id"], action["actor"]) == (12, "gpu-policyd@head")
    assert leads["event"] == "leads"
    assert (tick["actions"], tick["duration_seconds"]) == (1, 1.235)


@pytest.mark.parametrize(
    ("outcome", "level"),
    [("done", "info"), ("skipped", "info"), ("refused", "warning"), ("failed", "warning")],
)
def test_what_did_not_go_well_is_a_warning(output, observer, outcome, level):
    observer.ticked(replace(REPORT, actions=(make_entry(outcome),)))
    assert lines(output)[0]["level"] == level


def test_a_failed_tick_says_why(output, observer):
    observer.ticked(
        replace(REPORT, errors=("SlurmUnavailable",), messages=(f"no answer: {HOSTILE}",))
    )
    error = lines(output)[0]
    assert (error["level"], error["kind"]) == ("error", "SlurmUnavailable")
    assert error["message"] == f"no answer: {HOSTILE}"


def test_who_leads_is_said_when_it_changes(output, observer):
    for leading in (False, False, True, True, False):
        observer.ticked(replace(REPORT, leading=leading))
    assert [line["event"] for line in lines(output)] == ["stands by", "leads", "stands by"]


def test_a_policy_file_that_is_wrong_is_an_error_with_its_problems(output, observer):
    observer.policy_loaded(NOW, ())
    observer.policy_loaded(NOW, ("line 3: wrong",))
    good, bad = lines(output)
    assert (good["level"], bad["level"]) == ("info", "error")
    assert bad["problems"] == ["line 3: wrong"]


@pytest.mark.parametrize(
    ("fate", "level"),
    [("sent", "info"), ("retried", "warning"), ("refused", "error"), ("given_up", "error")],
)
def test_what_became_of_a_notice_is_a_line(output, observer, fate, level):
    notice = Notice(("u1",), HOSTILE, "t", "B-010", "info", "k", NOW)
    observer.delivered(Delivery("mail", fate, notice, "u1@example.org", "why"))
    (line,) = lines(output)
    assert (line["level"], line["fate"], line["way"]) == (level, fate, "mail")
    assert (line["address"], line["words"], line["rule"]) == ("u1@example.org", "why", "B-010")
    assert line["subject"] == HOSTILE


def test_the_books_are_part_of_a_tick_and_what_is_odd_is_written_once(observer, output):
    state = LedgerState(NOW, uncovered={7: "no money"}, problems=("the accounting is behind",))
    report = replace(REPORT, ledger=LedgerReport(state, 12, NOW - 40, ("limits are not kept",)))
    observer.ticked(report)
    observer.ticked(replace(report, actions=()))
    found = lines(output)
    odd = [line["message"] for line in found if line["event"] == "the books"]
    assert odd == ["the accounting is behind", "limits are not kept"]
    observer.ticked(replace(report, errors=("SlurmTimeout",), messages=("late",)))
    tick = lines(output)[-1]
    assert (tick["ledger_entries"], tick["accounting_lag_seconds"]) == (12, 40)
    assert tick["uncovered_jobs"] == 1
