"""When budgets run out, if they go on being spent as in the last days."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from slurm_gpu_policy.policy.ledger.budget import is_present
from slurm_gpu_policy.policy.ledger.burning import DAY_SECONDS, Piece, burn
from slurm_gpu_policy.services.ledger import asked as fields
from slurm_gpu_policy.services.ledger.statement import chosen_funds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from slurm_gpu_policy.model.ledger import Claim, Fund
    from slurm_gpu_policy.policy.ledger.allowed import Rights
    from slurm_gpu_policy.services.ledger.books import BooksView, LedgerPort

    Level = tuple[str, str]

_DAYS: Final = 14
_MOST_DAYS: Final = 366


def forecast(
    ledger: LedgerPort, rights: Rights, asked: Mapping[str, Any], now: int, currency: str
) -> dict[str, Any]:
    """Return for each account and user with budgets when these run out; whose: as for budgets.

    Counted is what ran in the last ``days`` (14): ended runs by what they were charged less
    refunds, running ones by what they have cost so far. ``left`` is what is neither charged nor
    used up by a running job: also what is set aside for jobs.

    Raises:
        NotAllowed: there is no such account or user, as far as the caller may know.
    """
    window = fields.number(asked, "days", 1, _MOST_DAYS) or _DAYS
    chosen = chosen_funds(rights, asked)
    with ledger.reading() as books:
        every = books.funds()
        present = [
            fund
            for fund in every
            if fund.account and is_present(fund, now) and rights.sees_fund(fund) and chosen(fund)
        ]
        levels: dict[Level, list[Fund]] = defaultdict(list)
        for fund in present:
            levels[fund.level].append(fund)
        views = {view.fund.fund_id: view for view in books.views([one.fund_id for one in present])}
        began = _began(books, now)
        first = {
            level: max(
                now - window * DAY_SECONDS,
                began,
                min(fund.start for fund in every if fund.level == level),
            )
            for level in levels
        }
        pieces, accrued = _pieces(books, rights, every, levels, now - window * DAY_SECONDS, now)
    found = []
    for level in sorted(levels, key=lambda one: (len(rights.line(one[0])), one)):
        funds = levels[level]
        running = accrued[level]
        left = sum(fund.available + fund.reserved for fund in funds) - running
        how = burn(pieces[level], left, first[level], now)
        ends = [fund.end for fund in funds if fund.end is not None]
        found.append(
            {
                "account": level[0],
                "user": level[1],
                "budgets": [fund.budget for fund in funds],
                "unit": funds[0].unit,
                "available": str(sum(fund.available for fund in funds)),
                "in_flight": str(sum(views[fund.fund_id].in_flight for fund in funds)),
                "committed": str(sum(views[fund.fund_id].committed for fund in funds)),
                "accrued": str(running),
                "left": str(left),
                "per_day": str(round(how.per_day)),
                "days": round(how.days, 2),
                "certainty": how.certainty,
                "runs_out": how.runs_out,
                "earliest": how.earliest,
                "latest": how.latest,
                "period_end": min(ends, default=None),
            }
        )
    return {"forecasts": found, "currency": currency, "time": now}


def _began(books: BooksView, now: int) -> int:
    """Return when the books began, as far as their first entry tells."""
    first = tuple(books.entries(limit=1))
    return first[0].time if first else now


def _pieces(  # noqa: PLR0913, PLR0917 - what it counts, for whom, and when
    books: BooksView,
    rights: Rights,
    every: Iterable[Fund],
    levels: Mapping[Level, list[Fund]],
    start: int,
    end: int,
) -> tuple[Mapping[Level, list[Piece]], Mapping[Level, int]]:
    """Return what each level spent when, and how much of it running jobs have not been charged."""
    level_of = {fund.fund_id: fund.level for fund in every if fund.level in levels}
    pieces: dict[Level, list[Piece]] = defaultdict(list)
    accrued: dict[Level, int] = defaultdict(int)
    for claim in books.claims_between(start, end):
        if claim.start_time is None:
            continue
        for level in _levels_of(claim, rights, levels):
            charged = sum(
                leg.charged - leg.refunded
                for leg in claim.legs
                if level_of.get(leg.fund_id) == level
            )
            amount, until = charged, claim.end_time
            if claim.state == "running":
                amount = claim.accrued.amount(levels[level][0].unit)
                until = claim.accrued_until
                accrued[level] += max(amount - charged, 0)
            if until is not None and until > claim.start_time and amount > 0:
                pieces[level].append(Piece(claim.start_time, until, amount))
    return pieces, accrued


def _levels_of(claim: Claim, rights: Rights, levels: Mapping[Level, object]) -> Iterator[Level]:
    """Yield the levels that a run draws on, of those that are looked at."""
    accounts = rights.line(claim.account) or (claim.account,)
    for level in ((claim.account, claim.user), *((account, "") for account in accounts)):
        if level in levels:
            yield level
