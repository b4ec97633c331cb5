"""What gpu-submit says of a request's cost (rules C-401, C-403 to C-405)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.model.decision import Reason
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.prices.pricing import has_price, minimum_adds, prices_at, varies
from slurm_gpu_policy.units import format_money

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_gpu_policy.policy.fitting import Need, Route
    from slurm_gpu_policy.policy.prices.price_outlook import LaterStart


def cost_reasons(need: Need, found: Route, currency: str) -> Iterator[Reason]:
    """Rules C-401, C-403: the estimate, or why there is none."""
    if found.cost_micros is not None and found.time_seconds is not None:
        yield from _estimate(need, found, found.cost_micros, found.time_seconds, currency)
    elif has_price(found.use, prices_at(need.book, need.now)):
        yield Reason(rules.COST_UNKNOWN, "no estimate: the job has no time limit")
    elif found.kind is not None:
        yield Reason(
            rules.COST_UNKNOWN, f"the site has set no price for {found.kind.name}: no estimate"
        )


def _estimate(
    need: Need, found: Route, micros: int, seconds: int, currency: str
) -> Iterator[Reason]:
    amount = f"{format_money(micros)} {currency}"
    most, later = micros, None
    if varies(need.book, need.now):
        from slurm_gpu_policy.policy.prices import price_outlook  # noqa: PLC0415 - few sites' prices do

        most = price_outlook.most_micros(found.use, seconds, need.book, need.now) * need.tasks
        later = price_outlook.later_start(found.use, seconds, need.book, need.now)
    yield Reason(
        rules.COST_ESTIMATE,
        f"costs up to {amount} if it uses its whole time limit"
        if most == micros
        else f"costs up to {amount} if it starts now and uses its whole time limit, at other hours "
        f"up to {format_money(most)} {currency}",
        value=amount,
    )
    if added := minimum_adds(found.use, need.now, need.now + seconds, need.book):
        yield Reason(
            rules.COST_MINIMUM,
            f"{format_money(added * need.tasks)} {currency} of it is what the site's minimum for "
            "each run adds",
            value=f"{format_money(added * need.tasks)} {currency}",
        )
    if later is not None:
        yield _later(need, later, micros, currency)


def _later(need: Need, later: LaterStart, micros: int, currency: str) -> Reason:
    """Rule C-404: when it would cost less."""
    from slurm_gpu_policy.policy.prices.price_outlook import time_words  # noqa: PLC0415

    then = later.micros * need.tasks
    wait = -(-(later.start - need.now) // 60)
    return Reason(
        rules.COST_TIME,
        f"from {time_words(later.start, need.book)} on it would cost at most "
        f"{format_money(then)} {currency}, {format_money(micros - then)} less",
        value=f"{format_money(micros)} {currency}",
        limit=f"{format_money(then)} {currency}",
        remedy=f"let it wait with --begin=now+{wait}minutes",
    )
