"""The controller's own log: one line an event, JSON for journald and files, text on a terminal.

Other people's text (names of jobs, Slurm's words) is escaped in both, so that nothing in it can
begin a line or reach a terminal. Needs the extra ``controller``.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TextIO

import structlog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_gpu_policy.model.action import AuditEntry
    from slurm_gpu_policy.model.notice import Delivery
    from slurm_gpu_policy.model.tick import TickReport

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""Of syslog(3); journald takes them from the beginning of a line (sd-daemon(3))."""


def make_logger(stream: TextIO | None = None, *, level: str = "info") -> Any:
    """Return a structlog logger that writes to *stream*, standard error if left out.

    *level* is the least that is written: ``debug``, ``info``, ``warning``, ``error``. Two programs
    in one process do not share it: nothing is configured globally.
    """
    output = sys.stderr if stream is None else stream
    is_terminal = output.isatty()
    return structlog.wrap_logger(
        _Lines(output, prefixed=not is_terminal and _is_journal(output)),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not is_terminal),
            structlog.processors.format_exc_info,
            _as_text if is_terminal else _as_json,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
    )


class LogObserver:
    """Implements :class:`slurm_gpu_policy.services.ports.ObserverPort`: writes what happens."""

    def __init__(self, logger: Any) -> None:
        self._log = logger
        self._led: bool | None = None
        self._odd: tuple[str, ...] = ()

    def ticked(self, report: TickReport) -> None:
        """Write each action, each error, a change of who leads, and the tick."""
        for entry in report.actions:
            self._acted(entry)
        for kind, message in zip(report.errors, report.messages, strict=False):
            self._log.error("tick failed", kind=kind, message=message)
        if report.leading != self._led:
            self._log.info("leads" if report.leading else "stands by")
            self._led = report.leading
        self._told_of_books(report)
        # A tick that did nothing is a debug line: sixty an hour say nothing.
        say = self._log.info if report.actions or report.errors else self._log.debug
        say(
            "tick",
            leading=report.leading,
            dry_run=report.dry_run,
            duration_seconds=round(report.duration_seconds, 3),
            slurm_calls=report.slurm_calls,
            actions=len(report.actions),
            errors=list(report.errors),
            pending_jobs=report.pending_jobs,
            unfinished_entries=report.unfinished_entries,
            **_books(report),
        )

    def _told_of_books(self, report: TickReport) -> None:
        """Write once what is odd about the books, until something else is."""
        if report.ledger is not None:
            odd = (*report.ledger.state.problems, *report.ledger.remarks)
            for text in odd:
                if text not in self._odd:
                    self._log.warning("the books", message=text)
            self._odd = odd

    def policy_loaded(self, now: int, problems: Sequence[str]) -> None:
        """Write that the policy file was read, or what is wrong in it."""
        if problems:
            self._log.error(
                "the policy file is wrong; the last good one stays in force",
                problems=list(problems),
            )
        else:
            self._log.info("policy file read", at=now)

    def delivered(self, delivery: Delivery) -> None:
        """Write what became of a notice."""
        is_well = delivery.fate == "sent"
        lost = delivery.fate in {"refused", "given_up", "dropped"}
        (self._log.info if is_well else self._log.error if lost else self._log.warning)(
            "notice sent" if is_well else "notice not sent",
            way=delivery.way,
            address=delivery.address,
            fate=delivery.fate,
            words=delivery.words,
            rule=delivery.notice.rule,
            severity=delivery.notice.severity,
            to=list(delivery.notice.to),
            subject=delivery.notice.subject,
        )

    def _acted(self, entry: AuditEntry) -> None:
        action = entry.action
        is_well = entry.outcome in {"done", "skipped"}
        (self._log.info if is_well else self._log.warning)(
            "action",
            entry_id=entry.entry_id,
            verb=action.verb,
            job_id=action.job_id,
            job=action.display_id,
            user=action.user,
            rule=action.rule,
            level=entry.level,
            before=action.before,
            after=action.after,
            reason=action.reason,
            actor=entry.actor,
            outcome=entry.outcome,
            words=entry.words,
        )


class _Lines:
    """Writes lines, whole and at once; a stream that cannot be written is no reason to end."""

    def __init__(self, stream: TextIO, *, prefixed: bool) -> None:
        self._stream = stream
        self._prefixed = prefixed

    def msg(self, line: str, level: str) -> None:
        prefix = f"<{_PRIORITIES.get(level, 5)}>" if self._prefixed else ""
        with suppress(OSError, ValueError):
            self._stream.write(f"{prefix}{line}\n")
            self._stream.flush()

    debug = info = warning = error = critical = exception = msg


def _as_json(_logger: object, _method: str, event: Any) -> tuple[tuple[str], dict[str, str]]:
    level = str(event["level"])
    ordered = {"time": event.pop("timestamp"), "level": level, "event": event.pop("event"), **event}
    return (json.dumps(ordered, default=repr),), {"level": level}


def _as_text(_logger: object, _method: str, event: Any) -> tuple[tuple[str], dict[str, str]]:
    level = str(event.pop("level"))
    traceback = event.pop("exception", "")
    head = f"{event.pop('timestamp')[:19]} {level:8}{_plain(event.pop('event'))}"
    words = [f"{key}={json.dumps(value, default=repr)}" for key, value in event.items()]
    lines = [" ".join([head, *words]), *(f"    {_plain(line)}" for line in traceback.splitlines())]
    return ("\n".join(lines),), {"level": level}


def _plain(text: object) -> str:
    return json.dumps(str(text))[1:-1].replace('\\"', '"')


def _is_journal(stream: TextIO) -> bool:
    """Whether journald reads the stream (systemd.exec(5), $JOURNAL_STREAM)."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return os.environ.get("JOURNAL_STREAM", "") == f"{found.st_dev}:{found.st_ino}"


def _books(report: TickReport) -> dict[str, int | None]:
    if report.ledger is None:
        return {}
    return {
        "ledger_entries": report.ledger.entries,
        "accounting_lag_seconds": report.ledger.accounting_lag_seconds,
        "uncovered_jobs": len(report.ledger.state.uncovered),
    }
