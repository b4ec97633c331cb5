"""What funds have left, and how amounts are taken from them (rules B-003, B-004).

A job draws on the levels of its line, from its user's own funds up to the cluster's. Within one
level the funds are drawn on in order of position: first what is available, then what may be
overdrawn, and what must be had all the same is the last one's. Nothing is set aside on funds
without a limit: there is nothing to run out of.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.model.ledger import Posting
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy.ledger.affording import amount_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from slurm_gpu_policy.model.ledger import Bucket, Fund, Kind
    from slurm_gpu_policy.model.prices import Cost, Unit

Level = tuple[str, str]
"""An account, and a user in it or ``""``; the cluster's own is ``("", "")``."""
CLUSTER: Final[Level] = ("", "")


@record
class Short:
    """One level that has too little left; amounts in its unit."""

    account: str
    user: str
    budgets: tuple[str, ...]
    unit: Unit
    left: int
    """Available, and what may be overdrawn; may be negative."""
    needed: int


def levels(account: str, user: str, parents: Mapping[str, str]) -> tuple[Level, ...]:
    """Return the levels that jobs of a user in an account draw on, the lowest first."""
    line: list[Level] = [(account, user)] if account and user else []
    name = account
    while name and (name, "") not in line:
        line.append((name, ""))
        name = parents.get(name, "")
    return (*line, CLUSTER)


def is_present(fund: Fund, at: int) -> bool:
    """Whether what is set aside at this moment (Unix seconds) is set aside on this fund."""
    return not fund.closed and fund.start <= at and (fund.end is None or at < fund.end)


def present_funds(funds: Iterable[Fund], level: Level, at: int) -> tuple[Fund, ...]:
    """Return a level's funds of one moment, in the order in which they are drawn on."""
    found = [fund for fund in funds if fund.level == level and is_present(fund, at)]
    return tuple(sorted(found, key=_order))


def _order(fund: Fund) -> tuple[int, int]:
    return fund.position, fund.fund_id


class Shelf:
    """The funds of one level and unit, in the order in which they are drawn on."""

    def __init__(self, funds: Sequence[Fund]) -> None:
        self.funds = tuple(sorted(funds, key=_order))
        self.unit = self.funds[0].unit
        self.level = self.funds[0].level
        self.ids = frozenset(fund.fund_id for fund in self.funds)
        self.cuts = frozenset(
            cut for fund in self.funds for cut in (fund.start, fund.end) if cut is not None
        )
        self._at: int | None = None
        self._present: tuple[Fund, ...] = ()

    def present(self, at: int) -> tuple[Fund, ...]:
        """Return the open funds of one moment."""
        if at != self._at:
            self._present = tuple(fund for fund in self.funds if is_present(fund, at))
            self._at = at
        return self._present

    def covering(self, start: int) -> tuple[Fund, ...]:
        """Return the funds, closed ones too, in whose time a part that begins at *start* lies."""
        if len(self.funds) == 1:
            fund = self.funds[0]
            lies = fund.start <= start and (fund.end is None or start < fund.end)
            return self.funds if lies else ()
        return tuple(
            [
                fund
                for fund in self.funds
                if fund.start <= start and (fund.end is None or start < fund.end)
            ]
        )


class Line:
    """What the jobs of one user in one account draw on, level by level."""

    def __init__(self, shelves: Sequence[Shelf]) -> None:
        self.shelves = tuple(shelves)
        self.ids: frozenset[int] = frozenset().union(*(shelf.ids for shelf in shelves))
        self._cuts = sorted(frozenset().union(*(shelf.cuts for shelf in shelves)))

    def cuts(self, start: int, end: int) -> list[int]:
        """Return the limits of periods within (start, end), in order."""
        return self._cuts[bisect_right(self._cuts, start) : bisect_left(self._cuts, end)]


class Funds:
    """Funds, with what is left of them as entries are added; :attr:`postings` has these."""

    def __init__(
        self, funds: Iterable[Fund], parents: Mapping[str, str], *, actor: str = ""
    ) -> None:
        """*parents* has the account above each; *actor* stands in the entries."""
        self._parents = parents
        self._actor = actor
        self.by_id: dict[int, Fund] = {}
        self.available: dict[int, int] = {}
        self.postings: list[Posting] = []
        by_shelf: dict[tuple[Level, Unit], list[Fund]] = {}
        for fund in funds:
            self.by_id[fund.fund_id] = fund
            self.available[fund.fund_id] = fund.available
            by_shelf.setdefault((fund.level, fund.unit), []).append(fund)
        self._shelves: dict[Level, list[Shelf]] = {}
        for (level, _), found in by_shelf.items():
            self._shelves.setdefault(level, []).append(Shelf(found))
        self._lines: dict[tuple[str, str], Line] = {}

    def line(self, account: str, user: str) -> Line:
        """Return the funds that jobs of a user in an account draw on."""
        line = self._lines.get((account, user))
        if line is None:
            line = self.line_of(levels(account, user, self._parents))
            self._lines[account, user] = line
        return line

    def line_of(self, line: Iterable[Level]) -> Line:
        """Return what is drawn on along these levels."""
        return Line([shelf for level in line for shelf in self._shelves.get(level, ())])

    def left(self, funds: Iterable[Fund]) -> int | None:
        """Return what these have left with what may be overdrawn; ``None`` without any limit."""
        total = 0
        for fund in funds:
            if fund.unlimited:
                return None
            total += self.available[fund.fund_id] + fund.overdraft
        return total

    def spread(self, funds: Sequence[Fund], amount: int) -> list[tuple[Fund, int]]:
        """Return how much of *amount* to take from each; the last one has to give the rest."""
        last = funds[-1]
        if len(funds) == 1 or amount <= 0:
            return [(last, amount)]
        taken = {fund.fund_id: 0 for fund in funds}
        for overdraws in (False, True):
            for fund in funds:
                left = self.available[fund.fund_id] - taken[fund.fund_id]
                left += fund.overdraft if overdraws else 0
                more = max(0, min(left, amount))
                taken[fund.fund_id] += more
                amount -= more
        taken[last.fund_id] += amount
        return [(fund, taken[fund.fund_id]) for fund in funds if taken[fund.fund_id]]

    def short(self, line: Line, cost: Cost, at: int) -> tuple[Short, ...]:
        """Return the levels of a line that have too little left for something new."""
        found = []
        for shelf in line.shelves:
            present = shelf.present(at)
            left = self.left(present) if present else None
            needed = cost.amount(shelf.unit)
            if left is not None and needed > max(left, 0):
                found.append(short_of(shelf, present, left, needed))
        return tuple(found)

    def reserve(self, claim_id: int, line: Line, cost: Cost, at: int, *, rule: str) -> None:
        """Set *cost* aside for a claim that has nothing yet, whether it is there or not (B-003)."""
        for shelf in line.shelves:
            present = shelf.present(at)
            if not present or any(fund.unlimited for fund in present):
                continue
            for fund, amount in self.spread(present, cost.amount(shelf.unit)):
                if amount:
                    self.post(
                        "reserve",
                        fund.fund_id,
                        "available",
                        "reserved",
                        amount,
                        rule=rule,
                        claim_id=claim_id,
                    )

    def post(  # noqa: PLR0913 - an entry's fields
        self,
        kind: Kind,
        fund_id: int,
        source: Bucket,
        target: Bucket,
        amount: int,
        *,
        rule: str,
        reason: str = "",
        gpu_seconds: int = 0,
        claim_id: int | None = None,
        batch: str = "",
    ) -> None:
        """Add an entry."""
        if source == "available":
            self.available[fund_id] = self.available.get(fund_id, 0) - amount
        elif target == "available":
            self.available[fund_id] = self.available.get(fund_id, 0) + amount
        self.postings.append(
            Posting(
                kind,
                fund_id,
                source,
                target,
                amount,
                rule,
                self._actor,
                reason,
                gpu_seconds,
                claim_id,
                batch,
            )
        )


def short_of(shelf: Shelf, present: Sequence[Fund], left: int, needed: int) -> Short:
    """Return that a level has too little left."""
    account, user = shelf.level
    budgets = tuple(fund.budget for fund in present)
    return Short(account, user, budgets, shelf.unit, left, needed)


def short_words(short: Short, currency: str) -> str:
    """Rule B-001: say why something is not covered."""
    whose = f"{short.user} in account {short.account}" if short.user else f"account {short.account}"
    return (
        f"the budget of {whose} has {amount_words(short.left, short.unit, currency)} left, and the "
        f"job may cost {amount_words(short.needed, short.unit, currency)}"
    )


def reserve(  # noqa: PLR0913 - by name
    claim_id: int,
    cost: Cost,
    line: Sequence[Level],
    funds: Iterable[Fund],
    at: int,
    *,
    rule: str,
    actor: str,
    must: bool = False,
) -> tuple[Posting, ...] | tuple[Short, ...]:
    """Return the entries that set *cost* aside on all levels of *line*, or those that are short.

    *must*: also where it is not there. For several claims one after another: :class:`Funds`.
    """
    wanted = frozenset(line)
    books = Funds((fund for fund in funds if fund.level in wanted), {}, actor=actor)
    whole = books.line_of(line)
    short = () if must else books.short(whole, cost, at)
    if short:
        return short
    books.reserve(claim_id, whole, cost, at, rule=rule)
    return tuple(books.postings)
