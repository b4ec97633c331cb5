"""Why a job waits for its budget: what is left, and what would pass (rules B-006 to B-008)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.model.prices import Cost
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.ledger.affording import amount_words
from slurm_gpu_policy.policy.ledger.budget import levels
from slurm_gpu_policy.policy.ledger.over_budget import (
    ASKED,
    HELD,
    MOVED,
    money_mark,
    over_budget_qos,
)
from slurm_gpu_policy.policy.pending import is_held, task_count
from slurm_gpu_policy.policy.prices.pricing import cost, longest_within
from slurm_gpu_policy.policy.prices.tariffs import price_book
from slurm_gpu_policy.policy.prices.usage_of import use_of_job
from slurm_gpu_policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.job import Job
    from slurm_gpu_policy.model.prices import Unit

_MINUTE = 60
LIMIT_REASONS = frozenset({"AssocGrpGRESMinutes", "AssocGrpBillingMinutes"})


def budget_words(job: Job) -> tuple[str, str] | None:
    """Return (why it waits, what its user can do) of a job that we hold for its budget."""
    if not (job.state.is_pending and is_held(job) and money_mark(job) in {HELD, ASKED}):
        return None
    return (
        f"its budget does not cover it, so it is held until that does (rule {rules.BUDGET_HOLD})",
        "gpu-policy budget shows what is left; ask for less or for less time, or ask for a grant",
    )


def waits_for_money(job: Job) -> bool:
    """Whether what is left is what a waiting job's owner wants to know."""
    return bool(money_mark(job)) or job.reason.strip() in LIMIT_REASONS


def budget_facts(
    job: Job,
    left: Mapping[tuple[str, str], tuple[Unit, int]],
    parents: Mapping[str, str],
    policy: Policy,
    now: int,
) -> Iterator[str]:
    """Yield of each budget on a job's line that is too small what is left, and what would pass.

    *left* has by account and user the unit and what their present budgets have left in all.
    """
    book = price_book(policy)
    minimum = policy.pricing.minimum_charge if policy.pricing else 0
    use, tasks = use_of_job(job), task_count(job)
    seconds = job.time_limit_seconds or 3600
    one = cost(use, now, now + seconds, book, minimum=minimum)
    price = Cost(one.micros * tasks, one.gpu_seconds * tasks)
    shortest: int | None = None
    for account, user in levels(job.account, job.user, parents):
        if (account, user) not in left:
            continue
        unit, amount = left[account, user]
        if price.amount(unit) <= max(amount, 0):
            continue
        whose = f"user {user} in account {account}" if user else f"account {account}"
        yield (
            f"the budget of {whose} has {amount_words(amount, unit, policy.currency)} left, and it "
            f"may cost {amount_words(price.amount(unit), unit, policy.currency)}"
        )
        if unit == "money":
            fits = longest_within(use, now, max(amount, 0), book, tasks, minimum=minimum)
        else:
            fits = max(amount, 0) // (use.gpu_count * tasks)
        shortest = fits if shortest is None else min(shortest, fits or 0)
    if shortest is not None and shortest >= _MINUTE:
        yield f"a time limit of {format_duration(shortest // _MINUTE * _MINUTE)} would pass"


def moved_words(job: Job, policy: Policy) -> str:
    """Rule B-007, L-207: why a job is in the over-budget QOS; ``""`` for any other."""
    qos = over_budget_qos(policy)
    if not qos or job.qos.lower() != qos:
        return ""
    if money_mark(job) == MOVED:
        return (
            f"its budget does not cover it, so it is in QOS {job.qos}: it runs on what others "
            f"leave idle, and comes back once that is covered (rule {rules.BUDGET_QOS})"
        )
    return (
        f"account {job.account} had spent its budget, so it is in QOS {job.qos} "
        f"(rule {rules.ACCOUNT_OVER_BUDGET})"
    )
