"""``gpu-policy budget forecast``: the day a budget runs out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.apps.policy.dates import zone_of, zoned
from slurm_gpu_policy.apps.policy.money import counted_in, exact, words
from slurm_gpu_policy.terminal.table import Column, print_table
from slurm_gpu_policy.terminal.text import NOTHING, print_json, say

if TYPE_CHECKING:
    from collections.abc import Mapping

_COLUMNS = (
    Column("ACCOUNT", style="bold"),
    Column("USER"),
    Column("LEFT", right=True, rank=1),
    Column("A DAY", right=True),
    Column("RUNS OUT", wraps=True),
    Column("SURE"),
    Column("PERIOD ENDS", rank=2),
)
_AMOUNTS = ("available", "in_flight", "committed", "accrued", "left", "per_day")
_TIMES = ("runs_out", "earliest", "latest", "period_end")


@click.command("forecast")
@click.option("--account", metavar="ACCOUNT", help="Budgets of this account and those below it.")
@click.option("--user", metavar="USER", help="Budgets of this user.")
@click.option("--all", "everything", is_flag=True, help="All budgets (operators).")
@click.option("--days", type=click.IntRange(1, 366), default=14, help="How far back to look (14).")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list (see docs/cli.md).")
def command(
    *, account: str | None, user: str | None, everything: bool, days: int, as_json: bool
) -> None:
    """Say when budgets run out, if they go on being spent as in the last days.

    It is an even burn of what ran in these days, ended or running, laid on what is not spent yet
    (LEFT: also what is set aside for jobs). SURE says how much that is worth: `none` with less
    than a day of history, `low` with less than three or where the days differ by more than their
    mean, `fair` with less than seven or by more than half of it, else `good`.

    `--json` prints a list of objects, one an account or user: `account`, `user`, `budgets` (names),
    `currency`, `available`, `in_flight`, `committed`, `accrued` (of running jobs so far), `left`,
    `per_day` (texts in `currency`, as for `gpu-policy budget`), `days` (that were looked at),
    `certainty`, `runs_out`, `earliest`, `latest`, `period_end` (ISO-8601, or null: nobody can say,
    it is years away, or there is no end).
    """
    policy = bootstrap.load_policy()
    asked: dict[str, Any] = {"request": "forecast", "all": everything, "days": days}
    if account is not None:
        asked["account"] = account
    if user is not None:
        asked["user"] = user
    answer = bootstrap.ask_ledger(policy, asked)
    found, currency, zone = answer["forecasts"], answer["currency"], zone_of(policy)
    if as_json:
        print_json([_shown(one, currency, zone) for one in found])
    elif found:
        print_table(_COLUMNS, [_row(one, currency, zone) for one in found])
    else:
        say("there is no budget to say anything of")


def _shown(one: Mapping[str, Any], currency: str, zone: str) -> dict[str, Any]:
    unit = one["unit"]
    shown = {name: value for name, value in one.items() if name != "unit"}
    shown["currency"] = counted_in(unit, currency)
    shown |= {name: exact(one[name], unit) for name in _AMOUNTS}
    return {**shown, **{name: zoned(one[name], zone) for name in _TIMES}}


def _row(one: Mapping[str, Any], currency: str, zone: str) -> tuple[str, ...]:
    return (
        one["account"],
        one["user"] or NOTHING,
        words(one["left"], one["unit"], currency),
        words(one["per_day"], one["unit"], currency),
        _when(one, zone),
        one["certainty"],
        _day(one["period_end"], zone),
    )


def _when(one: Mapping[str, Any], zone: str) -> str:
    if one["certainty"] == "none":
        return "nobody can say: too little was spent so far"
    if one["runs_out"] is None:
        return "not for years"
    if one["period_end"] is not None and one["runs_out"] >= one["period_end"]:
        return "lasts to the period's end"
    span = f" ({_day(one['earliest'], zone)} to {_day(one['latest'], zone)})"
    return _day(one["runs_out"], zone) + (span if one["latest"] != one["earliest"] else "")


def _day(seconds: int | None, zone: str) -> str:
    return (zoned(seconds, zone) or NOTHING)[:10]
