"""Which funds the policy file wants opened, changed and closed (rule B-005)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.ledger.budget import CLUSTER, is_present
from slurm_gpu_policy.policy.ledger.periods import (
    cluster_fund,
    periods_since,
    wanted_funds,
    zone_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.ledger import Fund
    from slurm_gpu_policy.policy.ledger.budget import Funds
    from slurm_gpu_policy.policy.ledger.periods import Wanted

GAP_SECONDS: Final = 3600
"""A budget that was not in the file for longer begins anew, else where it ended."""
_DAY_SECONDS: Final = 86_400
_PERCENT: Final = 100


@record
class Opening:
    """A fund to be opened, and what is granted to it."""

    fund: Fund
    amount: int


@record
class FundingPlan:
    """What is to be done to the funds."""

    openings: tuple[Opening, ...] = ()
    changes: tuple[Fund, ...] = ()
    """As they should be."""
    amounts: tuple[tuple[Fund, int | None, int], ...] = ()
    """Funds whose amount in the policy file changed: what was granted by it, and what should be."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.openings or self.changes or self.amounts)


def plan_funding(  # noqa: PLR0913 - by name
    policy: Policy,
    *,
    users: Mapping[str, tuple[str, ...]],
    funds: Iterable[Fund],
    granted: Mapping[int, int],
    read_until: int | None,
    at: int,
) -> FundingPlan:
    """Return what the policy file wants done to the funds at a moment.

    *granted* is what the file had granted by fund id. A budget counts from its period's beginning
    where the books are new; one that comes into the file later, from *read_until*: to where runs
    were settled without it.
    """
    owned: dict[tuple[str, str, str], list[Fund]] = {}
    for fund in funds:
        owned.setdefault((fund.budget, fund.account, fund.user), []).append(fund)
    is_new = ("", *CLUSTER) not in owned
    openings: list[Opening] = []
    changes: list[Fund] = []
    amounts: list[tuple[Fund, int | None, int]] = []
    for wanted in wanted_funds(policy, users, at):
        want = wanted.fund
        mine = owned.get((want.budget, want.account, want.user), [])
        present = [fund for fund in mine if is_present(fund, at)]
        others = [fund for fund in present if fund.unit != want.unit]
        changes += [replace(fund, end=at) for fund in others]
        same = next((fund for fund in present if fund.unit == want.unit), None)
        if same is None:
            # What somebody granted ahead, under the same name, is not what comes before this one.
            begun = [fund for fund in mine if fund.start <= at or fund.level == CLUSTER]
            ends = [fund.end for fund in begun if fund.end is not None and fund not in others]
            last = at if others else max(ends, default=None)
            begin = _begin(wanted, last, None if is_new else read_until)
            openings += [
                Opening(replace(want, start=period.start, end=period.end), amount)
                for period, amount in periods_since(wanted, policy, begin, at)
            ]
            continue
        should = replace(
            same,
            end=_end(same, want),
            position=want.position,
            overdraft=want.overdraft,
            soft=want.soft,
        )
        if should != same:
            changes.append(should)
        if not want.unlimited and granted.get(same.fund_id) != wanted.amount:
            amounts.append((same, granted.get(same.fund_id), wanted.amount))
    return FundingPlan(tuple(openings), tuple(changes), tuple(amounts))


def _end(fund: Fund, want: Fund) -> int | None:
    """Return when a fund ends for which the policy file wants another now.

    Where the zone was changed in a period's last hours, the next one may have begun by the new
    one's clocks: the present one ends as it would have, and the next one follows.
    """
    if fund.end is not None and fund.start < want.start and fund.end - want.start < _DAY_SECONDS:
        return fund.end
    return want.end


def _begin(wanted: Wanted, last: int | None, read_until: int | None) -> int:
    """Return from when on a budget without a present fund gets funds."""
    is_cluster = wanted.fund.level == CLUSTER
    if last is not None and (is_cluster or read_until is None or read_until <= last + GAP_SECONDS):
        return last
    if read_until is None or is_cluster:
        return wanted.fund.start
    return max(wanted.fund.start, read_until)


def cluster_openings(policy: Policy, funds: Iterable[Fund], since: int) -> tuple[Fund, ...]:
    """Return the cluster's funds of the months from *since* to its first one, newest first."""
    own = [fund.start for fund in funds if fund.level == CLUSTER]
    first = min(own, default=None)
    found: list[Fund] = []
    while first is not None and since < first:
        before = cluster_fund(first - 1, zone_of(policy)).fund
        found.append(replace(before, end=first))
        first = before.start
    return tuple(found)


def is_due(fund: Fund, read_until: int | None) -> bool:
    """Whether a fund is to be closed: over, nothing set aside, and its time's accounting read."""
    return (
        not fund.closed
        and fund.end is not None
        and read_until is not None
        and fund.end <= read_until
        and not fund.reserved
    )


def close_fund(
    fund: Fund, funds: Funds, successors: Sequence[Fund], granted: int, roll_over: int
) -> None:
    """Rule B-005: what is left at a period's end goes on in the next, or expires.

    Of what is left at most *roll_over* percent of what the period *granted* goes on.
    """
    left = funds.available[fund.fund_id]
    if fund.unlimited or left <= 0:
        return
    owner = (fund.budget, fund.account, fund.user, fund.unit)
    later = [
        one
        for one in successors
        if (one.budget, one.account, one.user, one.unit) == owner
        and not one.closed
        and one.start >= (fund.end or 0)
        and one.fund_id != fund.fund_id
    ]
    carried = min(left, granted * roll_over // _PERCENT) if later else 0
    rule = rules.BUDGET_PERIOD
    if left > carried:
        funds.post("expire", fund.fund_id, "available", "site", left - carried, rule=rule,
                   reason="left over at the period's end")  # fmt: skip
    if carried:
        after = min(later, key=lambda one: one.start)
        batch = f"carry:{fund.fund_id}"
        funds.post("expire", fund.fund_id, "available", "site", carried, rule=rule,
                   reason="carried into the next period", batch=batch)  # fmt: skip
        funds.post("grant", after.fund_id, "site", "available", carried, rule=rule,
                   reason="carried from the period before", batch=batch)  # fmt: skip
