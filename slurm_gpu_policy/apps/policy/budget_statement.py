"""``gpu-policy budget statement``: what a month cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.apps.policy.budget import budget_json
from slurm_gpu_policy.apps.policy.dates import date_time, zone_of, zoned
from slurm_gpu_policy.errors import RequestError
from slurm_gpu_policy.policy.ledger.affording import amount_words
from slurm_gpu_policy.terminal.table import Column, plain_table
from slurm_gpu_policy.terminal.text import NOTHING, safe
from slurm_gpu_policy.units import counted, format_money

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SUMS: Final = ("charged", "refunded", "cost")
_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "user": ("account", "user"),
    "gpu-type": ("gpu_type",),
    "job": (
        "job_id", "restart", "account", "user", "partition", "qos", "gpu_type", "gpus",
        "submit_time", "start_time", "end_time", "state",
    ),
}  # fmt: skip
_SHOWN: Final[tuple[str, ...]] = (
    "job_id", "account", "user", "gpu_type", "gpus", "start_time", "state",
)  # fmt: skip
_PARTS: Final = {"user": "users", "gpu-type": "gpu_types", "job": "jobs"}
_TEXTS: Final = ("account", "user", "partition", "qos", "gpu_type", "state")
_TIMES: Final = ("submit_time", "start_time", "end_time")


@click.command("statement")
@click.option("--month", metavar="MONTH", help="What ran in a month: 2030-01; the present one.")
@click.option("--from", "start", metavar="DATE", help="What was booked from this date on.")
@click.option("--to", "end", metavar="DATE", help="What was booked before this date.")
@click.option("--account", metavar="ACCOUNT", help="This account and those below it.")
@click.option("--user", metavar="USER", help="Only this user.")
@click.option("--all", "everything", is_flag=True, help="All accounts (operators).")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "html"]),
    default="table",
    help="How to write it: table (if left out), csv, json or html.",
)
@click.option(
    "--by",
    type=click.Choice(["user", "gpu-type", "job"]),
    help="What the lines of csv are (job if left out); of the table, only these.",
)
@click.option(
    "--output",
    type=click.File("w", encoding="utf-8", lazy=True, atomic=True),
    default="-",
    metavar="FILE",
    help="Where to write it; standard output if left out.",
)
def command(
    *,
    month: str | None,
    start: str | None,
    end: str | None,
    account: str | None,
    user: str | None,
    everything: bool,
    form: str,
    by: str | None,
    output: TextIO,
) -> None:
    """Show what was spent: of yours, of an account, or of all (operators).

    With `--month` it is what ran in that month (the present one if left out), in the site's time
    zone, whenever it was booked: a run across its end is in both months, each with its part. With
    `--from` and `--to` it is what was booked in that time, so that statements of consecutive times
    add up. Who spends from an account and does not manage it sees its sum, and their own lines.

    `--format json` prints an object: `account`, `user` ("" for all), `currency`, `month` (or
    null), `start` and `end` (ISO-8601), `timezone`, `total`, `users`, `gpu_types`, `jobs` (lists),
    `jobs_left_out` (beyond the 50,000 dearest) and `budgets` (as `gpu-policy budget --json`).
    `total` and each line have `runs`, `gpu_seconds`, `charged`, `refunded` and `cost` (charged less
    refunded), texts in `currency`; lines have besides `account` and `user`, or `gpu_type` ("" for
    none, `GPU` for one without a name), or of a job `job_id`, `submit_time`, `restart`, `account`,
    `user`, `partition`, `qos`, `gpu_type`, `gpus`, `start_time`, `end_time` and `state`, and no
    `runs`. `csv` has the same columns.
    """
    if (start is None) != (end is None) or (month is not None and start is not None):
        msg = "give --month, or --from and --to, or none of them for this month"
        raise RequestError(msg)
    policy = bootstrap.load_policy()
    asked: dict[str, Any] = {"request": "statement", "all": everything}
    if month is not None:
        asked["month"] = month
    if start is not None:
        asked["start"] = date_time(start, policy, "--from")
        asked["end"] = date_time(end, policy, "--to")
    if account is not None:
        asked["account"] = account
    if user is not None:
        asked["user"] = user
    found = shown(bootstrap.ask_ledger(policy, asked), zone_of(policy))
    if form == "json":
        import json  # noqa: PLC0415

        output.write(json.dumps(found, indent=2) + "\n")
    elif form == "csv":
        _write_csv(output, found, by or "job")
    elif form == "html":
        from slurm_gpu_policy.adapters.rendering.statement import statement_html  # noqa: PLC0415

        output.write(statement_html(found, safe))
    else:
        output.write(text(found, by))


def shown(answer: Mapping[str, Any], zone: str) -> dict[str, Any]:
    """Return the documented JSON object of a statement; scripts rely on it."""
    return {
        **answer,
        "start": zoned(answer["start"], zone),
        "end": zoned(answer["end"], zone),
        "total": _line(answer["total"]),
        "users": [_line(one) for one in answer["users"]],
        "gpu_types": [_line(one) for one in answer["gpu_types"]],
        "jobs": [
            {**_line(one), **{name: zoned(one[name], zone) for name in _TIMES}}
            for one in answer["jobs"]
        ],
        "budgets": [budget_json(one, answer["currency"], zone) for one in answer["budgets"]],
    }


def _line(one: Mapping[str, Any]) -> dict[str, Any]:
    return {**one, **{name: format_money(int(one[name])) for name in _SUMS}}


def _write_csv(output: TextIO, found: Mapping[str, Any], by: str) -> None:
    from slurm_gpu_policy.apps.policy.tables import CsvTable  # noqa: PLC0415

    titles = [*_KEYS[by], *(() if by == "job" else ("runs",)), "gpu_seconds", *_SUMS, "currency"]
    table = CsvTable(output, titles, _TEXTS)
    for one in found[_PARTS[by]]:
        table.add([{**one, "currency": found["currency"]}[title] for title in titles])


def text(found: Mapping[str, Any], by: str | None = None) -> str:
    """Return a statement as text: its sum, then tables; jobs only where they are asked for."""
    currency = found["currency"]
    whose = f"account {found['account']}" if found["account"] else "all accounts"
    if found["user"]:
        whose = f"user {found['user']}" + (f" in {whose}" if found["account"] else "")
    when = found["month"] or f"booked {found['start'][:16]} to {found['end'][:16]}"
    total = found["total"]
    hours = amount_words(total["gpu_seconds"], "gpu_seconds", currency)
    parts = f"charged {total['charged']}, given back {total['refunded']}"
    lines = [
        f"Statement of {safe(whose)}, {safe(when)}",
        f"{total['cost']} {currency} for {counted(total['runs'], 'run')} and {hours}: {parts}",
    ]
    for name in (by,) if by else ("user", "gpu-type"):
        rows = found[_PARTS[name]]
        if rows:
            lines += ["", _table(name, rows, currency)]
    if not by and found["budgets"]:
        lines += ["", _budgets(found["budgets"])]
    if found["jobs_left_out"] and by == "job":
        lines += [f"and {found['jobs_left_out']} cheaper ones"]
    return "\n".join(lines) + "\n"


def _table(name: str, rows: Sequence[Mapping[str, Any]], currency: str) -> str:
    keys = _SHOWN if name == "job" else _KEYS[name]
    columns = [
        *(Column(key.replace("_", " ").upper(), right=key in {"job_id", "gpus"}) for key in keys),
        *(() if name == "job" else (Column("RUNS", right=True),)),
        Column("GPU-HOURS", right=True),
        *(Column(f"{key.upper()} [{currency}]", right=True) for key in _SUMS),
    ]
    cells = [
        [
            *(_cell(row, key) for key in keys),
            *(() if name == "job" else (str(row["runs"]),)),
            amount_words(row["gpu_seconds"], "gpu_seconds", currency).split()[0],
            *(row[key] for key in _SUMS),
        ]
        for row in rows
    ]
    return plain_table(columns, cells)


def _cell(row: Mapping[str, Any], key: str) -> str:
    value = row[key]
    if key == "gpu_type":
        return safe(value) or "no GPU"
    if key in _TIMES:
        return (value or NOTHING)[:16].replace("T", " ")
    return safe(str(value)) or NOTHING


def _budgets(budgets: Sequence[Mapping[str, Any]]) -> str:
    names = ("granted", "settled", "in_flight", "committed", "available")
    columns = [
        Column("BUDGET OF"),
        Column("USER"),
        *(Column(name.replace("_", " ").upper(), right=True) for name in names),
        Column("IN"),
        Column("UNTIL"),
    ]
    return plain_table(
        columns,
        [
            [
                safe(one["account"]),
                safe(one["user"]) or NOTHING,
                *(one[name] for name in names),
                one["currency"],
                (one["period_end"] or NOTHING)[:10],
            ]
            for one in budgets
        ],
    )
