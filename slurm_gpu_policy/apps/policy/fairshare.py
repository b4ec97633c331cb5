"""``gpu-policy fairshare``: the account tree, who used more and who less than their share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.errors import RequestError
from slurm_gpu_policy.services.standing import below, read_fair_shares
from slurm_gpu_policy.terminal.table import Coloured, Column, print_table
from slurm_gpu_policy.terminal.text import NOTHING, print_json, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from slurm_gpu_policy.policy.fair_tree import Standing

_OVER, _UNDER = 1.1, 0.9
"""Times its share from which on, and up to which, somebody is over and under it."""
_BILLING_HOUR = 3600

_COLUMNS = (
    Column("ACCOUNT, USER", style="bold"),
    Column("SHARES", right=True, rank=2),
    Column("SHARE", right=True),
    Column("USED", right=True),
    Column("USAGE [h]", right=True, rank=1),
    Column("FACTOR", right=True),
    Column("STANDING", wraps=True),
)


@click.command("fairshare")
@click.argument("account", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list (see docs/cli.md).")
def command(*, account: str | None, as_json: bool) -> None:
    """Show the account tree, or ACCOUNT and all below it, with shares and usage.

    SHARE is what an account or user may have of the account above it, USED what it had of what
    that account used (older use counts less: PriorityDecayHalfLife), USAGE its use in billing
    hours, FACTOR the fair-share factor of its jobs' priority, from 1 (first) to 0. All of it is
    computed from shares and usage as Slurm does it, not read from `sshare`.

    `--json` prints a list of objects, one an association: `account`, `user` ("" for the account
    itself), `partition` ("" unless it is for one only), `raw_shares` (int, or "parent" where it
    competes with its account's shares), `norm_shares` and `effective_usage` (from 0 to 1, among
    those at the same level), `level_fs` (norm_shares / effective_usage; null where that is
    infinite, as without any usage), `fair_share_factor` (from 0 to 1; null for accounts).
    """
    found = read_fair_shares(bootstrap.connect(bootstrap.load_policy()))
    if account is not None:
        found = below(found, account.lower())
        if not found:
            msg = f"Slurm has no account {account!r}: `gpu-policy fairshare` shows all"
            raise RequestError(msg)
    if as_json:
        print_json([standing_json(one) for one in found])
        return
    rows = [_row(one, depth) for one, depth in in_tree(found)]
    print_table(_COLUMNS, rows)
    say(_summary(found))


def standing_json(one: Standing) -> dict[str, Any]:
    """Return the documented JSON object of one association; scripts rely on it."""
    member = one.member
    return {
        "account": member.account,
        "user": member.user,
        "partition": member.partition,
        "raw_shares": "parent" if member.shares is None else member.shares,
        "norm_shares": one.norm_shares,
        "effective_usage": one.effective_usage,
        "level_fs": one.level_fs if math.isfinite(one.level_fs) else None,
        "fair_share_factor": one.fair_share,
    }


def in_tree(found: Sequence[Standing]) -> Iterator[tuple[Standing, int]]:
    """Yield *found* as a tree, each with its depth: an account, its users, then its accounts."""
    users: dict[str, list[Standing]] = {}
    accounts: dict[str, list[Standing]] = {}
    names = {one.member.account for one in found if not one.member.user}
    tops = []
    for one in found:
        member = one.member
        if member.user:
            users.setdefault(member.account, []).append(one)
        elif member.parent in names:
            accounts.setdefault(member.parent, []).append(one)
        else:
            tops.append(one)
    waiting = [(one, 0) for one in reversed(tops)]
    while waiting:
        one, depth = waiting.pop()
        yield one, depth
        name = one.member.account
        if not one.member.user:
            waiting += [(each, depth + 1) for each in reversed(accounts.get(name, []))]
            waiting += [(each, depth + 1) for each in reversed(users.get(name, []))]


def words(one: Standing) -> tuple[str, str]:
    """Return how somebody stands to their share, in words, and a colour for it."""
    member = one.member
    if not member.user and not member.parent:
        return "", ""
    if member.shares is None:
        return "takes part with its account's shares", "dim"
    if not member.shares:
        return ("over: has no share", "red") if one.effective_usage else ("no share, no use", "dim")
    times = one.effective_usage / one.norm_shares
    if not times:
        return "unused", "green"
    if _UNDER <= times <= _OVER:
        return "at its share", "yellow"
    return (f"over: {_times(times)}", "red") if times > 1 else (f"under: {_times(times)}", "green")


def _times(number: float) -> str:
    shown = f"{number:.0f}" if number >= 100 else f"{number:.2f}"  # noqa: PLR2004 - three digits
    return f"{shown} x its share"


def _row(one: Standing, depth: int) -> tuple[str, ...]:
    member = one.member
    name = member.user or member.account
    if member.partition:
        name += f" ({member.partition})"
    text, style = words(one)
    return (
        "  " * depth + name,
        "parent" if member.shares is None else str(member.shares),
        f"{one.norm_shares:.1%}" if member.user or member.parent else NOTHING,
        f"{one.effective_usage:.1%}",
        f"{member.usage / _BILLING_HOUR:.1f}",
        NOTHING if one.fair_share is None else f"{one.fair_share:.6f}",
        Coloured(text, style),
    )


def _summary(found: Sequence[Standing]) -> str:
    users = [words(one)[0].partition(":")[0] for one in found if one.member.user]
    parts = [f"{users.count(word)} {word}" for word in ("over", "under", "unused") if word in users]
    return f"{len(users)} users" + (f": {', '.join(parts)}" if parts else "")
