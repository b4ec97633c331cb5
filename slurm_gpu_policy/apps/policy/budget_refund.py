"""``gpu-policy budget refund``: a job's cost, or a part of it, given back."""

from __future__ import annotations

from typing import Any

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.apps.policy.money import (
    amount_fields,
    amount_options,
    say_written,
    write,
    writing_options,
)
from slurm_gpu_policy.errors import RequestError


@click.command("refund")
@click.argument("job")
@amount_options("give back")
@click.option("--percent", type=click.IntRange(1, 100), help="Part of its cost to give back.")
@click.option(
    "--restart",
    type=click.IntRange(0),
    metavar="N",
    help="Which run of a job that was requeued: its restart count, 0 for the first.",
)
@writing_options
def command(
    *,
    job: str,
    amount: str | None,
    gpu_hours: str | None,
    percent: int | None,
    restart: int | None,
    reason: str,
    request_id: str | None,
) -> None:
    """Give back what JOB cost: all that is left of it, or `--percent`, or an amount (rule C-411).

    It goes back to the budgets that paid for it, to each the same part; never more than was
    charged less what was given back before. What a past period's budget gets back goes on to the
    present one's. For operators, and for coordinators of the job's account or of one above it: what
    these give back goes to budgets of their accounts only, and is never for a job of their own.
    """
    policy = bootstrap.load_policy()
    asked: dict[str, Any] = {
        "request": "refund",
        "job": job,
        "percent": percent,
        "restart": restart,
        "reason": reason,
    }
    if amount is not None or gpu_hours is not None:
        if percent is not None:
            msg = "give either an amount or --percent"
            raise RequestError(msg)
        asked |= amount_fields(amount, gpu_hours)
    say_written(write(policy, asked, request_id), policy.currency)
