"""``gpu-policy ledger verify``: whether the books add up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.terminal.border import DONE, SLURM_REFUSED
from slurm_gpu_policy.terminal.text import print_json, say

if TYPE_CHECKING:
    from collections.abc import Mapping


@click.command("verify")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object (see docs/cli.md).")
def command(*, as_json: bool) -> int:
    """Add all entries up anew and compare them with the balances; exit code 1 if they differ.

    Sums of entries are the balances, no reservation is negative, each ended job is charged once,
    no entry is missing (docs/ledger.md). Operators only.

    `--json` prints an object: `entries` (how many there are), `checked` (funds), `differences` (a
    list of texts; empty if all is right).
    """
    found = bootstrap.ask_ledger(bootstrap.load_policy(), {"request": "verify"})
    return tell(found, "funds", as_json=as_json)


def tell(found: Mapping[str, Any], what: str, *, as_json: bool) -> int:
    """Print what was checked and what differs, and return the exit code."""
    if as_json:
        print_json(dict(found))
    else:
        for difference in found["differences"]:
            say(str(difference))
        said = f"{found['entries']} entries, {found['checked']} {what} checked"
        differ = len(found["differences"])
        say(f"{said}: " + (f"{differ} differences" if differ else "all agree"))
    return SLURM_REFUSED if found["differences"] else DONE
