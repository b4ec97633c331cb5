"""Moving money by hand (rule B-012): grants, taking back, transfers, and closing budgets."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from slurm_gpu_policy.errors import NotAllowed, RequestError
from slurm_gpu_policy.model.ledger import Fund, Posting
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.ledger.affording import amount_words
from slurm_gpu_policy.policy.ledger.allowed import WHO_GRANTS, WHO_OPERATES
from slurm_gpu_policy.policy.ledger.budget import is_present
from slurm_gpu_policy.services.ledger import asked as fields
from slurm_gpu_policy.services.ledger.entries import written_json
from slurm_gpu_policy.services.ledger.funding import GRANTED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.caller import Caller
    from slurm_gpu_policy.model.ledger import Bucket, Kind
    from slurm_gpu_policy.model.prices import Unit
    from slurm_gpu_policy.policy.ledger.allowed import Rights
    from slurm_gpu_policy.services.ledger.books import Books
    from slurm_gpu_policy.services.ledger.membership import Membership
    from slurm_gpu_policy.services.ledger.writing import Writing

HAND_MADE: Final = "granted"
"""Name of a budget that an operator makes without naming it."""
_LAST: Final = 1000
"""Position of funds made by hand: they are drawn on after those of the policy file."""

_OUT: Final[tuple[Bucket, Bucket]] = ("available", "site")
_IN: Final[tuple[Bucket, Bucket]] = ("site", "available")


class Granting:
    """Answers ``grant``, ``transfer`` and ``close``."""

    def __init__(
        self, writing: Writing, membership: Membership, policy: Callable[[], Policy]
    ) -> None:
        self._writing = writing
        self._membership = membership
        self._policy = policy

    def grant(self, caller: Caller, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Give a budget an amount, or take one back; for operators, and coordinators below theirs.

        An account without a budget gets one that lasts until ``end``, or for good.

        Raises:
            NotAllowed: the caller may not (:meth:`Rights.distributes`).
            RequestError: no such account, more than is there to take, another unit than the
                account's, or several budgets it could be.
        """
        rights = self._membership.rights(caller, self._policy())
        level = _level(rights, asked, "grant")
        gift = Gift(
            *level,
            fields.name(asked, "budget"),
            fields.amount(asked),
            fields.unit(asked),
            fields.time(asked, "start"),
            fields.time(asked, "end"),
            fields.reason(asked),
            force=fields.flag(asked, "force") and rights.operates,
        )

        is_known = self._membership.has(gift.account, gift.user)
        currency = self._policy().currency

        def decide(books: Books, batch: str, now: int) -> tuple[Posting, ...]:
            levels = ByLevel(books)
            _need_right(rights, levels.limited(now), level, "grant")
            if not is_known:
                need_known(levels, gift)
            return (given(levels, gift, caller.user, batch, now, currency),)

        return written_json(self._writing.once(caller, asked, decide))

    def transfer(self, caller: Caller, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Move an amount from one budget to another; for who manages both accounts.

        Raises:
            NotAllowed: the caller does not manage both, or one of them does not exist; or it would
                raise what operators granted above.
            RequestError: they are of different units, or the one has less than that left.
        """
        ends = [_end(asked, "from"), _end(asked, "to")]
        rights = self._membership.rights(caller, self._policy())
        if not all(rights.manages(account) for account, _user, _budget in ends):
            msg = (
                f"{caller.user} may not move money from {ends[0][0]!r} to {ends[1][0]!r}: "
                "operators may, and coordinators of both accounts (or of accounts above them)"
            )
            raise NotAllowed(msg)
        amount = fields.amount(asked)
        if amount < 0:
            msg = "amount: a transfer is of more than 0; swap the two sides for the other direction"
            raise RequestError(msg)
        why = fields.reason(asked)
        force = fields.flag(asked, "force") and rights.operates
        currency = self._policy().currency

        def decide(books: Books, batch: str, now: int) -> tuple[Posting, ...]:
            source, target = (_need_fund(ByLevel(books), *end, now) for end in ends)
            if source.fund_id == target.fund_id:
                msg = "from and to are the same budget"
                raise RequestError(msg)
            if source.unit != target.unit:
                msg = "the two budgets are not of one unit: one is of money, one of GPU time"
                raise RequestError(msg)
            if not rights.moves(source.level, target.level, ByLevel(books).limited(now)):
                msg = (
                    f"{_where(*target.level)} would have more than was granted: money goes down to "
                    "accounts and users below, or to others beside; up, operators may move it"
                )
                raise NotAllowed(msg)
            _need_left(source, amount, currency, force=force)
            return (
                by_hand("transfer", source, _OUT, amount, caller.user, why, batch),
                by_hand("transfer", target, _IN, amount, caller.user, why, batch),
            )

        return written_json(self._writing.once(caller, asked, decide))

    def close(self, caller: Caller, asked: Mapping[str, Any]) -> dict[str, Any]:
        """End a budget now: what is left expires, a debt is written off; for who may grant.

        In its place, until its period ends, is an empty one: the account is not without a budget,
        which would be without a limit. What is set aside for running jobs goes over to that one
        with the next tick, as its debt.

        Raises:
            NotAllowed: the caller may not (:meth:`Rights.distributes`).
            RequestError: there is no such budget, or several, or it is empty.
        """
        rights = self._membership.rights(caller, self._policy())
        level = _level(rights, asked, "close budgets")
        end = *level, fields.name(asked, "budget")
        why = fields.reason(asked)

        def decide(books: Books, batch: str, now: int) -> tuple[Posting, ...]:
            levels = ByLevel(books)
            _need_right(rights, levels.limited(now), level, "close budgets")
            fund = _need_fund(levels, *end, now)
            if not (fund.available or fund.reserved or fund.spent):
                msg = f"{_where(fund.account, fund.user)} has nothing in it"
                raise RequestError(msg)
            empty = _replaced_by_empty(books, fund, now) if fund.start < now else fund
            move = _OUT if fund.available >= 0 else _IN
            left = by_hand("expire", fund, move, abs(fund.available), caller.user, why, batch)
            if not fund.overdraft:
                return (left,)
            # What may be overdrawn is nothing that is left, either.
            return left, by_hand("adjust", empty, _OUT, fund.overdraft, caller.user, why, batch)

        return written_json(self._writing.once(caller, asked, decide))


def _level(rights: Rights, asked: Mapping[str, Any], what: str) -> tuple[str, str]:
    """Return the account and user that a request is about, if its caller manages that account.

    Raises:
        NotAllowed: they do not; whether there is such an account is not said.
    """
    if not (rights.operates or rights.coordinated):
        raise _not_allowed(rights, what)
    account = fields.needed("account", fields.account(asked))
    if not rights.manages(account):
        raise _not_allowed(rights, what)
    return account, fields.name(asked, "user")


def _need_right(
    rights: Rights, limited: frozenset[tuple[str, str]], level: tuple[str, str], what: str
) -> None:
    if not rights.distributes(level, limited):
        raise _not_allowed(rights, what)


def _not_allowed(rights: Rights, what: str) -> NotAllowed:
    return NotAllowed(f"{rights.user} may not {what}: {WHO_GRANTS}")


def _replaced_by_empty(books: Books, fund: Fund, now: int) -> Fund:
    """End a fund, and open one for the rest of its period to which nothing will be granted.

    What the policy file granted is kept by fund: the empty one has had it, and the old one has
    nothing that could roll over into the next.
    """
    books.change_funds([replace(fund, end=now)])
    (empty,) = books.open_funds([replace(fund, start=now, fund_id=0)])
    granted = books.mark(f"{GRANTED}{fund.fund_id}")
    if granted is not None:
        books.set_mark(f"{GRANTED}{empty.fund_id}", granted)
        books.set_mark(f"{GRANTED}{fund.fund_id}", 0)
    return empty


@record
class Gift:
    """What is to be granted to whom; a negative amount is taken back."""

    account: str
    user: str
    budget: str
    amount: int
    unit: Unit
    start: int | None
    end: int | None
    reason: str
    force: bool = False
    """Whether also what is spent or set aside may be taken back."""


class ByLevel:
    """Funds by their level, read once: a table has thousands of rows, and the others wait."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._found: dict[tuple[str, str], list[Fund]] = {}
        for fund in books.funds():
            self._found.setdefault(fund.level, []).append(fund)

    def at(self, account: str, user: str, *, open_only: bool = True) -> list[Fund]:
        """Return the funds of a level."""
        found = self._found.get((account, user), [])
        return [fund for fund in found if not (open_only and fund.closed)]

    def limited(self, now: int) -> frozenset[tuple[str, str]]:
        """Return the levels that have a budget at present."""
        return frozenset(
            level
            for level, found in self._found.items()
            if any(is_present(fund, now) and not fund.unlimited for fund in found)
        )

    def open(self, fund: Fund) -> Fund:
        """Add a fund, or return the one that is there already."""
        (made,) = self._books.open_funds([fund])
        level = self._found.setdefault(made.level, [])
        if made.fund_id not in {one.fund_id for one in level}:
            level.append(made)
        return made


def need_known(levels: ByLevel, gift: Gift) -> None:
    """Refuse an account or a user of which the books know nothing, nor does Slurm: a slip.

    Raises:
        RequestError: nobody knows them.
    """
    if not levels.at(gift.account, gift.user, open_only=False):
        who = f"no user {gift.user!r} in its account" if gift.user else "no account"
        msg = f"Slurm has {who} {gift.account!r}"
        raise RequestError(msg)


def given(  # noqa: PLR0913, PLR0917 - as an entry has them
    levels: ByLevel, gift: Gift, actor: str, batch: str, now: int, currency: str
) -> Posting:
    """Return the entry of a grant, and make the fund that it goes to if there is none.

    Raises:
        RequestError: as :meth:`Granting.grant`.
    """
    fund = _fund_for(levels, gift, now)
    if fund.unit != gift.unit:
        has, given_in = ("money", "GPU time") if fund.unit == "money" else ("GPU time", "money")
        msg = f"{_where(fund.account, fund.user)} is budgeted in {has}: {given_in} cannot be added"
        raise RequestError(msg)
    if gift.amount > 0:
        return by_hand("grant", fund, _IN, gift.amount, actor, gift.reason, batch)
    _need_left(fund, -gift.amount, currency, force=gift.force)
    return by_hand("adjust", fund, _OUT, -gift.amount, actor, gift.reason, batch)


def _fund_for(levels: ByLevel, gift: Gift, now: int) -> Fund:
    """Return the fund that a grant goes to."""
    level = gift.account, gift.user
    if gift.end is not None and gift.end <= max(gift.start or now, now):
        msg = "end: it lies before the start, or has passed"
        raise RequestError(msg)
    if gift.start is None and gift.end is None:
        found = _present(levels, *level, gift.budget, now)
        if found is not None:
            return found
    if gift.amount < 0:
        msg = f"{_where(*level)} has no such budget at the moment: nothing can be taken back"
        raise RequestError(msg)
    others = {fund.unit for fund in levels.at(*level) if not fund.unlimited}
    if others - {gift.unit}:
        has = "money" if "money" in others else "GPU time"
        msg = f"{_where(*level)} is budgeted in {has}: all its budgets are of one unit"
        raise RequestError(msg)
    made = levels.open(
        Fund(
            gift.budget or HAND_MADE,
            *level,
            unit=gift.unit,
            start=now if gift.start is None else gift.start,
            end=gift.end,
            position=_LAST,
        )
    )
    if made.closed or made.end != gift.end:
        msg = (
            f"{_where(*level)} has a budget {made.budget!r} of another end from that time on: "
            "name another budget"
        )
        raise RequestError(msg)
    return made


def _present(levels: ByLevel, account: str, user: str, budget: str, now: int) -> Fund | None:
    """Return the open fund of a level at present, of a budget if one is named.

    Raises:
        RequestError: there are several.
    """
    found = [
        fund
        for fund in levels.at(account, user)
        if not fund.unlimited and is_present(fund, now) and budget in {"", fund.budget}
    ]
    if len(found) > 1:
        names = ", ".join(sorted({fund.budget for fund in found}))
        msg = f"{_where(account, user)} has several budgets; say which one: {names}"
        raise RequestError(msg)
    return found[0] if found else None


def _need_fund(levels: ByLevel, account: str, user: str, budget: str, now: int) -> Fund:
    fund = _present(levels, account, user, budget, now)
    if fund is None:
        which = f" {budget!r}" if budget else ""
        msg = f"{_where(account, user)} has no budget{which} at the moment"
        raise RequestError(msg)
    return fund


def _need_left(fund: Fund, amount: int, currency: str, *, force: bool) -> None:
    """Refuse to take what is spent or set aside for jobs, unless an operator insists."""
    if amount <= fund.available or force:
        return
    left = amount_words(max(fund.available, 0), fund.unit, currency)
    msg = (
        f"{_where(fund.account, fund.user)} has {left} available; the rest is spent or set aside "
        "for jobs (an operator may insist: --force)"
    )
    raise RequestError(msg)


def by_hand(  # noqa: PLR0913, PLR0917 - an entry's fields, in its order
    kind: Kind,
    fund: Fund,
    move: tuple[Bucket, Bucket],
    amount: int,
    actor: str,
    reason: str,
    batch: str,
) -> Posting:
    """Return an entry by rule B-012."""
    source, target = move
    return Posting(
        kind,
        fund.fund_id,
        source,
        target,
        amount,
        rules.BUDGET_BY_HAND,
        actor,
        reason,
        batch=batch,
    )


def need_operator(rights: Rights, what: str) -> None:
    """Refuse whoever is no operator, before anything else is looked at.

    Raises:
        NotAllowed: the caller is none.
    """
    if not rights.operates:
        msg = f"{rights.user} may not {what}: {WHO_OPERATES}"
        raise NotAllowed(msg)


def _end(asked: Mapping[str, Any], side: str) -> tuple[str, str, str]:
    """Return account, user and budget of one side of a transfer."""
    value = asked.get(side)
    if not isinstance(value, dict):
        msg = f"{side}: {str(value)[:80]!r} is no object with account, user and budget"
        raise RequestError(msg)
    account = fields.needed(f"{side}.account", fields.account(value))
    return account, fields.name(value, "user"), fields.name(value, "budget")


def _where(account: str, user: str) -> str:
    return f"user {user!r} in account {account!r}" if user else f"account {account!r}"
