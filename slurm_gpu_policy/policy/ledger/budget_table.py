"""What accounts and users have left, for job_submit.lua (rules L-207, B-006, B-007).

The controller writes it at each tick. Between two ticks the script subtracts what it lets through,
so that all that starts before the next one is covered. It cannot know what a job will cost, only
the most that it can: the dearest price, hour, QOS and partition, and whole nodes where CPUs or
memory have a price. What that makes too dear is held, and the next tick, which knows, lets it go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from slurm_gpu_policy.policy.ledger.budget import CLUSTER, Funds, present_funds
from slurm_gpu_policy.policy.ledger.over_budget import over_budget_qos
from slurm_gpu_policy.policy.limits_table import file_text
from slurm_gpu_policy.policy.prices.tariffs import price_book, prices_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.ledger import LedgerState
    from slurm_gpu_policy.model.prices import Prices
    from slurm_gpu_policy.model.snapshot import Snapshot

_MICRO: Final = 1_000_000
_GIB: Final = 1024
_TICKS: Final = 10
"""For so many the table holds when nobody writes it any more, where `on_failure` is `open`."""


def budget_table(snapshot: Snapshot, policy: Policy, state: LedgerState) -> str:
    """Return the text of the file. Needs nodes and partitions.

    ``left`` has, by ``ACCOUNT`` or ``ACCOUNT USER``, what a level has left with its overdraft in
    ``unit``, and whether it is ``spent`` altogether; ``lines`` the levels above each account.
    """
    left = _left(snapshot, state)
    lines = _lines(left, state.parents)
    present = prices_at(price_book(policy), snapshot.time)
    later = [one.prices for one in price_book(policy) if one.since > snapshot.time]
    prices = [present, *later]
    table: dict[str, Any] = {
        "valid_until": snapshot.time + _TICKS * policy.controller.tick,
        "way": policy.ledger.when_spent,
        "minimum": max(each.minimum for each in prices),
        "left": left,
        "lines": lines,
        "prices": _gpu_prices(prices, policy),
        "nodes": _node_prices(prices, policy, snapshot),
    }
    if qos := over_budget_qos(policy):
        table["qos"] = qos
    return file_text(table)


def _left(snapshot: Snapshot, state: LedgerState) -> dict[str, Any]:
    funds = [view.fund for view in state.views]
    books = Funds(funds, state.parents)
    committed = {view.fund.fund_id: view.committed for view in state.views}
    found: dict[str, Any] = {}
    for level in sorted({fund.level for fund in funds} - {CLUSTER}):
        here = present_funds(funds, level, snapshot.time)
        left = books.left(here) if here else None
        if left is not None:
            account, user = level
            waits = sum(committed[fund.fund_id] for fund in here)
            key = f"{account} {user}" if user else account
            found[key] = {"amount": left, "unit": here[0].unit, "spent": left + waits <= 0}
    return found


def _lines(left: Mapping[str, Any], parents: Mapping[str, str]) -> dict[str, Any]:
    """Return for each account the levels, its own and those above, that have a limit."""
    found: dict[str, Any] = {}
    for account in sorted({*parents, *(key for key in left if " " not in key)}):
        line = [account]
        while (above := parents.get(line[-1])) and above not in line:
            line.append(above)
        if limited := [name for name in line if name in left]:
            found[account] = limited
    return found


def _dearest(prices: Prices, exempt: str) -> int:
    """Return the largest product of factors, in millionths of millionths of millionths."""
    qos = [factor for name, factor in prices.qos.items() if name != exempt]
    bands = [band.factor for band in prices.bands]
    return (
        max(_MICRO, *qos, 0) * max(_MICRO, *prices.partitions.values(), 0) * max(_MICRO, *bands, 0)
    )


def _times(amount: int, factor: int) -> int:
    return -(-amount * factor // _MICRO**3)


def _gpu_prices(prices: Iterable[Prices], policy: Policy) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in prices:
        factor = _dearest(each, over_budget_qos(policy))
        for name, price in each.gpus.items():
            found[name] = max(found.get(name, 0), _times(price, factor))
    return found


def _node_prices(prices: Iterable[Prices], policy: Policy, snapshot: Snapshot) -> dict[str, int]:
    """Return the most that a whole node's CPUs and memory cost for an hour, by partition."""
    nodes = {node.name: node for node in snapshot.nodes}
    found: dict[str, int] = {}
    for each in prices:
        if not (each.cpu or each.memory_gib):
            continue
        factor = _dearest(each, over_budget_qos(policy))
        for partition in snapshot.partitions:
            amounts = [
                node.cpus * each.cpu + -(-node.memory_mb * each.memory_gib // _GIB)
                for node in (nodes[name] for name in partition.nodes if name in nodes)
            ]
            most = _times(max(amounts, default=0), factor)
            found[partition.name] = max(found.get(partition.name, 0), most)
    return found
