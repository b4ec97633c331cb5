"""``gpu-policy status``: what the controller says of itself."""

from __future__ import annotations

from typing import Any

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.terminal.text import iso, print_json, say, when
from slurm_gpu_policy.units import counted


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object (see docs/cli.md).")
def command(*, as_json: bool) -> None:
    """Say whether the controller runs, leads, and how its last tick went.

    `--json` prints an object: `actor` (its name), `leading` (boolean), `leader` (who holds the
    lease, "" for nobody), `tick_seconds` (number), `enforcement`, `policy_problems` (list of
    texts: what is wrong in the policy file since the last good one), `last_time` (ISO-8601 of the
    last tick, or null), `last_duration_seconds`, `last_actions`, `pending_jobs`,
    `unfinished_entries` (numbers or null), `last_errors` (list of texts), and `ledger`: null where
    no books are kept, or an object: `up_to_date` (whether the last tick could keep them), `time`
    and `accounting_until` (ISO-8601 or null: when they were brought up to date last, and how far
    Slurm's accounting is in them), `entries`, `uncovered_jobs` (numbers or null: in all, and jobs
    that wait for money) and `problems` (list of texts).
    """
    answer = bootstrap.ask_controller(bootstrap.load_policy(), {"request": "status"})
    if as_json:
        print_json(
            {
                **answer,
                "last_time": iso(answer["last_time"]),
                "ledger": _in_json(answer.get("ledger")),
            }
        )
        return
    for line in status_lines(answer):
        say(line)


def status_lines(answer: dict[str, Any]) -> list[str]:
    """Return the answer in plain words."""
    role = "leads" if answer["leading"] else f"stands by; {answer['leader'] or 'nobody'} leads"
    lines = [f"{answer['actor']} {role} (enforcement: {answer['enforcement']})"]
    if answer["last_time"] is not None:
        errors = "; ".join(answer["last_errors"])
        what = errors or counted(answer["last_actions"], "action")
        took = answer["last_duration_seconds"]
        lines.append(f"last tick {when(answer['last_time'])}, {took} s: {what}")
    if answer["unfinished_entries"]:
        left = counted(answer["unfinished_entries"], "action")
        lines.append(f"{left} begun and not finished: the next tick sees to it")
    if answer.get("ledger"):
        lines += _books_lines(answer["ledger"])
    if answer["policy_problems"]:
        lines.append("the policy file is wrong, and the last good one is in force:")
        lines += [f"  {problem}" for problem in answer["policy_problems"]]
    return lines


def _books_lines(books: dict[str, Any]) -> list[str]:
    if books["up_to_date"]:
        until = books["accounting_until"]
        read = "the accounting is not read yet"
        if until is not None:
            read = f"the accounting is read until {when(until)}"
        lines = [f"the books: {books['entries']} entries; {read}"]
        if books["uncovered_jobs"]:
            wait = "waits" if books["uncovered_jobs"] == 1 else "wait"
            lines.append(f"{counted(books['uncovered_jobs'], 'job')} {wait} for money")
    else:
        lines = ["the books are not kept at the moment; what is missing is made good later:"]
    return lines + [f"  {problem}" for problem in books["problems"]]


def _in_json(books: dict[str, Any] | None) -> dict[str, Any] | None:
    if books is None:
        return None
    times = {name: iso(books[name]) for name in ("time", "accounting_until")}
    return {**books, **times}
