"""When a budget's periods begin and end, and which funds the policy file wants (rule B-005)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal
from zoneinfo import ZoneInfo

from slurm_gpu_policy.model.ledger import Fund
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy.prices.timetable import moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from slurm_gpu_policy.config.budgets import Budget
    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.account import Association
    from slurm_gpu_policy.model.prices import Unit

Kind = Literal["month", "quarter", "year", "once"]
_MONTHS: Final[dict[str, int]] = {"month": 1, "quarter": 3, "year": 12}
_MICRO_PERCENT: Final = 10_000
_HOUR_SECONDS: Final = 3600
_MOST_PERIODS: Final = 1200
_LAST_MONTH: Final = 9999 * 12 + 11


@record
class Period:
    """Seconds of Unix time, [start, end); ``None`` for no end."""

    start: int
    end: int | None


@record
class Wanted:
    """A fund as the policy file wants it for one moment, and what is granted to it."""

    fund: Fund
    amount: int = 0
    roll_over: int = 0
    """Percent of the amount that may be carried into the next period."""


def zone_of(policy: Policy) -> str:
    """Return the time zone that periods go by."""
    return policy.pricing.timezone if policy.pricing is not None else "UTC"


def period_at(
    kind: Kind, at: int, timezone: str, start: int | None = None, end: int | None = None
) -> Period | None:
    """Return the period that a moment lies in, within [*start*, *end*); ``None`` outside of it."""
    if (start is not None and at < start) or (end is not None and at >= end):
        return None
    if kind == "once":
        return Period(start or 0, end)
    months = _MONTHS[kind]
    zone = ZoneInfo(timezone)
    here = datetime.fromtimestamp(at, zone)
    first = here.year * 12 + (here.month - 1) // months * months
    begin, until = (_month(number, zone) for number in (first, first + months))
    return Period(
        begin if start is None else max(begin, start), until if end is None else min(until, end)
    )


def _month(number: int, zone: ZoneInfo) -> int:
    """Return when a month begins, counted from the year 0; none is beyond the year 9999."""
    year, month = divmod(min(number, _LAST_MONTH), 12)
    return int(datetime(year, month + 1, 1, tzinfo=zone).timestamp())


def budget_period(budget: Budget, at: int, timezone: str) -> Period | None:
    """Return the period of a budget that a moment lies in; ``None`` before the budget begins.

    After its end comes one for ever, in which nothing is granted: a project that is over has
    nothing left, and is not without a limit.
    """
    start = moment(budget.start, timezone) if budget.start else None
    end = moment(budget.end, timezone) if budget.end else None
    if end is not None and at >= end:
        return Period(end, None)
    return period_at(budget.period, at, timezone, start, end)


def is_over(budget: Budget, at: int, timezone: str) -> bool:
    """Whether a moment lies after the end of a budget."""
    return budget.end is not None and at >= moment(budget.end, timezone)


def _amounts(budget: Budget, at: int, timezone: str) -> tuple[Unit, int, int]:
    """Return the unit of a budget, and what is granted and may be overdrawn in a period."""
    if budget.amount is not None:
        unit: Unit = "money"
        amount, overdraft = budget.amount, budget.overdraft or 0
    else:
        unit, amount = "gpu_seconds", (budget.gpu_hours or 0) * _HOUR_SECONDS
        overdraft = (budget.overdraft_gpu_hours or 0) * _HOUR_SECONDS
    return (unit, 0, 0) if is_over(budget, at, timezone) else (unit, amount, overdraft)


def cluster_fund(at: int, timezone: str) -> Wanted:
    """Return the fund of the cluster for one moment: every run is charged there."""
    period = period_at("month", at, timezone)
    assert period is not None  # noqa: S101 - for the type checker: it has no limits
    return Wanted(Fund(budget="", account="", start=period.start, end=period.end, unlimited=True))


def users_by_account(associations: Iterable[Association]) -> Mapping[str, tuple[str, ...]]:
    """Return who is in each account."""
    found: dict[str, set[str]] = {}
    for one in associations:
        if one.user:
            found.setdefault(one.account, set()).add(one.user)
    return {account: tuple(sorted(users)) for account, users in found.items()}


def wanted_funds(policy: Policy, users: Mapping[str, tuple[str, ...]], at: int) -> Iterator[Wanted]:
    """Yield the funds that the policy file wants for one moment, the cluster's first."""
    timezone = zone_of(policy)
    yield cluster_fund(at, timezone)
    for position, (name, budget) in enumerate(policy.budgets.items()):
        period = budget_period(budget, at, timezone)
        if period is None:
            continue
        account = (budget.account or name).lower()
        unit, amount, overdraft = _amounts(budget, at, timezone)
        owners = users.get(account, ()) if budget.each_user else (budget.user or "",)
        for user in owners:
            yield Wanted(
                Fund(
                    budget=name,
                    account=account,
                    user=user,
                    unit=unit,
                    start=period.start,
                    end=period.end,
                    position=position,
                    overdraft=overdraft,
                    soft=None if budget.soft is None else budget.soft * _MICRO_PERCENT,
                ),
                amount,
                budget.roll_over,
            )


def periods_since(
    wanted: Wanted, policy: Policy, since: int, at: int
) -> Iterator[tuple[Period, int]]:
    """Yield the periods of a fund's budget from *since* to the one that *at* lies in.

    Each with what is granted in it.
    """
    timezone = zone_of(policy)
    budget = policy.budgets.get(wanted.fund.budget)
    for _ in range(_MOST_PERIODS):
        if since > at:
            return
        if budget is None:
            period = period_at("month", since, timezone)
        else:
            period = budget_period(budget, since, timezone)
        if period is None:  # the budget begins later
            since = wanted.fund.start
            continue
        amount = 0 if budget is None else _amounts(budget, period.start, timezone)[1]
        yield Period(max(period.start, since), period.end), amount
        if period.end is None:
            return
        since = period.end
