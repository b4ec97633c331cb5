"""``gpu-policy approvals``: what waits for somebody's approval."""

from __future__ import annotations

from typing import Any

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.terminal.table import Column, print_table
from slurm_gpu_policy.terminal.text import NOTHING, iso, print_json, say, when
from slurm_gpu_policy.units import format_money

_COLUMNS = (
    Column("JOB", right=True),
    Column("USER"),
    Column("ACCOUNT", rank=2),
    Column("NAME", wraps=True, rank=3),
    Column("ASKS FOR"),
    Column("COST", right=True, rank=1),
    Column("STATE"),
    Column("VOTES", wraps=True),
    Column("EXPIRES", rank=1),
)
_TIMES = ("submit_time", "expires")


@click.command("approvals")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list (see docs/cli.md).")
def command(*, as_json: bool) -> None:
    """Show the jobs that wait for an approval: your own, those you may approve, to operators all.

    `--json` prints a list of objects: `job_id` (of an array its own), `user`, `account`, `name`,
    `gpus` (of one array task), `array_tasks`, `time_limit_seconds` (null: none), `asks_for` (in
    words), `cost` (text in `currency`, null without a price) and `currency`, `reason`, `state`
    (`pending`, `denied`, `expired`), `is_held`, `submit_time`, `expires` (ISO-8601, or null),
    `approvals_needed`, `votes` (a list of `approver`, `verdict`, `reason`, `time`; only those that
    count) and `may_vote` (whether you may).
    """
    policy = bootstrap.load_policy()
    waiting = bootstrap.ask_controller(policy, {"request": "approvals"})["approvals"]
    if as_json:
        print_json([_shown(job, policy.currency) for job in waiting])
    elif waiting:
        print_table(_COLUMNS, [_row(job, policy.currency) for job in waiting])
    else:
        say("no job of yours waits for an approval, and none for you")


def _shown(job: dict[str, Any], currency: str) -> dict[str, Any]:
    cost = job.pop("cost_micros")
    votes = [{**vote, "time": iso(vote["time"])} for vote in job["votes"]]
    times = {name: iso(job[name]) for name in _TIMES}
    money = {"cost": None if cost is None else format_money(cost), "currency": currency}
    return {**job, **money, **times, "votes": votes}


def _row(job: dict[str, Any], currency: str) -> tuple[str, ...]:
    cost = job["cost_micros"]
    approvals = sum(vote["verdict"] == "approve" for vote in job["votes"])
    votes = [f"{vote['approver']}: {vote['verdict']} ({vote['reason']})" for vote in job["votes"]]
    state = job["state"] if job["is_held"] else f"{job['state']}, not held"
    return (
        str(job["job_id"]),
        job["user"],
        job["account"],
        job["name"],
        job["asks_for"],
        NOTHING if cost is None else f"{format_money(cost)} {currency}",
        state,
        "; ".join([f"{approvals} of {job['approvals_needed']}", *votes]),
        when(job["expires"]),
    )
