"""What --max-cost does with a request (rules R-302, C-402): the cheapest place, the longest time.

The cap holds whenever the job starts, within a year, at the prices that are known by now.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slurm_gpu_policy.model.decision import Reason
from slurm_gpu_policy.model.request import UNLIMITED
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.fitting import Need, Route
from slurm_gpu_policy.policy.prices.price_outlook import longest_whenever, most_micros
from slurm_gpu_policy.policy.prices.pricing import cost, has_price, prices_at
from slurm_gpu_policy.units import format_duration, format_money

if TYPE_CHECKING:
    from collections.abc import Sequence


def cheapest(need: Need, fits: Sequence[Route], cap_micros: int, currency: str) -> Route | Reason:
    """Rules R-302, C-402: the cheapest place whose whole cost stays within --max-cost.

    It does so whenever the job starts. A time limit that its user did not ask for is cut for it.
    """
    cap = f"{format_money(cap_micros)} {currency}"
    prices = prices_at(need.book, need.now)
    priced = [fit for fit in fits if has_price(fit.use, prices)]
    if not priced or need.request.time_seconds == UNLIMITED:
        return Reason(
            rules.COST_UNKNOWN,
            "--max-cost cannot be kept without a time limit"
            if priced
            else "--max-cost cannot be kept: the site has set no price for the GPU types that fit",
            limit=cap,
            remedy="give --time" if priced else "leave --max-cost out",
        )
    most = {
        place: most_micros(fit.use, fit.time_seconds, need.book, need.now) * need.tasks
        for place, fit in enumerate(priced)
        if fit.time_seconds
    }
    if most:
        place = min(most, key=lambda place: (most[place], priced[place].cost_micros or 0))
        best = priced[place]
        if most[place] <= cap_micros:
            return _as_cheapest(best, most[place], cap, currency)
    each = cap_micros // need.tasks
    longest = [
        _shorter(longest_whenever(fit.use, each, need.book, need.now), fit.time_seconds)
        for fit in priced
    ]
    return _cut(need, priced, longest, cap, currency)


def _as_cheapest(best: Route, most: int, cap: str, currency: str) -> Route:
    amount = f"{format_money(most)} {currency}"
    reason = Reason(
        rules.ROUTE_CHEAPEST,
        f"{_name(best)} in partition {best.partition} is the cheapest that "
        f"fits: {amount} of at most {cap}",
        value=amount,
        limit=cap,
    )
    return replace(best, reasons=(reason, *best.reasons))


def _cut(
    need: Need, fits: Sequence[Route], longest: Sequence[int | None], cap: str, currency: str
) -> Route | Reason:
    """Rule C-402: give a job the time that --max-cost pays for, or say how much it would be.

    *longest* has for each place the seconds that fit, ``None`` where any number does.
    """
    place = max(range(len(fits)), key=lambda place: _inf(longest[place]))
    best, seconds = fits[place], longest[place]
    if seconds is None:  # free, and without any time limit
        return _as_cheapest(best, 0, cap, currency)
    if seconds and need.request.time_seconds is None:
        one = cost(best.use, need.now, need.now + seconds, need.book)
        time = format_duration(seconds)
        reason = Reason(
            rules.COST_CAP,
            f"the time limit is {time} on {_name(best)}: the job cannot cost more than {cap}",
            value=time,
            limit=cap,
        )
        cut = replace(best, time_seconds=seconds, cost_micros=one.micros * need.tasks)
        return replace(cut, reasons=(reason, *best.reasons))
    most = "more"
    if best.time_seconds:
        micros = most_micros(best.use, best.time_seconds, need.book, need.now) * need.tasks
        most = f"up to {format_money(micros)} {currency}"
    return Reason(
        rules.COST_CAP,
        f"the job would cost {most} on the cheapest GPUs that fit, more than --max-cost "
        f"{cap.partition(' ')[0]}"
        if best.gpus
        else f"the job would cost {most}, more than --max-cost {cap.partition(' ')[0]}",
        value=most.removeprefix("up to "),
        limit=cap,
        remedy=f"ask for at most --time={format_duration(seconds)} on {_name(best)}, "
        "or for fewer GPUs"
        if seconds
        else "ask for fewer GPUs or allow more",
    )


def _name(route: Route) -> str:
    return route.kind.name if route.kind else "CPUs"


def _shorter(one: int | None, other: int | None) -> int | None:
    return min((each for each in (one, other) if each is not None), default=None)


def _inf(seconds: int | None) -> float:
    return float("inf") if seconds is None else seconds


def capped_on_cpus(
    need: Need, found: Route, cap_micros: int, currency: str
) -> Route | tuple[Reason, ...]:
    """Rule C-402 for a job without GPUs: it may cost something where CPUs have a price."""
    if not has_price(found.use, prices_at(need.book, need.now)):
        return found
    capped = cheapest(need, [found], cap_micros, currency)
    return capped if isinstance(capped, Route) else (capped,)
