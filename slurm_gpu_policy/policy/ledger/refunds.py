"""What a refund gives back of each fund that paid for a run (rule C-411)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from slurm_gpu_policy.model.ledger import Claim, Fund, Leg


def refund_parts(
    legs: Iterable[Leg], funds: Mapping[int, Fund], numerator: int, denominator: int
) -> dict[int, int]:
    """Return by fund what is given back, of ``numerator / denominator`` of what was charged.

    Each level that paid gets back the same part of what it paid, cut to a whole unit; within a
    level it goes to its funds in proportion to what is left of their charges, and the parts add
    up exactly. Funds that get nothing are left out.

    Raises:
        ValueError: somewhere that is more than was charged less what was given back before.
    """
    levels: dict[tuple[str, str], list[Leg]] = {}
    for leg in legs:
        levels.setdefault(funds[leg.fund_id].level, []).append(leg)
    parts: dict[int, int] = {}
    for level in levels.values():
        charged = sum(leg.charged for leg in level)
        left = sum(leg.charged - leg.refunded for leg in level)
        wanted = charged * numerator // denominator
        if wanted > left:
            msg = f"{wanted} of {left} that are left of {charged}"
            raise ValueError(msg)
        parts |= _divided(level, wanted, left)
    return {fund_id: amount for fund_id, amount in parts.items() if amount}


def _divided(level: Sequence[Leg], wanted: int, left: int) -> dict[int, int]:
    """Divide by cumulative sums, so that no unit is lost and no fund gets more than it paid."""
    parts = {}
    seen = given = 0
    for leg in level:
        seen += leg.charged - leg.refunded
        until = wanted * seen // left if left else 0
        parts[leg.fund_id] = until - given
        given = until
    return parts


def everything_left(legs: Iterable[Leg]) -> dict[int, int]:
    """Return by fund all that can be given back of a run."""
    left = {leg.fund_id: leg.charged - leg.refunded for leg in legs}
    return {fund_id: amount for fund_id, amount in left.items() if amount > 0}


def paid(claim: Claim, funds: Mapping[int, Fund]) -> tuple[int, int, int]:
    """Return what a run cost in micro-units, what of it was given back, and its GPU-seconds.

    That stands on the cluster's own funds, where every run is charged once.
    """
    own = [leg for leg in claim.legs if funds[leg.fund_id].level == ("", "")]
    return (
        sum(leg.charged for leg in own),
        sum(leg.refunded for leg in own),
        sum(leg.gpu_seconds for leg in own),
    )
