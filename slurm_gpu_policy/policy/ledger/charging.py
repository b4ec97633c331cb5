"""What entries bring a claim to what it should have (rules B-003 to B-005, B-011, C-406 to C-410).

Everything is target minus posted: what should be set aside and charged is worked out anew, and
the difference to what the claim has already is entered. So whatever is read twice, late, out of
order or after a crash comes to the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.model.prices import Cost
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.ledger.budget import CLUSTER, short_of
from slurm_gpu_policy.policy.prices.pricing import costs, prices_at

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slurm_gpu_policy.model.ledger import Bucket, Claim, Fund, Kind
    from slurm_gpu_policy.model.prices import Tariff, Unit, Use
    from slurm_gpu_policy.policy.ledger.budget import Funds, Line, Shelf, Short

HOUR_SECONDS: Final = 3600
_PERCENT: Final = 100
_NEVER: Final = 2**63
_MOVED: Final = rules.BUDGET_PERIOD
REFUND_RULES: Final[Mapping[str, str]] = {
    "NODE_FAIL": rules.REFUND_NODE,
    "BOOT_FAIL": rules.REFUND_NODE,
    "PREEMPTED": rules.REFUND_PREEMPTION,
}
"""By Slurm's state in which a run ended."""
REFUNDS: Final = frozenset({rules.REFUND_NODE, rules.REFUND_PREEMPTION, rules.REFUND_BY_HAND})


@record
class Part:
    """What a part of a run costs; times in Unix seconds."""

    start: int
    end: int
    cost: Cost
    rule: str = rules.COST_RUN
    is_free: bool = False
    """Whether it costs no GPU-seconds either, for budgets that count these."""

    def amount(self, unit: Unit) -> int:
        """Return what it costs in the unit of a fund."""
        return 0 if self.is_free and unit == "gpu_seconds" else self.cost.amount(unit)


@record
class Priced:
    """What is needed to price runs."""

    book: tuple[Tariff, ...]
    idle_percent: int = 0
    """Surcharge on idle GPU time (rule C-408)."""
    free_qos: str = ""
    """A QOS whose runs count no GPU-seconds of budgets where its factor is 0; in lower case."""


def parts_of(use: Use, cuts: Sequence[int], priced: Priced, *, idle_seconds: int = 0) -> list[Part]:
    """Rule C-410: what a run costs in each of [cuts[i], cuts[i + 1]), and its surcharge."""
    each = costs(use, cuts, priced.book)
    is_free = bool(priced.free_qos) and use.qos.lower() == priced.free_qos
    parts = [
        Part(
            start,
            cuts[place + 1],
            each[place],
            rules.COST_RUN,
            is_free and _is_free(use, start, priced),
        )
        for place, start in enumerate(cuts[:-1])
    ]
    if idle_seconds and priced.idle_percent:
        parts.append(_surcharge(use, parts[-1], idle_seconds, priced))
    return parts


def _is_free(use: Use, at: int, priced: Priced) -> bool:
    factors = prices_at(priced.book, at).qos
    return factors.get(use.qos.lower()) == 0


def _surcharge(use: Use, last: Part, idle_seconds: int, priced: Priced) -> Part:
    """Rule C-408: a surcharge on the price of GPU-seconds that were idle, in the run's last part.

    They are priced as the run's GPUs in that part are on average, without CPUs and memory.
    """
    gpus = type(use)(use.gpus, 0, 0, use.partition, use.qos)
    full = costs(gpus, (last.start, last.end), priced.book)[0]
    micros = 0
    if full.gpu_seconds:
        exact = full.micros * min(idle_seconds, full.gpu_seconds) * priced.idle_percent
        micros = -(-exact // (full.gpu_seconds * _PERCENT))
    return Part(last.start, last.end, Cost(micros, 0), rules.SURCHARGE_IDLE)


def total(parts: Sequence[Part]) -> Cost:
    """Return what parts cost together."""
    return Cost(
        sum(part.cost.micros for part in parts), sum(part.cost.gpu_seconds for part in parts)
    )


def pending_since(claim: Claim, eligible: int | None, book: Sequence[Tariff], now: int) -> int:
    """Return the moment at whose prices something that waits is reserved (rule B-003).

    When it became known, may begin, or prices changed, whichever came last: a moment that does
    not move along with the clock, so that waiting alone makes no entries.
    """
    changed = max((tariff.since for tariff in book if tariff.since <= now), default=0)
    return max(claim.known_since, eligible or 0, changed)


class _Leg:
    """What a claim has of a fund, as entries are added."""

    __slots__ = ("charged", "gpu_seconds", "refunded", "reserved")

    def __init__(self, reserved: int, charged: int, refunded: int, gpu_seconds: int) -> None:
        self.reserved = reserved
        self.charged = charged
        self.refunded = refunded
        self.gpu_seconds = gpu_seconds


class Sheet:
    """One claim while its entries are made; they go to the :class:`Funds` that it draws on."""

    def __init__(self, funds: Funds, claim: Claim, *, is_correction: bool = False) -> None:
        """*is_correction*: its final charge stood in the books already (rule B-011)."""
        self._funds = funds
        self._claim_id = claim.claim_id
        self._is_correction = is_correction
        self._moved: dict[int, int] = {}
        """By closed fund: what entries have added to what is available there."""
        self.legs = {
            leg.fund_id: _Leg(leg.reserved, leg.charged, leg.refunded, leg.gpu_seconds)
            for leg in claim.legs
        }

    # --- charging ----------------------------------------------------------------------------

    def charge(self, line: Line, parts: Sequence[Part]) -> None:
        """Make *parts* all that is charged on every level of the line, and nothing elsewhere."""
        if not self.legs and len(parts) == 1:
            self._charge_new(line, parts[0])
            return
        for shelf in line.shelves:
            placed = [(part, funds) for part in parts if (funds := shelf.covering(part.start))]
            if any(len(funds) > 1 for _, funds in placed):
                self._charge_among(shelf, placed)
            else:
                self._charge_each(shelf, [(part, funds[0]) for part, funds in placed])
        for fund_id, leg in list(self.legs.items()):
            if fund_id not in line.ids:
                self._give_back(fund_id, leg.charged, leg.gpu_seconds)

    def _charge_new(self, line: Line, part: Part) -> None:
        """Charge a run that nothing stands of, within one period: nearly all of a big import."""
        for shelf in line.shelves:
            funds = shelf.covering(part.start)
            amount, seconds = part.amount(shelf.unit), part.cost.gpu_seconds
            if len(funds) > 1:
                self._charge_among(shelf, [(part, funds)])
            elif funds and (amount or seconds or shelf.level == CLUSTER):
                self._take(funds[0].fund_id, amount, seconds, part.rule)

    def _charge_each(self, shelf: Shelf, placed: Sequence[tuple[Part, Fund]]) -> None:
        """Charge a level that has one fund at a time."""
        targets: dict[int, list[int]] = {}
        for part, fund in placed:
            target = targets.setdefault(fund.fund_id, [0, 0, 0])
            amount = part.amount(shelf.unit)
            target[0] += amount
            target[1] += part.cost.gpu_seconds
            target[2] += amount if part.rule == rules.SURCHARGE_IDLE else 0
        for fund_id, (amount, gpu_seconds, surcharge) in targets.items():
            leg = self.legs.get(fund_id)
            more, seconds = amount, gpu_seconds
            if leg is not None:
                more -= leg.charged
                seconds -= leg.gpu_seconds
            self._give_back(fund_id, max(-more, 0), max(-seconds, 0))
            if surcharge and more >= surcharge:
                self._take(fund_id, surcharge, 0, rules.SURCHARGE_IDLE)
                more -= surcharge
            if more > 0 or seconds > 0 or (leg is None and shelf.level == CLUSTER):
                self._take(fund_id, max(more, 0), max(seconds, 0), rules.COST_RUN)
        for fund_id in shelf.ids & self.legs.keys() - targets.keys():
            self._give_back(fund_id, self.legs[fund_id].charged, self.legs[fund_id].gpu_seconds)

    def _charge_among(self, shelf: Shelf, placed: Sequence[tuple[Part, tuple[Fund, ...]]]) -> None:
        """Charge a level that has several funds at a time.

        What they were charged already counts for the parts in their order, first that of the fund
        which ends first, so that it finds its place if there is one. The rest is drawn, and what
        is too much given back.
        """
        mine = sorted(shelf.ids & self.legs.keys())
        standing = {fund_id: self.legs[fund_id].charged for fund_id in mine}
        seconds = sum(part.cost.gpu_seconds for part, _ in placed)
        seconds -= sum(self.legs[fund_id].gpu_seconds for fund_id in mine)
        wanted: list[tuple[tuple[Fund, ...], int, str]] = []
        for part, funds in placed:
            needed = part.amount(shelf.unit)
            for fund in sorted(funds, key=_end):
                counted = min(needed, standing.get(fund.fund_id, 0))
                if counted:
                    standing[fund.fund_id] -= counted
                    needed -= counted
            if needed:
                wanted.append((funds, needed, part.rule))
        for fund_id, amount in standing.items():
            less = min(max(-seconds, 0), self.legs[fund_id].gpu_seconds)
            seconds += less
            self._give_back(fund_id, amount, less)
        if seconds > 0 and not wanted:
            self._take(placed[-1][1][-1].fund_id, 0, seconds, rules.COST_RUN)
        self._draw(wanted, max(seconds, 0))

    def _draw(self, wanted: Sequence[tuple[tuple[Fund, ...], int, str]], gpu_seconds: int) -> None:
        """Charge amounts that several funds may give, and GPU-seconds in proportion to them."""
        whole = sum(amount for _, amount, _ in wanted)
        so_far = given = 0
        for funds, needed, rule in wanted:
            rest = needed
            for fund in funds:  # what is set aside for it comes first
                leg = self.legs.get(fund.fund_id)
                own = min(rest, leg.reserved) if leg is not None else 0
                if own:
                    rest -= own
                    so_far += own
                    part = gpu_seconds * so_far // whole - given
                    given += part
                    self._take(fund.fund_id, own, part, rule)
            for fund, amount in self._funds.spread(funds, rest) if rest else ():
                so_far += amount
                part = gpu_seconds * so_far // whole - given
                given += part
                self._take(fund.fund_id, amount, part, rule)

    def _take(self, fund_id: int, amount: int, gpu_seconds: int, rule: str) -> None:
        """Charge one fund, from what is set aside for the claim there as far as that goes."""
        if self._is_correction:
            rule = rules.BUDGET_CORRECTION
        leg = self.legs.get(fund_id)
        own = min(amount, leg.reserved) if leg is not None else 0
        if own:
            self._post("charge", fund_id, "reserved", "spent", own, rule, gpu_seconds)
            gpu_seconds = 0
        if amount > own or not own:
            self._post("charge", fund_id, "available", "spent", amount - own, rule, gpu_seconds)

    def _give_back(self, fund_id: int, amount: int, gpu_seconds: int) -> None:
        if amount or gpu_seconds:
            rule = rules.BUDGET_CORRECTION
            self._post("refund", fund_id, "spent", "available", amount, rule, gpu_seconds)

    def refund(self, end_state: str, percent: int, given: Mapping[int, int] | None = None) -> None:
        """Rules C-406, C-407: give back so many percent of what each fund was charged.

        *given* is what stands as given back by these rules already, if not all refunds are.
        """
        rule = REFUND_RULES.get(end_state, rules.REFUND_NODE)
        for fund_id, leg in list(self.legs.items()):
            before = leg.refunded if given is None else given.get(fund_id, 0)
            more = leg.charged * percent // _PERCENT - before
            more = min(more, max(leg.charged - leg.refunded, 0)) if more > 0 else more
            reason = "the accounting was corrected"
            if more > 0:
                self._post("refund", fund_id, "spent", "available", more, rule, 0, end_state)
            elif more < 0:
                self._post("charge", fund_id, "available", "spent", -more, rule, 0, reason)
            if leg.refunded > leg.charged:  # by hand, of what is charged no more
                less = leg.refunded - leg.charged
                by_hand = rules.REFUND_BY_HAND
                self._post("charge", fund_id, "available", "spent", less, by_hand, 0, reason)

    # --- setting aside -----------------------------------------------------------------------

    def set_aside(self, line: Line, cost: Cost, at: int, *, must: bool) -> tuple[Short, ...]:
        """Make *cost* all that is set aside on every level of the line, and nothing elsewhere.

        Where it *must* be had, what is there does not matter. Else it is all or nothing: levels
        that have too little left are returned, and nothing stays set aside.
        """
        shelves = []
        for shelf in line.shelves:
            present = shelf.present(at)
            if present and not any(fund.unlimited for fund in present):
                shelves.append((shelf, present))
        places = {fund.fund_id for _, present in shelves for fund in present}
        for fund_id, leg in self.legs.items():
            if leg.reserved and fund_id not in places:
                fund = self._funds.by_id.get(fund_id)
                is_over = fund is None or fund.end is None or fund.end <= at
                self._release(fund_id, leg.reserved, _MOVED if is_over else rules.BUDGET_RELEASE)
        short = () if must else self._short(shelves, cost)
        if short:
            self.release(rules.BUDGET_RELEASE)
            return short
        for shelf, present in shelves:
            self._set_aside_on(present, cost.amount(shelf.unit))
        return ()

    def keep_aside(self, line: Line, at: int) -> None:
        """Move what is set aside on funds whose period is over to the present ones (B-005)."""
        for shelf in line.shelves:
            present = shelf.present(at)
            here = {fund.fund_id for fund in present}
            moved = 0
            for fund_id in sorted((shelf.ids & self.legs.keys()) - here):
                moved += self.legs[fund_id].reserved
                self._release(fund_id, self.legs[fund_id].reserved, _MOVED)
            for fund, amount in self._funds.spread(present, moved) if moved and present else ():
                self._reserve(fund.fund_id, amount, _MOVED)

    def _short(
        self, shelves: Sequence[tuple[Shelf, tuple[Fund, ...]]], cost: Cost
    ) -> tuple[Short, ...]:
        found = []
        for shelf, present in shelves:
            left, held = self._funds.left(present) or 0, self._held_on(present)
            needed = cost.amount(shelf.unit)
            if needed - held > max(left, 0):
                found.append(short_of(shelf, present, left + held, needed))
        return tuple(found)

    def _held_on(self, funds: Sequence[Fund]) -> int:
        legs = (self.legs.get(fund.fund_id) for fund in funds)
        return sum(leg.reserved for leg in legs if leg is not None)

    def _set_aside_on(self, funds: tuple[Fund, ...], amount: int) -> None:
        more = amount - self._held_on(funds)
        if more > 0:
            for fund, part in self._funds.spread(funds, more):
                self._reserve(fund.fund_id, part, rules.BUDGET_RESERVE)
        for fund in reversed(funds) if more < 0 else ():
            leg = self.legs.get(fund.fund_id)
            less = min(-more, leg.reserved) if leg is not None else 0
            more += less
            self._release(fund.fund_id, less, rules.BUDGET_RELEASE)

    def release(self, rule: str) -> None:
        """Set nothing aside any more."""
        for fund_id, leg in self.legs.items():
            self._release(fund_id, leg.reserved, rule)

    def _reserve(self, fund_id: int, amount: int, rule: str) -> None:
        if amount:
            self._post("reserve", fund_id, "available", "reserved", amount, rule)

    def _release(self, fund_id: int, amount: int, rule: str) -> None:
        if amount:
            self._post("release", fund_id, "reserved", "available", amount, rule)

    # --- entries -----------------------------------------------------------------------------

    def _post(  # noqa: PLR0913, PLR0917 - an entry's fields
        self,
        kind: Kind,
        fund_id: int,
        source: Bucket,
        target: Bucket,
        amount: int,
        rule: str,
        gpu_seconds: int = 0,
        reason: str = "",
    ) -> None:
        leg = self.legs.get(fund_id)
        if leg is None:
            leg = self.legs[fund_id] = _Leg(0, 0, 0, 0)
        if source == "reserved":
            leg.reserved -= amount
        elif target == "reserved":
            leg.reserved += amount
        if target == "spent" and rule in REFUNDS:  # takes a refund back
            leg.refunded -= amount
        elif target == "spent":
            leg.charged += amount
            leg.gpu_seconds += gpu_seconds
        elif source == "spent" and rule == rules.BUDGET_CORRECTION:
            leg.charged -= amount
            leg.gpu_seconds -= gpu_seconds
        elif source == "spent":
            leg.refunded += amount
        fund = self._funds.by_id.get(fund_id)
        if fund is not None and fund.closed and not fund.unlimited:
            change = (amount if target == "available" else 0) - (
                amount if source == "available" else 0
            )
            self._moved[fund_id] = self._moved.get(fund_id, 0) + change
        self._funds.post(kind, fund_id, source, target, amount, rule=rule, reason=reason,
                         gpu_seconds=gpu_seconds, claim_id=self._claim_id)  # fmt: skip

    def finish(self) -> None:
        """Rule B-005: let closed funds have what they had, whatever came to be known late."""
        for fund_id, change in self._moved.items():
            if change > 0:
                self._post("expire", fund_id, "available", "site", change, rules.BUDGET_PERIOD)
            elif change < 0:
                self._post("expire", fund_id, "site", "available", -change, rules.BUDGET_PERIOD)
        self._moved = {}


def _end(fund: Fund) -> tuple[int, int]:
    return (fund.end if fund.end is not None else _NEVER), fund.position
