"""``gpu-policy budget transfer``: money from one budget to another."""

from __future__ import annotations

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.apps.policy.money import (
    amount_fields,
    amount_options,
    say_written,
    write,
    writing_options,
)


@click.command("transfer")
@click.option("--from", "source", required=True, metavar="ACCOUNT", help="Account that gives.")
@click.option("--from-user", metavar="USER", help="Out of this user's own budget in it.")
@click.option("--from-budget", metavar="NAME", help="Which budget, where there are several.")
@click.option("--to", "target", required=True, metavar="ACCOUNT", help="Account that gets it.")
@click.option("--to-user", metavar="USER", help="Into this user's own budget in it.")
@click.option("--to-budget", metavar="NAME", help="Which budget, where there are several.")
@amount_options("move")
@click.option("--force", is_flag=True, help="Move also what is spent or set aside (operators).")
@writing_options
def command(
    *,
    source: str,
    from_user: str | None,
    from_budget: str | None,
    target: str,
    to_user: str | None,
    to_budget: str | None,
    amount: str | None,
    gpu_hours: str | None,
    force: bool,
    reason: str,
    request_id: str | None,
) -> None:
    """Move an amount from one account's budget to another's.

    For operators, and for coordinators of both accounts, or of accounts above them.
    """
    policy = bootstrap.load_policy()
    asked = {
        "request": "transfer",
        "from": {"account": source, "user": from_user, "budget": from_budget},
        "to": {"account": target, "user": to_user, "budget": to_budget},
        "force": force,
        "reason": reason,
        **amount_fields(amount, gpu_hours),
    }
    say_written(write(policy, asked, request_id), policy.currency)
