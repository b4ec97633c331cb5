"""Keeping the funds as the policy file wants them, period by period (rule B-005)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.ledger.budget import CLUSTER, Funds
from slurm_gpu_policy.policy.ledger.funding import (
    close_fund,
    cluster_openings,
    is_due,
    plan_funding,
)
from slurm_gpu_policy.policy.ledger.periods import is_over, users_by_account, zone_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.ledger import Fund
    from slurm_gpu_policy.model.snapshot import Snapshot
    from slurm_gpu_policy.policy.ledger.charging import Priced
    from slurm_gpu_policy.policy.ledger.funding import FundingPlan
    from slurm_gpu_policy.services.ledger.books import Books, BooksView, LedgerPort

READ_UNTIL: Final = "accounting"
"""The mark up to which the accounting is known whole (Unix seconds)."""
READ_SINCE: Final = "accounting_since"
"""The mark from which on it was read: what ended before is in no books."""
GRANTED: Final = "policy:"
"""Before a fund's id: the mark with what the policy file has granted to it."""
_PATIENCE_SECONDS: Final = 86_400
"""How long a period that is over waits for runs that have not been charged up to its end."""


@record
class Terms:
    """What one run of charging goes by."""

    now: int
    policy: Policy
    parents: Mapping[str, str]
    actor: str
    priced: Priced


class Funding:
    """Opens, changes and closes funds; knows the closed ones, which are not read each time."""

    def __init__(self, ledger: LedgerPort) -> None:
        self._ledger = ledger
        self._closed: dict[int, Fund] = {}
        self._open: frozenset[int] | None = None
        self._granted: dict[int, int | None] = {}

    def funds(self, books: BooksView) -> list[Fund]:
        """Return all funds; balances of closed ones may be old."""
        current = books.funds(open_only=True)
        ids = frozenset(fund.fund_id for fund in current)
        if self._open is None or not self._open <= ids:
            self._closed = {fund.fund_id: fund for fund in books.funds() if fund.closed}
        self._open = ids
        return [*current, *self._closed.values()]

    def working(self, books: BooksView, terms: Terms, since: int | None = None) -> Funds:
        """Return the funds to draw on for what ran after *since* (Unix seconds)."""
        found = self.funds(books)
        if since is not None:
            found = [fund for fund in found if not fund.closed or (fund.end or 0) > since]
        return Funds(found, terms.parents, actor=terms.actor)

    def keep(self, snapshot: Snapshot, terms: Terms) -> None:
        """Bring the funds to what the policy file wants for this moment."""
        users = users_by_account(snapshot.associations)
        with self._ledger.reading() as books:
            is_done = self._plan(books, users, terms).is_empty
        if is_done:
            return
        with self._ledger.writing() as writable:
            self._carry_out(writable, users, terms)

    def _plan(
        self, books: BooksView, users: Mapping[str, tuple[str, ...]], terms: Terms
    ) -> FundingPlan:
        funds = self.funds(books)
        return plan_funding(
            terms.policy,
            users=users,
            funds=funds,
            granted=self._read_granted(books, funds),
            read_until=books.mark(READ_UNTIL),
            at=terms.now,
        )

    def _read_granted(self, books: BooksView, funds: Sequence[Fund]) -> Mapping[int, int]:
        """Return what the policy file has granted to open funds; read anew when there are others,
        since closing a budget by hand passes it on to the fund that takes its place.
        """
        if any(fund.fund_id not in self._granted for fund in funds if not fund.closed):
            marks = books.marks(GRANTED)
            self._granted = {
                fund.fund_id: marks.get(f"{GRANTED}{fund.fund_id}")
                for fund in funds
                if not fund.closed
            }
        return {fund_id: kept for fund_id, kept in self._granted.items() if kept is not None}

    def _carry_out(self, books: Books, users: Mapping[str, tuple[str, ...]], terms: Terms) -> None:
        self._granted = {}
        plan = self._plan(books, users, terms)
        self._granted = {}  # as the block may be given up
        books.change_funds(plan.changes)
        opened = books.open_funds([opening.fund for opening in plan.openings])
        funds = Funds((), {}, actor=terms.actor)
        amounts = [
            *plan.amounts,
            *(
                (fund, None, opening.amount)
                for fund, opening in zip(opened, plan.openings, strict=True)
                if not fund.unlimited
            ),
        ]
        for fund, before, amount in amounts:
            self._grant(funds, fund, before, amount)
            books.set_mark(f"{GRANTED}{fund.fund_id}", amount)
        books.post(terms.now, funds.postings)

    @staticmethod
    def _grant(funds: Funds, fund: Fund, before: int | None, amount: int) -> None:
        rule = rules.BUDGET_PERIOD
        if before is None:
            if amount:
                funds.post("grant", fund.fund_id, "site", "available", amount, rule=rule,
                           reason="by the policy file")  # fmt: skip
        elif amount > before:
            funds.post("adjust", fund.fund_id, "site", "available", amount - before, rule=rule,
                       reason="the policy file was changed")  # fmt: skip
        else:
            funds.post("adjust", fund.fund_id, "available", "site", before - amount, rule=rule,
                       reason="the policy file was changed")  # fmt: skip

    def reach_back(self, books: Books, terms: Terms, since: int) -> None:
        """See that the cluster has funds from *since* (Unix seconds) on: every run is charged."""
        missing = cluster_openings(terms.policy, self.funds(books), since)
        if missing:
            books.open_funds(missing)

    def close(self, terms: Terms) -> None:
        """Close the funds whose period is over and whose accounting has been read."""
        with self._ledger.reading() as books:
            until = min(books.mark(READ_UNTIL) or 0, terms.now)
            due = [fund for fund in books.funds(open_only=True) if is_due(fund, until)]
            owed = self._owed(books, due, terms) if due else frozenset()
        if all(fund.fund_id in owed for fund in due):
            return
        with self._ledger.writing() as writable:
            current = writable.funds(open_only=True)
            due = [fund for fund in current if is_due(fund, until) and fund.fund_id not in owed]
            funds = Funds(current, {}, actor=terms.actor)
            for fund in sorted(due, key=lambda one: (one.end or 0, one.fund_id)):
                budget = terms.policy.budgets.get(fund.budget)
                goes_on = budget is not None and not is_over(
                    budget, fund.end or 0, zone_of(terms.policy)
                )
                roll_over = budget.roll_over if budget is not None and goes_on else 0
                granted = writable.mark(f"{GRANTED}{fund.fund_id}") or 0
                close_fund(fund, funds, current, granted, roll_over)
            writable.post(terms.now, funds.postings)
            writable.change_funds([replace(fund, closed=True) for fund in due])

    def _owed(self, books: BooksView, due: Sequence[Fund], terms: Terms) -> frozenset[int]:
        """Return the funds that runs which go on have not paid yet for their time in them.

        The queue was read before now, perhaps when the period was not over. What is suspended for
        long is not waited for.
        """
        ends = {
            fund.fund_id: fund.end
            for fund in due
            if fund.end is not None and terms.now - fund.end < _PATIENCE_SECONDS
        }
        if not ends:
            return frozenset()
        funds = Funds(due, terms.parents)
        owed: set[int] = set()
        for claim in books.open_claims():
            if claim.start_time is None:
                continue
            until = claim.start_time + claim.seconds
            for fund_id in funds.line(claim.account, claim.user).ids & ends.keys():
                if claim.start_time < ends[fund_id] and until <= ends[fund_id]:
                    owed.add(fund_id)
        return frozenset(owed)


def first_month(funds: Sequence[Fund], now: int) -> int:
    """Return from when on new books read the accounting: the beginning of the present month."""
    return max(
        (fund.start for fund in funds if fund.level == CLUSTER and fund.start <= now), default=now
    )
