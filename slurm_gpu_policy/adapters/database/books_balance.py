"""What entries do to funds and legs, before they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from slurm_gpu_policy.adapters.database.books_rows import LARGEST, need_small
from slurm_gpu_policy.model.ledger import MOVES
from slurm_gpu_policy.policy import rules

if TYPE_CHECKING:
    from slurm_gpu_policy.model.ledger import ClaimState, Posting


class Balance(NamedTuple):
    """The sums of a fund's entries, as FUNDS keeps them."""

    available: int
    reserved: int
    spent: int
    in_flight: int
    entries: int


BALANCES: Final = Balance._fields

REFUNDS: Final = (rules.REFUND_NODE, rules.REFUND_PREEMPTION, rules.REFUND_BY_HAND)
"""A charge under one of these rules takes a refund back."""

_Legs = dict[tuple[int, int], tuple[int, ...]]
_NO_LEG: Final = (0, 0, 0, 0)


class Changes:
    """Adds entries to what stands in the books, one after another.

    *legs* are (reserved, charged, refunded, gpu_seconds) by claim and fund; *counts* says how
    many entries there are by claim, fund and kind; all claims and funds that entries name must be
    in *states* and *balances*.
    """

    def __init__(
        self,
        *,
        balances: dict[int, Balance],
        states: dict[int, ClaimState],
        legs: _Legs,
        counts: dict[tuple[int, int, str], int],
    ) -> None:
        self._balances = balances
        self._states = states
        self._legs = legs
        self._counts = counts
        self._changed: set[tuple[int, int]] = set()

    def add(self, posting: Posting) -> int:
        """Add one entry, and return its sequence.

        Raises:
            ValueError: as :meth:`slurm_gpu_policy.services.ledger.books.Books.post` says.
        """
        if not 0 <= posting.amount <= LARGEST or abs(posting.gpu_seconds) > LARGEST:
            need_small((posting.amount, posting.gpu_seconds), f"a {posting.kind}")
            msg = f"a {posting.kind} of {posting.amount} is negative"
            raise ValueError(msg)
        if (posting.source, posting.target) not in MOVES[posting.kind]:
            msg = f"a {posting.kind} does not move from {posting.source} to {posting.target}"
            raise ValueError(msg)
        if posting.claim_id is None:
            self._move(posting, in_flight=False)
            return 0
        self._move(posting, in_flight=self._states[posting.claim_id] == "running")
        key = posting.claim_id, posting.fund_id
        self._legs[key] = _after(posting, *self._legs.get(key, _NO_LEG))
        self._changed.add(key)
        place = (*key, posting.kind)
        sequence = self._counts.get(place, 0)
        self._counts[place] = sequence + 1
        return sequence

    def changed_legs(self) -> list[tuple[int, ...]]:
        """Return the rows of LEGS that are to be written."""
        return [(*key, *self._legs[key]) for key in sorted(self._changed)]

    def changed_balances(self) -> list[tuple[int, ...]]:
        """Return the rows of FUNDS that are to be written: the id, then BALANCES."""
        return [(fund_id, *balance) for fund_id, balance in self._balances.items()]

    def _move(self, posting: Posting, *, in_flight: bool) -> None:
        available, reserved, spent, flying, entries = self._balances[posting.fund_id]
        amount, source, target = posting.amount, posting.source, posting.target
        available += (target == "available") * amount - (source == "available") * amount
        spent += (target == "spent") * amount - (source == "spent") * amount
        more = (target == "reserved") * amount - (source == "reserved") * amount
        reserved += more
        if in_flight:
            flying += more
        if reserved < 0 or flying < 0:
            msg = f"the reservations of fund {posting.fund_id} would be negative"
            raise ValueError(msg)
        if max(available, reserved, spent) > LARGEST or min(available, spent) < -LARGEST:
            msg = f"fund {posting.fund_id} would hold more than the books can (64 bits)"
            raise ValueError(msg)
        self._balances[posting.fund_id] = Balance(available, reserved, spent, flying, entries + 1)


def _after(
    posting: Posting, reserved: int, charged: int, refunded: int, gpu_seconds: int
) -> tuple[int, ...]:
    """Return what a claim has of a fund after an entry, from what it had before."""
    if posting.target == "reserved":
        reserved += posting.amount
    elif posting.source == "reserved":
        reserved -= posting.amount
    if posting.target == "spent" and posting.source == "available" and posting.rule in REFUNDS:
        refunded -= posting.amount
    elif posting.target == "spent":
        charged += posting.amount
        gpu_seconds += posting.gpu_seconds
    elif posting.source == "spent":
        if posting.rule == rules.BUDGET_CORRECTION:
            charged -= posting.amount
            gpu_seconds -= posting.gpu_seconds
        else:
            refunded += posting.amount
    for number, words in (
        (reserved, "have less than nothing reserved"),
        (charged, "be charged less than nothing"),
        (refunded, "give back more than was refunded"),
    ):
        if number < 0:
            msg = f"claim {posting.claim_id} would {words} (fund {posting.fund_id})"
            raise ValueError(msg)
    if max(reserved, charged, refunded, abs(gpu_seconds)) > LARGEST:
        msg = f"claim {posting.claim_id} would hold more than the books can (64 bits)"
        raise ValueError(msg)
    return reserved, charged, refunded, gpu_seconds
