"""Setting aside what submissions may cost (rule B-003): atomic, and undone if no job follows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from slurm_gpu_policy.errors import NotAllowed, RequestError
from slurm_gpu_policy.model.ledger import Claim, Posting
from slurm_gpu_policy.model.prices import Cost, Use
from slurm_gpu_policy.model.promise import Ask, Promise, Purse
from slurm_gpu_policy.model.snapshot import Part
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.ledger.budget import Funds
from slurm_gpu_policy.policy.ledger.keeping import keeps_books
from slurm_gpu_policy.policy.prices.pricing import HOUR_SECONDS, cost, in_force, price_book
from slurm_gpu_policy.units import MICRO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.caller import Caller
    from slurm_gpu_policy.policy.ledger.budget import Shelf
    from slurm_gpu_policy.services.directory import Directory
    from slurm_gpu_policy.services.ledger.books import Books, BooksView, LedgerPort
    from slurm_gpu_policy.services.ports import Clock, SlurmPort

_MOST_ASKS: Final = 1000
_MOST_PROMISES: Final = 2000
"""Of one user, that wait for their jobs."""
_MOST_TYPES: Final = 64
"""Of GPUs, in one job."""
_LARGEST: Final = 2**40
"""Of any number in a request."""
_LONGEST: Final = 255
"""Of any text in a request."""


class Promising:
    """Answers ``promise`` and ``withdraw``; for several threads at once."""

    def __init__(
        self,
        *,
        ledger: LedgerPort,
        slurm: SlurmPort,
        policy: Callable[[], Policy],
        clock: Clock,
        directory: Directory,
    ) -> None:
        self._ledger = ledger
        self._slurm = slurm
        self._policy = policy
        self._clock = clock
        self._directory = directory

    def promise(self, caller: Caller, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Set aside what some jobs may cost, all or nothing; see PromisePort.

        Raises:
            RequestError: the request makes no sense.
            NotAllowed: as PromisePort has it.
        """
        asks = _asks(asked.get("asks"))
        parents = self._parents(caller, asks)
        now = self._clock.now()
        if asked.get("only_look") is True or not keeps_books(self._policy()):
            with self._ledger.reading() as view:
                promises = self._purses(view, asks, parents, now)
        else:
            with self._ledger.writing() as books:
                promises = self._purses(books, asks, parents, now)
                if all(one.covered for one in promises):
                    self._keep(caller, books, asks, parents, now)
        return {"promises": [promise_fields(one) for one in promises]}

    def withdraw(self, caller: Caller, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Give back what was set aside under some tokens; those that have a job keep theirs.

        Raises:
            RequestError: the request makes no sense.
            NotAllowed: a token is another user's.
        """
        tokens = asked.get("tokens")
        if not isinstance(tokens, list) or len(tokens) > _MOST_ASKS:
            msg = f"tokens: wanted a list of at most {_MOST_ASKS} texts"
            raise RequestError(msg)
        with self._ledger.writing() as books:
            found = [books.promise(_text("token", token)) for token in tokens]
            given_back = [one for one in found if one is not None and one.state == "promised"]
            for user in {one.user for one in given_back} - {caller.user}:
                self._need_operator(caller, user)
            release(books, given_back, self._clock.now(), caller.user, "it was not submitted")
        return {"withdrawn": len(given_back)}

    def _purses(
        self, view: BooksView, asks: Sequence[Ask], parents: Mapping[str, str], now: int
    ) -> tuple[Promise, ...]:
        """Return what each ask would get if it came after those before it."""
        funds = Funds(view.funds(open_only=True), parents)
        promises = []
        for ask in asks:
            if self._is_kept(view, ask):
                promises.append(Promise(ask.token))
                continue
            line, cost = funds.line(ask.account, ask.user), self._cost(view, ask, now)
            covered = not funds.short(line, cost, now)
            if covered:
                funds.reserve(0, line, cost, now, rule=rules.BUDGET_RESERVE)
            promises.append(Promise(ask.token, tuple(_in(line.shelves, funds, cost, now)), covered))
        return tuple(promises)

    def _keep(
        self,
        caller: Caller,
        books: Books,
        asks: Sequence[Ask],
        parents: Mapping[str, str],
        now: int,
    ) -> None:
        """Rule B-003: set aside what was found to be there."""
        new = [ask for ask in asks if not self._is_kept(books, ask)]
        for user in {ask.user for ask in new}:
            more = sum(ask.user == user for ask in new)
            if books.count_promises(user) + more > _MOST_PROMISES:
                msg = f"{user} has too many submissions under way: try again in some minutes"
                raise RequestError(msg)
        claims = books.save([_claim(ask, now) for ask in new])
        funds = Funds(books.funds(open_only=True), parents, actor=caller.user)
        for ask, claim in zip(new, claims, strict=True):
            line, cost = funds.line(ask.account, ask.user), self._cost(books, ask, now)
            funds.reserve(claim.claim_id, line, cost, now, rule=rules.BUDGET_RESERVE)
        books.post(now, funds.postings)

    def _is_kept(self, view: BooksView, ask: Ask) -> bool:
        """Whether this was asked before, and the answer was lost on its way."""
        known = view.promise(ask.token)
        if known is not None and (known.user, known.account) != (ask.user, ask.account):
            msg = "this token is another submission's: make a new one"
            raise RequestError(msg)
        return known is not None

    def _cost(self, view: BooksView, ask: Ask, now: int) -> Cost:
        """Return what a job may cost if it starts now; without a time limit, in an hour."""
        policy = self._policy()
        over = policy.submission.over_budget_qos
        if over is not None and ask.use.qos.lower() == over.lower():
            return Cost()
        book = in_force(view.tariffs()) or price_book(policy)
        one = cost(ask.use, now, now + (ask.seconds or HOUR_SECONDS), book)
        return Cost(ask.tasks * one.micros, ask.tasks * one.gpu_seconds)

    def _parents(self, caller: Caller, asks: Sequence[Ask]) -> Mapping[str, str]:
        """Return each account's parent, if the caller may ask for these users and accounts."""
        for ask in asks:
            if ask.user != caller.user:
                self._need_operator(caller, ask.user)
        parents: dict[str, str] = {}
        for user in {ask.user for ask in asks}:
            found = self._slurm.read(Part.ASSOCIATIONS, user=user).associations
            theirs = {one.account for one in found if one.user}
            parents |= {one.account: one.parent for one in found if not one.user}
            for ask in asks:
                if ask.user == user and ask.account not in theirs:
                    msg = f"{user} has no place in the account {ask.account}"
                    raise NotAllowed(msg)
        return parents

    def _need_operator(self, caller: Caller, user: str) -> None:
        config = self._slurm.read(Part.CONFIG).config
        if not self._directory.is_operator(caller, self._policy(), config):
            msg = f"{caller.user} may not spend for {user}"
            raise NotAllowed(msg)


def release(books: Books, claims: Sequence[Claim], now: int, actor: str, reason: str) -> None:
    """Rule B-004: give back what is set aside for these claims, and end them."""
    if not claims:
        return
    books.save([replace(claim, state="ended", end_time=now) for claim in claims])
    postings = [
        Posting(
            "release", leg.fund_id, "reserved", "available", leg.reserved,
            rules.BUDGET_RELEASE, actor, reason, claim_id=claim.claim_id,
        )
        for claim in claims
        for leg in claim.legs
        if leg.reserved
    ]  # fmt: skip
    books.post(now, postings)


def _claim(ask: Ask, now: int) -> Claim:
    return Claim(
        ask.account,
        ask.user,
        "promised",
        token=ask.token,
        use=ask.use,
        tasks=ask.tasks,
        seconds=ask.seconds,
        known_since=now,
    )


def _in(line: Sequence[Shelf], funds: Funds, cost: Cost, now: int) -> Iterator[Purse]:
    """Yield what is left on each level that has a limit."""
    for shelf in line:
        present = shelf.present(now)
        left = funds.left(present) if present else None
        if left is None:
            continue
        account, user = shelf.level
        yield Purse(
            account,
            user,
            tuple(fund.budget for fund in present),
            shelf.unit,
            left,
            cost.amount(shelf.unit),
            sum(fund.granted for fund in present),
            any(
                fund.soft is not None
                and (fund.granted - funds.available[fund.fund_id]) * MICRO
                >= fund.granted * fund.soft
                for fund in present
            ),
        )


# --- as JSON --------------------------------------------------------------------------------


def ask_fields(ask: Ask) -> dict[str, Any]:
    """Return an ask as it goes over the socket."""
    use = ask.use
    return {
        "token": ask.token,
        "account": ask.account,
        "user": ask.user,
        "gpus": dict(use.gpus),
        "cpus": use.cpus,
        "memory_mb": use.memory_mb,
        "partition": use.partition,
        "qos": use.qos,
        "seconds": ask.seconds,
        "tasks": ask.tasks,
    }


def _asks(value: object) -> tuple[Ask, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= _MOST_ASKS:
        msg = f"asks: wanted a list of 1 to {_MOST_ASKS} objects"
        raise RequestError(msg)
    asks = tuple(_ask(one) for one in value)
    if len({ask.token for ask in asks}) != len(asks):
        msg = "asks: two of them have the same token"
        raise RequestError(msg)
    return asks


def _ask(value: object) -> Ask:
    if not isinstance(value, dict):
        msg = f"asks: {value!r} is no object"
        raise RequestError(msg)
    gpus = value.get("gpus")
    if not isinstance(gpus, dict) or len(gpus) > _MOST_TYPES:
        msg = f"gpus: wanted an object of counts by type, at most {_MOST_TYPES}"
        raise RequestError(msg)
    use = Use(
        gpus={_text("gpus", kind): _number("gpus", count) for kind, count in gpus.items()},
        cpus=_number("cpus", value.get("cpus", 0)),
        memory_mb=_number("memory_mb", value.get("memory_mb", 0)),
        partition=_text("partition", value.get("partition", "")),
        qos=_text("qos", value.get("qos", "")),
    )
    ask = Ask(
        token=_text("token", value.get("token")),
        account=_text("account", value.get("account")).lower(),
        user=_text("user", value.get("user")),
        use=use,
        seconds=_number("seconds", value.get("seconds", 0)),
        tasks=_number("tasks", value.get("tasks", 1)),
    )
    if not (ask.token and ask.account and ask.user and ask.tasks):
        msg = "asks: token, account, user and tasks are needed"
        raise RequestError(msg)
    return ask


def _number(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST:
        msg = f"{name}: {value!r} is no number from 0 to {_LARGEST}"
        raise RequestError(msg)
    return value


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST or not value.isprintable():
        msg = f"{name}: {str(value)[:80]!r} is no name"
        raise RequestError(msg)
    return value


def promise_fields(promise: Promise) -> dict[str, Any]:
    """Return a promise as it goes over the socket."""
    return {
        "token": promise.token,
        "covered": promise.covered,
        "purses": [
            {name: getattr(purse, name) for name in purse.__dataclass_fields__}
            for purse in promise.purses
        ],
    }


def promise_of(fields: Mapping[str, Any]) -> Promise:
    """Return what :func:`promise_fields` made.

    Raises:
        KeyError, TypeError: these are no such fields.
    """
    purses = tuple(Purse(**{**one, "budgets": tuple(one["budgets"])}) for one in fields["purses"])
    return Promise(fields["token"], purses, fields["covered"])
