"""``gpu-policy budget``: how budgets stand; and the commands that move money."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.apps.policy.dates import zone_of, zoned
from slurm_gpu_policy.apps.policy.lazy import LazyGroup
from slurm_gpu_policy.apps.policy.money import AMOUNTS, counted_in, exact, words
from slurm_gpu_policy.terminal.table import Coloured, Column, print_table
from slurm_gpu_policy.terminal.text import NOTHING, print_json, say

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMANDS: Mapping[str, str] = {
    "statement": "Show what a month cost, per user, GPU type and job.",
    "forecast": "Say when budgets run out, if they go on being spent as lately.",
    "grant": "Give a budget an amount, or take one back (operators).",
    "transfer": "Move an amount from one budget to another.",
    "refund": "Give back what a job cost, or a part of it.",
    "close": "End a budget now (operators).",
    "import": "Grant what a CSV file says (operators).",
    "export": "Write out all entries of the books.",
}
_COLUMNS = (
    Column("ACCOUNT", style="bold"),
    Column("USER"),
    Column("BUDGET", rank=5),
    Column("GRANTED", right=True, rank=3),
    Column("SPENT", right=True, rank=2),
    Column("IN FLIGHT", right=True, rank=4),
    Column("COMMITTED", right=True, rank=4),
    Column("AVAILABLE", right=True),
    Column("", rank=1),
    Column("UNTIL", rank=6),
)
_CELLS: Final = 20
_DRAWN, _TYPED = "█▓▒░", "#=-."
_NAMES = ("spent", "in flight", "committed", "available")
_LITTLE: Final = 5
"""What is available is little when it is less than this part of what was granted."""


@click.group(
    "budget",
    cls=LazyGroup,
    lines=COMMANDS,
    prefix="budget_",
    invoke_without_command=True,
    subcommand_metavar="[COMMAND [ARGS]...]",
)
@click.option("--account", metavar="ACCOUNT", help="Budgets of this account and those below it.")
@click.option("--user", metavar="USER", help="Budgets of this user.")
@click.option("--all", "everything", is_flag=True, help="All budgets (operators).")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list (see docs/cli.md).")
@click.pass_context
def command(
    context: click.Context,
    *,
    account: str | None,
    user: str | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Show the budgets that your jobs are paid from: your own, your account's, those above it.

    SPENT is what ended jobs cost, IN FLIGHT what is set aside for running ones, COMMITTED for
    waiting ones. Operators see all budgets, coordinators those of their accounts and all below,
    users those they are paid from.

    `--json` prints a list of objects: `account`, `user` ("" for the whole account's budget),
    `currency`, `granted` (less what expired or was taken back), `settled`, `in_flight`,
    `committed`, `available` (texts: decimals of `currency`; where that is "GPU-seconds", whole
    ones) and `period_end` (ISO-8601, or null).
    """
    if context.invoked_subcommand is not None:
        return
    policy = bootstrap.load_policy()
    asked: dict[str, Any] = {"request": "budget", "all": everything}
    if account is not None:
        asked["account"] = account
    if user is not None:
        asked["user"] = user
    answer = bootstrap.ask_ledger(policy, asked)
    currency, zone = answer["currency"], zone_of(policy)
    if as_json:
        print_json([budget_json(one, currency, zone) for one in answer["budgets"]])
    elif answer["budgets"]:
        print_table(_COLUMNS, [row(one, currency, zone) for one in answer["budgets"]])
        say("  ".join(map(" ".join, zip(_marks(), _NAMES, strict=True))))
    elif account is None and user is None and not everything:
        say("no budget limits what your jobs cost")
    else:
        say("there is no budget of that kind")


def budget_json(one: Mapping[str, Any], currency: str, zone: str) -> dict[str, Any]:
    """Return the documented JSON object of one budget; scripts rely on it."""
    return {
        "account": one["account"],
        "user": one["user"],
        "currency": counted_in(one["unit"], currency),
        **{name: exact(one[name], one["unit"]) for name in AMOUNTS},
        "period_end": zoned(one["period_end"], zone),
    }


def row(one: Mapping[str, Any], currency: str, zone: str) -> tuple[str, ...]:
    """Return the table's row of one budget."""
    granted, settled, in_flight, committed, available = (int(one[name]) for name in AMOUNTS)
    style = "red" if available <= 0 else "yellow" if available * _LITTLE < granted else "green"
    drawn = bar(granted, (settled, in_flight, committed), _marks())
    return (
        one["account"],
        one["user"] or NOTHING,
        one["budget"],
        *(words(one[name], one["unit"], currency) for name in AMOUNTS),
        Coloured(drawn, style),
        (zoned(one["period_end"], zone) or NOTHING)[:10],
    )


def bar(granted: int, parts: tuple[int, int, int], marks: str, cells: int = _CELLS) -> str:
    """Return how much of what was granted is spent, in flight, committed and available.

    Whatever is not nothing has a mark. What is spent or set aside beyond it shows as ``>`` at the
    end.
    """
    if granted <= 0:
        return " " * (cells - 1) + ">" if any(part > 0 for part in parts) else ""
    drawn, seen = "", 0
    for mark, part in zip(marks, (*parts, max(granted - sum(parts), 0)), strict=True):
        seen += max(part, 0)
        end = max(seen * cells // granted, len(drawn) + (part > 0))
        drawn += mark * (min(end, cells) - len(drawn))
    return drawn[:-1] + ">" if sum(parts) > granted else drawn


def _marks() -> str:
    encoding = (sys.stdout.encoding or "").lower()
    return _DRAWN if encoding.startswith("utf") else _TYPED
