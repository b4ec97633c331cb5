"""What people ask of the books: to see how money stands, and to move it.

Who asks is what the kernel or MUNGE says of the other end, never what the request says. An
account that somebody may not see is answered exactly as one that does not exist. Amounts are
texts of whole numbers, in micro-units of the currency or GPU-seconds.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from slurm_gpu_policy.errors import ControllerUnavailable, RequestError
from slurm_gpu_policy.policy.ledger.keeping import keeps_books
from slurm_gpu_policy.services.ledger import asked as fields
from slurm_gpu_policy.services.ledger.entries import page
from slurm_gpu_policy.services.ledger.granting import Granting, need_operator
from slurm_gpu_policy.services.ledger.importing import Importing
from slurm_gpu_policy.services.ledger.membership import Membership
from slurm_gpu_policy.services.ledger.outlook import forecast
from slurm_gpu_policy.services.ledger.promising import Promising
from slurm_gpu_policy.services.ledger.refunding import Refunding
from slurm_gpu_policy.services.ledger.statement import budgets, statement
from slurm_gpu_policy.services.ledger.writing import Writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.caller import Caller
    from slurm_gpu_policy.policy.ledger.allowed import Rights
    from slurm_gpu_policy.services.directory import Directory
    from slurm_gpu_policy.services.ledger.books import LedgerPort
    from slurm_gpu_policy.services.ports import Clock, SlurmPort

    Handler = Callable[[Caller, Mapping[str, Any]], dict[str, Any]]

_WRITES: Final = frozenset({"grant", "transfer", "close", "import"})
_LONG_READINGS: Final = 2
"""Of four workers on the socket."""


class Reconciles(Protocol):
    """Compares the books with Slurm's accounting."""

    def __call__(self, since: int | None, *, repair: bool = False) -> dict[str, Any]:
        """Return ``entries``, ``checked`` and ``differences`` of what ended from *since* on.

        Unix seconds; ``None``: as far back as the books go. *repair* lets charging read the
        accounting from there once more.
        """
        ...


class Turns:
    """Lets few long readings go on at once, and one of each user, so that others are answered.

    Operators wait for nobody.
    """

    def __init__(self, most: int) -> None:
        self._free: list[None] = [None] * most
        self._whose: dict[str, object] = {}

    @contextmanager
    def take(self, rights: Rights) -> Iterator[None]:
        """Hold a turn; each step is one that no other thread comes between.

        Raises:
            ControllerUnavailable: none is free.
        """
        if rights.operates:
            yield
            return
        mine = object()
        if self._whose.setdefault(rights.user, mine) is not mine:
            msg = "another statement or forecast of yours is being made: try again after it"
            raise ControllerUnavailable(msg)
        try:
            try:
                self._free.pop()
            except IndexError as error:
                msg = "too many statements and forecasts are being made: try again"
                raise ControllerUnavailable(msg) from error
            try:
                yield
            finally:
                self._free.append(None)
        finally:
            del self._whose[rights.user]


class Treasury:
    """Answers requests, several at once and beside a tick: the database has writers take turns.

    *policy* returns the policy in force.
    """

    REQUESTS: ClassVar[frozenset[str]] = frozenset(
        {
            "budget", "statement", "forecast", "entries", "verify", "reconcile",
            "grant", "transfer", "refund", "close", "import",
            "promise", "withdraw",
        }
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        *,
        ledger: LedgerPort,
        slurm: SlurmPort,
        policy: Callable[[], Policy],
        clock: Clock,
        directory: Directory,
        reconcile: Reconciles | None = None,
    ) -> None:
        self._ledger = ledger
        self._policy = policy
        self._clock = clock
        self._reconciles = reconcile
        self._membership = Membership(slurm, directory, clock)
        self._turns = Turns(_LONG_READINGS)
        writing = Writing(ledger, clock)
        granting = Granting(writing, self._membership, policy)
        promising = Promising(
            ledger=ledger, slurm=slurm, policy=policy, clock=clock, directory=directory
        )
        self._handlers: Mapping[str, Handler] = {
            "budget": self._budget,
            "statement": self._statement,
            "forecast": self._forecast,
            "entries": lambda caller, asked: page(ledger, self._rights(caller), asked),
            "verify": self._verify,
            "reconcile": self._reconcile,
            "grant": granting.grant,
            "transfer": granting.transfer,
            "close": granting.close,
            "refund": Refunding(writing, self._membership, slurm, policy).refund,
            "import": Importing(writing, self._membership, policy).take,
            "promise": promising.promise,
            "withdraw": promising.withdraw,
        }

    def handle(self, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to one request, as JSON takes it; ``request["request"]`` is its name.

        A request that writes carries an ``id`` that its client made up: the same one again is
        answered as before, and writes nothing.

        Raises:
            RequestError: a request that cannot be understood, or that makes no sense.
            NotAllowed: the caller may not; the text says who may.
            SlurmError, RecordsUnavailable: as the ports have it; nothing was done.
        """
        name = request.get("request")
        handler = self._handlers.get(name) if isinstance(name, str) else None
        if handler is None:
            msg = f"{str(name)[:80]!r} is no request: it is one of {', '.join(self._handlers)}"
            raise RequestError(msg)
        if name in _WRITES and not keeps_books(self._policy()):
            msg = "no books are kept here: `budgets`, `pricing` or `ledger.keep` in the policy file"
            raise RequestError(msg)
        return handler(caller, request)

    def _rights(self, caller: Caller) -> Rights:
        return self._membership.rights(caller, self._policy())

    def _budget(self, caller: Caller, asked: Mapping[str, Any]) -> dict[str, Any]:
        rights, currency = self._rights(caller), self._policy().currency
        return budgets(self._ledger, rights, asked, self._clock.now(), currency)

    def _statement(self, caller: Caller, asked: Mapping[str, Any]) -> dict[str, Any]:
        rights = self._rights(caller)
        with self._turns.take(rights):
            return statement(self._ledger, rights, asked, self._policy(), self._clock.now())

    def _forecast(self, caller: Caller, asked: Mapping[str, Any]) -> dict[str, Any]:
        rights, currency = self._rights(caller), self._policy().currency
        with self._turns.take(rights):
            return forecast(self._ledger, rights, asked, self._clock.now(), currency)

    def _verify(self, caller: Caller, _asked: Mapping[str, Any]) -> dict[str, Any]:
        """Add all entries up anew; ``checked`` says how many funds that is about."""
        need_operator(self._rights(caller), "check the books")
        with self._ledger.reading() as books:
            entries, checked = books.count_entries(), len(books.funds())
        return {
            "entries": entries,
            "checked": checked,
            "differences": list(self._ledger.problems()),
        }

    def _reconcile(self, caller: Caller, asked: Mapping[str, Any]) -> dict[str, Any]:
        need_operator(self._rights(caller), "compare the books with the accounting")
        since = fields.time(asked, "since")
        if self._reconciles is None:
            msg = "this program cannot compare the books with the accounting"
            raise RequestError(msg)
        return self._reconciles(since, repair=fields.flag(asked, "repair"))
