"""What a budget means for a request (rules B-001, B-002): reasons, and what would pass."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slurm_gpu_policy.model.decision import Reason
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.prices.price_outlook import later_start, time_words
from slurm_gpu_policy.policy.prices.pricing import HOUR_SECONDS, cost, longest_within
from slurm_gpu_policy.units import counted, format_duration, format_money

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.decision import Decision
    from slurm_gpu_policy.model.prices import Tariff, Unit, Use
    from slurm_gpu_policy.model.promise import Promise, Purse

MINUTE_SECONDS = 60


def amount_words(amount: int, unit: Unit, currency: str) -> str:
    """Return an amount of a fund for people: ``12.50 EUR``, ``3.25 GPU-hours``.

    Hours are cut to hundredths, towards what is left of them.
    """
    if unit == "money":
        return f"{format_money(amount)} {currency}"
    hundredths = amount * 100 // HOUR_SECONDS
    sign = "-" if hundredths < 0 else ""
    whole, part = divmod(abs(hundredths), 100)
    return f"{sign}{whole}.{part:02d} GPU-hours"


def whose(purse: Purse) -> str:
    """Return whose budget it is: ``account vision``, ``alice in account vision``."""
    account = f"account {purse.account}"
    return f"{purse.user} in {account}" if purse.user else account


def left_reason(promise: Promise, policy: Policy) -> Reason | None:
    """Rule B-003: what is left where least is left, in proportion to what the job needs."""
    needing = [one for one in promise.purses if one.needed]
    if not needing:
        return None
    purse = min(needing, key=lambda one: one.left / one.needed)
    left = amount_words(purse.left, purse.unit, policy.currency)
    return Reason(
        rules.BUDGET_RESERVE,
        f"the budget of {whose(purse)} has {left} left after this job",
        value=amount_words(purse.needed, purse.unit, policy.currency),
        limit=left,
    )


def soft_reasons(promise: Promise, policy: Policy) -> Iterator[Reason]:
    """Rule B-002: budgets that are spent beyond their soft limit."""
    for purse in promise.purses:
        if purse.soft_exceeded:
            left = amount_words(purse.left, purse.unit, policy.currency)
            yield Reason(
                rules.BUDGET_SOFT,
                f"the budget of {whose(purse)} is nearly spent: {left} left of "
                f"{amount_words(purse.granted, purse.unit, policy.currency)}",
                value=left,
                limit=amount_words(purse.granted, purse.unit, policy.currency),
            )


def short_reasons(promise: Promise, remedy: str | None, policy: Policy) -> tuple[Reason, ...]:
    """Rule B-001: the budgets that have too little left for the job, and what would pass."""
    return tuple(
        Reason(
            rules.BUDGET_HARD,
            f"the budget of {whose(purse)} has "
            f"{amount_words(purse.left, purse.unit, policy.currency)} left, and the job may cost "
            f"{amount_words(purse.needed, purse.unit, policy.currency)}",
            value=amount_words(purse.needed, purse.unit, policy.currency),
            limit=amount_words(purse.left, purse.unit, policy.currency),
            remedy=remedy,
        )
        for purse in promise.short
    )


def judged(decision: Decision, promise: Promise, remedy: str | None, policy: Policy) -> Decision:
    """Return *decision* with what the budgets say of it; refused where rule B-001 is enforced."""
    short = short_reasons(promise, remedy, policy)
    if short and rules.level_of(rules.BUDGET_HARD, policy) == "enforce":
        return replace(decision, kind="refuse", reasons=short)
    soft = tuple(soft_reasons(promise, policy))
    left = left_reason(promise, policy) if promise.covered else None
    said = (*short, *soft, *decision.reasons, *((left,) if left else ()))
    return replace(decision, reasons=said)


def unasked(decision: Decision, why: str, policy: Policy) -> Decision:
    """Return *decision* where the books cannot be asked: the site says what follows (B-001)."""
    closed = policy.ledger.unreachable == "closed"
    reason = Reason(
        rules.BUDGET_HARD,
        f"whether the budget suffices cannot be found out: {why}",
        remedy="try again later" if closed else None,
    )
    if closed and rules.level_of(rules.BUDGET_HARD, policy) == "enforce":
        return replace(decision, kind="refuse", reasons=(reason,))
    return replace(decision, reasons=(reason, *decision.reasons))


# --- what would pass ------------------------------------------------------------------------


def remedies(
    decision: Decision,
    promise: Promise,
    book: Sequence[Tariff],
    now: int,
    cheaper: Callable[[], Iterator[Decision]],
) -> str | None:
    """Return what would pass: less time, fewer GPUs, a later start, or a cheaper GPU type.

    *cheaper* yields the decisions on the same request with other GPU types.
    """
    found = [
        _less_time(decision, promise, book, now),
        _fewer_gpus(decision, promise, book, now),
        _later(decision, promise, book, now),
        next((_other(one) for one in cheaper() if _fits(one, promise, book, now)), None),
    ]
    ways = [one for one in found if one]
    return ", or ".join(ways) or None


def _suffices(
    use: Use, decision: Decision, promise: Promise, book: Sequence[Tariff], at: int
) -> bool:
    """Whether a job that holds *use* is covered where *promise* falls short."""
    one = cost(use, at, at + (decision.time_seconds or HOUR_SECONDS), book)
    return all(one.amount(purse.unit) * decision.tasks <= purse.left for purse in promise.short)


def _fits(decision: Decision, promise: Promise, book: Sequence[Tariff], now: int) -> bool:
    return decision.kind != "refuse" and _suffices(decision.use, decision, promise, book, now)


def _other(decision: Decision) -> str:
    return f"--gpu-type {decision.gpu_type}"


def _less_time(
    decision: Decision, promise: Promise, book: Sequence[Tariff], now: int
) -> str | None:
    most = decision.time_seconds or HOUR_SECONDS
    for purse in promise.short:
        if purse.unit == "money":
            fits = longest_within(decision.use, now, max(purse.left, 0), book, decision.tasks)
        else:
            fits = max(purse.left, 0) // max(decision.use.gpu_count * decision.tasks, 1)
        most = min(most, most if fits is None else fits)
    most -= most % MINUTE_SECONDS  # Slurm rounds time limits up to minutes
    return f"--time={format_duration(most)} at most" if most else None


def _fewer_gpus(
    decision: Decision, promise: Promise, book: Sequence[Tariff], now: int
) -> str | None:
    """Return how many GPUs of one type would pass; by halves, as they are asked for."""
    if len(decision.use.gpus) != 1:
        return None
    (gpu_type,) = decision.use.gpus
    count = decision.use.gpu_count // 2
    while count:
        use = replace(decision.use, gpus={gpu_type: count})
        if _suffices(use, decision, promise, book, now):
            return counted(count, "GPU")
        count //= 2
    return None


def _later(decision: Decision, promise: Promise, book: Sequence[Tariff], now: int) -> str | None:
    if not decision.time_seconds:
        return None
    later = later_start(decision.use, decision.time_seconds, book, now)
    if later is None or any(
        purse.unit != "money" or later.micros * decision.tasks > purse.left
        for purse in promise.short
    ):
        return None
    wait = -(-(later.start - now) // MINUTE_SECONDS)
    return f"--begin=now+{wait}minutes (from {time_words(later.start, book)} on it costs less)"
