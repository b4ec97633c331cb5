"""One tick, or what one would do, printed."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.errors import RecordsUnavailable
from slurm_gpu_policy.model.tick import TickReport
from slurm_gpu_policy.policy.rules import level_of
from slurm_gpu_policy.terminal.border import DONE, SLURM_REFUSED, UNREACHABLE
from slurm_gpu_policy.terminal.table import Column, print_table
from slurm_gpu_policy.terminal.text import complain, iso, note, print_json, say
from slurm_gpu_policy.units import counted

if TYPE_CHECKING:
    from slurm_gpu_policy.model.action import Action
    from slurm_gpu_policy.services.controller import Controller
    from slurm_gpu_policy.services.ports import Clock

_PROGRAM = "gpu-policyd"
_AWAY = frozenset({"SlurmUnavailable", "SlurmTimeout", "SlurmAbsent", "RecordsUnavailable"})
_COLUMNS = (
    Column("JOB", right=True),
    Column("USER"),
    Column("RULE"),
    Column("LEVEL", rank=3),
    Column("DOES", rank=2),
    Column("BEFORE", rank=1),
    Column("AFTER"),
    Column("OUTCOME"),
    Column("WHY", wraps=True),
)

Row = dict[str, Any]


def preview(controller: Controller, *, as_json: bool) -> int:
    """Print what a tick would do now; needs neither the database nor the lead."""
    snapshot, wanted = controller.preview()
    acted = [action for order in wanted.orders for action in order.actions]
    bound = controller.policy.controller.updates_per_tick
    late = {action for order in wanted.orders[bound:] for action in order.actions}
    rows = [
        _row(
            action,
            level_of(action.rule, controller.policy),
            "wanted",
            "in a later tick: updates_per_tick" if action in late else "",
        )
        for action in acted
    ]
    rows += [_row(action, level, "skipped", "") for action, level in wanted.withheld]
    rows += [_row(action, "enforce", "skipped", words) for action, words in wanted.unable]
    if as_json:
        head: Row = {
            "time": iso(snapshot.time),
            "leading": False,
            "dry_run": True,
            "duration_seconds": None,
            "slurm_calls": None,
            "pending_jobs": sum(job.state.is_pending for job in snapshot.jobs),
            "errors": [],
        }
        print_json({**head, "actions": rows})
    else:
        _show(rows)
        say(f"{counted(len(acted), 'change')} to make; nothing was changed (--dry-run)")
    return DONE


def tick(controller: Controller, clock: Clock, *, as_json: bool) -> int:
    """Do one tick, if nobody else leads, and print what came of it."""
    if not _lead(controller, clock):
        note(_PROGRAM, "another controller leads; nothing was done")
        if as_json:
            print_json({**_head(TickReport(clock.now(), 0.0, leading=False)), "actions": []})
        return DONE
    try:
        report = controller.run_tick()
    finally:
        with suppress(RecordsUnavailable):
            controller.resign()
    rows = [_row(entry.action, entry.level, entry.outcome, entry.words) for entry in report.actions]
    if as_json:
        print_json({**_head(report), "actions": rows})
    else:
        _show(rows)
        done = sum(entry.outcome == "done" for entry in report.actions)
        say(
            f"{counted(done, 'action')} done, {len(rows) - done} not, "
            f"in {report.duration_seconds:.1f} s with "
            f"{counted(report.slurm_calls, 'call')} to Slurm"
        )
    for message in report.messages:
        complain(_PROGRAM, message)
    if not report.errors:
        return DONE
    return UNREACHABLE if _AWAY & set(report.errors) else SLURM_REFUSED


def _lead(controller: Controller, clock: Clock) -> bool:
    """Return whether we lead; a lease that its holder left behind is waited for until it ends."""
    deadline = clock.monotonic() + 2 * controller.lease_seconds
    seen: int | None = None
    while not controller.keep_lead():
        renewals = controller.renewals
        if (seen is not None and renewals != seen) or clock.monotonic() > deadline:
            return False
        if seen is None:
            note(_PROGRAM, "somebody has the lease; waits until they renew it or it has run out")
        seen = renewals
        clock.sleep(controller.heartbeat_seconds)
    return True


def _head(report: TickReport) -> Row:
    return {
        "time": iso(report.time),
        "leading": report.leading,
        "dry_run": False,
        "duration_seconds": round(report.duration_seconds, 3),
        "slurm_calls": report.slurm_calls,
        "pending_jobs": report.pending_jobs,
        "errors": list(report.messages),
    }


def _row(action: Action, level: str, outcome: str, words: str) -> Row:
    return {
        "job_id": action.job_id,
        "display_id": action.display_id,
        "user": action.user,
        "rule": action.rule,
        "level": level,
        "verb": action.verb,
        "before": action.before,
        "after": action.after,
        "reason": action.reason,
        "outcome": outcome,
        "words": words,
    }


def _show(rows: list[Row]) -> None:
    if rows:
        print_table(
            _COLUMNS,
            [
                (
                    row["display_id"], row["user"], row["rule"], row["level"], row["verb"],
                    row["before"], row["after"], row["outcome"], row["words"] or row["reason"],
                )
                for row in rows
            ],
        )  # fmt: skip
