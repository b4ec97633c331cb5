"""What the rest of the controller is told of the books."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.model.ledger import LedgerState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.ledger import FundView
    from slurm_gpu_policy.model.prices import Unit
    from slurm_gpu_policy.policy.ledger.budget import Level
    from slurm_gpu_policy.services.ledger.books import BooksView
    from slurm_gpu_policy.services.ledger.funding import Terms


def ledger_state(
    books: BooksView,
    terms: Terms,
    uncovered: Mapping[JobId, str],
    spending: Mapping[tuple[Level, Unit], int],
    problems: tuple[str, ...],
) -> LedgerState:
    """Return the state of the books; *spending* is what running jobs have cost by level."""
    views = books.views([fund.fund_id for fund in books.funds(open_only=True)])
    return LedgerState(
        time=terms.now,
        views=views,
        uncovered=uncovered,
        overspent=_overspent(views, spending, terms.now),
        parents=terms.parents,
        pace=_pace(views, terms.now),
        problems=problems,
    )


def _present(views: Sequence[FundView], now: int) -> list[FundView]:
    return [
        view
        for view in views
        if not view.fund.unlimited
        and view.fund.start <= now
        and (view.fund.end is None or now < view.fund.end)
    ]


def _overspent(
    views: Sequence[FundView], spending: Mapping[tuple[Level, Unit], int], now: int
) -> Mapping[Level, int]:
    """Return by how much what ran and runs has exceeded a level's funds and their overdraft."""
    left: dict[tuple[Level, Unit], int] = {}
    for view in _present(views, now):
        fund = view.fund
        key = (fund.level, fund.unit)
        left[key] = left.get(key, 0) + fund.available + fund.reserved + fund.overdraft
    return {
        level: running - left[level, unit]
        for (level, unit), running in spending.items()
        if running > left.get((level, unit), running)
    }


def _pace(views: Sequence[FundView], now: int) -> Mapping[str, float]:
    """Return how much faster than evenly accounts spend what their present periods granted.

    An account's first fund counts that has an end and was granted anything.
    """
    pace: dict[str, float] = {}
    for view in sorted(_present(views, now), key=lambda one: one.fund.position):
        fund = view.fund
        if fund.user or fund.end is None or fund.granted <= 0 or fund.account in pace:
            continue
        passed = (now - fund.start) / (fund.end - fund.start)
        if passed > 0:
            pace[fund.account] = fund.spent / (fund.granted * passed)
    return pace
