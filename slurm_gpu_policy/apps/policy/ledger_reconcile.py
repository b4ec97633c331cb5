"""``gpu-policy ledger reconcile``: whether the books agree with Slurm's accounting."""

from __future__ import annotations

from typing import Any

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.apps.policy.dates import date_time
from slurm_gpu_policy.apps.policy.ledger_verify import tell


@click.command("reconcile")
@click.option("--since", metavar="DATE", help="Runs from this date on; all if left out.")
@click.option(
    "--repair", is_flag=True, help="Where something differs, let it be read and charged again."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object (see docs/cli.md).")
def command(*, since: str | None, repair: bool, as_json: bool) -> int:
    """Walk Slurm's accounting beside the books; exit code 1 if anything differs.

    Each run that has ended is to be charged once, for the seconds and GPUs that `sacct` has. With
    `--repair` the next ticks read the accounting from that date once more, and correct what
    differs (rule B-011); look again after them. Operators only.

    `--json` prints an object: `entries` (in the books), `checked` (runs that were compared),
    `differences` (a list, one for each that differs; empty if all agree).
    """
    policy = bootstrap.load_policy()
    asked: dict[str, Any] = {"request": "reconcile", "repair": repair}
    if since is not None:
        asked["since"] = date_time(since, policy, "--since")
    return tell(bootstrap.ask_ledger(policy, asked), "runs", as_json=as_json)
