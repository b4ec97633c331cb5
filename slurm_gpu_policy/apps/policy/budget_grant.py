"""``gpu-policy budget grant``: more money, or some of it back."""

from __future__ import annotations

from typing import Any

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.apps.policy.dates import date_time
from slurm_gpu_policy.apps.policy.money import (
    amount_fields,
    amount_options,
    say_written,
    write,
    writing_options,
)


@click.command("grant")
@click.argument("account")
@amount_options("grant (less than 0: to take back)")
@click.option("--user", metavar="USER", help="Only for this user of the account.")
@click.option("--budget", metavar="NAME", help="Which budget, where there are several.")
@click.option("--start", metavar="DATE", help="A budget of its own, from then on.")
@click.option("--end", metavar="DATE", help="A budget of its own, until then.")
@click.option("--force", is_flag=True, help="Take back also what is spent or set aside.")
@writing_options
def command(
    *,
    account: str,
    amount: str | None,
    gpu_hours: str | None,
    user: str | None,
    budget: str | None,
    start: str | None,
    end: str | None,
    force: bool,
    reason: str,
    request_id: str | None,
) -> None:
    """Give ACCOUNT's budget an amount, or take one back with an amount below 0.

    Without a budget at present the account gets one, for good or until `--end`. A grant to a
    budget of the policy file is for its present period. For operators, and for
    coordinators below an account of theirs that has a budget itself.
    """
    policy = bootstrap.load_policy()
    asked: dict[str, Any] = {
        "request": "grant",
        "account": account,
        "user": user,
        "budget": budget,
        "start": date_time(start, policy, "--start"),
        "end": date_time(end, policy, "--end"),
        "force": force,
        "reason": reason,
        **amount_fields(amount, gpu_hours),
    }
    say_written(write(policy, asked, request_id), policy.currency)
