"""``gpu-policy budget export``: the entries themselves."""

from __future__ import annotations

import json
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.apps.policy.dates import date_time
from slurm_gpu_policy.apps.policy.money import counted_in, exact
from slurm_gpu_policy.apps.policy.tables import CsvTable
from slurm_gpu_policy.terminal.text import iso

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from slurm_gpu_policy.config.schema import Policy

_COLUMNS: Final = (
    "entry_id", "time", "kind", "budget", "fund_account", "fund_user", "fund_start", "from", "to",
    "amount", "currency", "gpu_seconds", "rule", "actor", "reason", "batch", "account", "user",
    "job_id", "submit_time", "restart", "sequence",
)  # fmt: skip
_TEXTS: Final = (
    "budget", "fund_account", "fund_user", "actor", "reason", "batch", "account", "user", "currency"
)  # fmt: skip


@click.command("export")
@click.option("--account", metavar="ACCOUNT", help="Only of this account and those below it.")
@click.option("--since", metavar="DATE", help="Only what was written from this date on.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "json"]),
    default="csv",
    help="How to write them: csv (if left out) or json.",
)
@click.option(
    "--output",
    type=click.File("w", encoding="utf-8", lazy=True, atomic=True),
    default="-",
    metavar="FILE",
    help="Where to write them; standard output if left out.",
)
def command(*, account: str | None, since: str | None, form: str, output: TextIO) -> None:
    """Write out all entries of the books, oldest first: operators, of an account who manages it.

    Each has `entry_id`, `time` (when it was written), `kind`, its fund (`budget`, `fund_account`,
    `fund_user`, `fund_start`; all empty for the cluster's own), `from` and `to` (buckets: site,
    available, reserved, spent), `amount` in `currency` (a text; whole GPU-seconds where that is
    "GPU-seconds"), `gpu_seconds` (of a charge), `rule`, `actor`, `reason`, `batch` (the same on
    what belongs together), and of a job's entries `account`, `user`, `job_id`, `submit_time`,
    `restart` and `sequence`. JSON is a list, one entry a line. The entries are read and written
    some thousands at a time.
    """
    policy = bootstrap.load_policy()
    asked: dict[str, Any] = {"request": "entries"}
    if account is not None:
        asked["account"] = account
    if since is not None:
        asked["since"] = date_time(since, policy, "--since")
    found = entries(policy, asked)
    first = list(islice(found, 1))  # before anything is written: it may be refused
    if form == "csv":
        table = CsvTable(output, _COLUMNS, _TEXTS)
        for entry in chain(first, found):
            table.add(entry[column] for column in _COLUMNS)
        return
    between = "[\n"
    for entry in chain(first, found):
        output.write(f"{between}{json.dumps(entry)}")
        between = ",\n"
    output.write("[]\n" if between == "[\n" else "\n]\n")


def entries(policy: Policy, asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the entries, a page of them at a time."""
    after: int | None = 0
    while after is not None:
        answer = bootstrap.ask_ledger(policy, {**asked, "after": after})
        for entry in answer["entries"]:
            unit = entry.pop("unit")
            entry["amount"] = exact(entry["amount"], unit)
            entry["currency"] = counted_in(unit, policy.currency)
            for name in ("time", "fund_start", "submit_time"):
                entry[name] = iso(entry[name])
            yield entry
        after = answer["next"]
