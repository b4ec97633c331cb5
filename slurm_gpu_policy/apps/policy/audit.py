"""``gpu-policy audit``: who did what to which job, by which rule, and what came of it."""

from __future__ import annotations

import time
from typing import Any

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.adapters.clock import SystemClock
from slurm_gpu_policy.errors import RequestError
from slurm_gpu_policy.terminal.table import Column, print_table
from slurm_gpu_policy.terminal.text import NOTHING, iso, print_json, say
from slurm_gpu_policy.units import parse_duration

_COLUMNS = (
    Column("TIME"),
    Column("WHO"),
    Column("JOB", right=True),
    Column("USER", rank=3),
    Column("RULE"),
    Column("DID"),
    Column("BEFORE", rank=2),
    Column("AFTER"),
    Column("OUTCOME"),
    Column("WHY", wraps=True, rank=1),
)
_DATES = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d")


@click.command("audit")
@click.option("--job", metavar="JOB", help="Only what was done to this job.")
@click.option(
    "--since", metavar="TIME", help="Only the last 2h, 7d …, or since 2030-01-31[THH:MM]."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list (see docs/cli.md).")
def command(*, job: str | None, since: str | None, as_json: bool) -> None:
    """Show the audit log, oldest first: all to operators, to others what they did or had done.

    At most the newest 10,000 entries that fit.

    `--json` prints a list of objects: `entry_id`, `time`, `actor`, `job` (as Slurm's commands take
    it), `job_id`, `user` (the owner), `verb`, `rule`, `reason`, `before`, `after`, `level` (of
    enforcement), `outcome` (`done`, `refused`, `failed`, `unknown`, `skipped`; empty while it is
    under way), `words` (Slurm's own, where it refused) and `finished`; times in ISO-8601.
    """
    policy = bootstrap.load_policy()
    asked: dict[str, Any] = {"request": "audit"}
    if job is not None:
        asked["job"] = job
    if since is not None:
        asked["since"] = _since(since, SystemClock().now())
    entries = bootstrap.ask_controller(policy, asked)["entries"]
    if as_json:
        times = ("time", "finished")
        print_json([{**one, **{name: iso(one[name]) for name in times}} for one in entries])
    elif entries:
        print_table(_COLUMNS, [_row(entry) for entry in entries])
    else:
        say("the audit log has nothing of that")


def _since(text: str, now: int) -> int:
    """Return Unix seconds of a date in the local zone, or of so long ago."""
    for form in _DATES:
        try:
            return int(time.mktime(time.strptime(text, form)))
        except (ValueError, OverflowError):
            continue
    try:
        return now - parse_duration(text)
    except RequestError as error:
        msg = f"--since {text!r}: write how long ago (2h, 7d), or a date (2030-01-31T08:00)"
        raise RequestError(msg) from error


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    words = f" ({entry['words']})" if entry["words"] else ""
    return (
        (iso(entry["time"]) or NOTHING)[:19].replace("T", " "),
        entry["actor"],
        entry["job"],
        entry["user"],
        entry["rule"],
        entry["verb"],
        entry["before"],
        entry["after"],
        (entry["outcome"] or "under way") + words,
        entry["reason"],
    )
