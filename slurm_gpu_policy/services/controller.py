"""One controller: what it is made of, whether it leads, and what it answers on its socket.

When a tick is due, and what may go on beside it, is the program's (apps/controller). Nothing in
here is for two threads at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from slurm_gpu_policy.errors import (
    ControllerUnavailable,
    RecordsUnavailable,
    SlurmError,
    SlurmUnreadable,
)
from slurm_gpu_policy.model.people import People
from slurm_gpu_policy.model.snapshot import Part
from slurm_gpu_policy.model.tick import TickReport
from slurm_gpu_policy.policy.approval import verdicts
from slurm_gpu_policy.policy.ledger.over_budget import cover, kept_held
from slurm_gpu_policy.policy.ledger.overspending import endings
from slurm_gpu_policy.policy.ordering import site_factors
from slurm_gpu_policy.policy.over_quota import moves
from slurm_gpu_policy.policy.retry import retries
from slurm_gpu_policy.policy.terms import Measured
from slurm_gpu_policy.services.act import error_name
from slurm_gpu_policy.services.control import Control
from slurm_gpu_policy.services.history import History
from slurm_gpu_policy.services.leading import Leading
from slurm_gpu_policy.services.ledger.treasury import Treasury
from slurm_gpu_policy.services.tick import PARTS, Tick, Wanted, decide

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.action import Action, Vote
    from slurm_gpu_policy.model.caller import Caller
    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.ledger import LedgerState
    from slurm_gpu_policy.model.snapshot import Snapshot
    from slurm_gpu_policy.services.directory import Directory
    from slurm_gpu_policy.services.ledger.money import Money
    from slurm_gpu_policy.services.ports import Clock, ObserverPort, RecordsPort, SlurmPort
    from slurm_gpu_policy.services.tick import Decider

_LEASE_TICKS: Final = 1.5
_ELSEWHERE: Final = "this controller does not lead: the one that does keeps the books"


class Controller:
    """Implements what ``gpu-policyd`` does; one object for the life of the process."""

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        *,
        policy: Policy,
        slurm: SlurmPort,
        open_records: Callable[[str], RecordsPort],
        clock: Clock,
        directory: Directory,
        observers: Sequence[ObserverPort],
        actor: str,
        holder: str,
        tick_seconds: float | None = None,
        open_money: Callable[[str, Callable[[], Policy]], Money] | None = None,
    ) -> None:
        """*open_records* takes the cluster's name, which only Slurm knows.

        *open_money* takes it too, and what returns the policy in force.

        *holder* is this process's name in the lease; *tick_seconds* goes before the policy's.
        """
        self.policy = policy
        self._slurm = slurm
        self._open_records = open_records
        self._clock = clock
        self._directory = directory
        self._observers = observers
        self._actor = actor
        self._holder = holder
        self._tick_seconds = tick_seconds
        self._open_money = open_money
        self._money: Money | None = None
        self._history = History(slurm, clock)
        self._is_stopping: Callable[[], bool] = lambda: False
        self._leading: Leading | None = None
        self._tick: Tick | None = None
        self._control: Control | None = None
        self._led = False
        self._last: TickReport | None = None
        self._problems: tuple[str, ...] = ()

    # --- pace ------------------------------------------------------------------------------

    @property
    def tick_seconds(self) -> float:
        """Time from one tick to the next."""
        return self._tick_seconds or self.policy.controller.tick

    @property
    def lease_seconds(self) -> float:
        """How long a leader that is not heard of stays the leader."""
        return self.policy.controller.lease or _LEASE_TICKS * self.tick_seconds

    @property
    def heartbeat_seconds(self) -> float:
        """How often :meth:`keep_lead` is to be called."""
        return self._leading.heartbeat_seconds if self._leading else self.lease_seconds / 10

    @property
    def renewals(self) -> int:
        """How often the lease has been renewed, as last seen: it grows while somebody leads."""
        return self._leading.renewals if self._leading else 0

    # --- leading and ticks -----------------------------------------------------------------

    def stop_when(self, is_stopping: Callable[[], bool]) -> None:
        """Let a tick end after the batch under way once ``is_stopping()``."""
        self._is_stopping = is_stopping

    def keep_lead(self) -> bool:
        """Renew the lease, or take it if it is free; return whether this controller leads.

        Raises:
            RecordsUnavailable: the database is away; a leader's lease runs out by itself.
            SlurmError: while the cluster's name is not known yet.
        """
        if self._leading is None:
            self._begin()
        assert self._leading is not None  # noqa: S101 - for the type checker
        leads = self._leading.tick()
        if self._led and not leads and self._tick is not None:
            self._tick.forget()
        self._led = leads
        return leads

    def run_tick(self) -> TickReport:
        """Do one tick as the leader, and tell the observers."""
        assert self._tick is not None  # noqa: S101 - whoever leads has one
        report = self._tick.run(self.policy)
        self.observe(report)
        return report

    def preview(self) -> tuple[Snapshot, Wanted]:
        """Return what a tick would do now, changing and writing nothing.

        Approvers' votes and the books are left out: reading them could create the database, and
        only a tick brings the books up to date.

        Raises:
            SlurmError: Slurm cannot be read.
        """
        snapshot = self._slurm.read(*PARTS)
        self._history.refresh(self.policy)
        return snapshot, decide(snapshot, self.policy, (), self._deciders())

    def resign(self) -> None:
        """Let another controller lead at once.

        Raises:
            RecordsUnavailable: it leads when the lease has run out.
        """
        if self._leading is not None:
            self._leading.resign()
        self._led = False

    def _begin(self) -> None:
        config = self._slurm.read(Part.CONFIG).config
        if config is None or not config.name:
            msg = "Slurm does not say what its cluster is called (scontrol show config)"
            raise SlurmUnreadable(msg)
        records = self._open_records(config.name)
        if self._open_money is not None:
            self._money = self._open_money(config.name, lambda: self.policy)
        leading = Leading(records, self._clock, self._holder, self.lease_seconds)
        self._tick = Tick(
            slurm=self._slurm,
            records=records,
            clock=self._clock,
            deciders=self._deciders(),
            actor=self._actor,
            refresh=self._history.refresh,
            leads_still=leading.is_leader,
            keeps_lead=leading.tick,
            is_stopping=lambda: self._is_stopping(),  # noqa: PLW0108 - it is set later
            money=self._money,
        )
        self._control = Control(
            slurm=self._slurm,
            records=records,
            policy=lambda: self.policy,
            clock=self._clock,
            directory=self._directory,
            uncovered=self._uncovered,
        )
        self._leading = leading

    def _deciders(self) -> tuple[Decider, ...]:
        """Return the rules, the weightiest first: of two that want different things of a job
        the first one has it.
        """
        return (
            self._verdicts,
            lambda snapshot, policy, _: retries(snapshot, policy),
            self._by_the_books(cover),
            self._by_the_books(endings),
            lambda snapshot, policy, _: moves(snapshot, policy),
            lambda snapshot, policy, _: site_factors(
                snapshot, policy, self._history.known, self._measured()
            ),
        )

    def _books_state(self) -> LedgerState | None:
        """Return how the tick under way left the books; ``None``: nothing is done about money."""
        return self._money.state if self._money is not None else None

    def _by_the_books(
        self, decide_by: Callable[[Snapshot, Policy, LedgerState], tuple[Action, ...]]
    ) -> Decider:
        """Return a decider that goes by the books, and wants nothing without them."""

        def decider(snapshot: Snapshot, policy: Policy, _: tuple[Vote, ...]) -> tuple[Action, ...]:
            state = self._books_state()
            return () if state is None else decide_by(snapshot, policy, state)

        return decider

    def _measured(self) -> Measured:
        state = self._books_state()
        return Measured(budget_pace=None if state is None else state.pace)

    def _verdicts(
        self, snapshot: Snapshot, policy: Policy, votes: tuple[Vote, ...]
    ) -> tuple[Action, ...]:
        try:
            people = self._directory.people({vote.approver for vote in votes}, policy)
        except SlurmError:  # nobody can say who may approve: what asks for it is held, no more
            wanted = verdicts(snapshot, policy, (), People())
            return tuple(action for action in wanted if action.verb == "hold")
        return verdicts(snapshot, policy, votes, people, self._uncovered(policy))

    def _uncovered(self, policy: Policy) -> Collection[JobId]:
        """Return the jobs that an approval does not release, for want of money."""
        state = self._books_state()
        return () if state is None else kept_held(policy, state)

    # --- what is told ----------------------------------------------------------------------

    def observe(self, report: TickReport) -> None:
        """Tell metrics and log of a tick, or of a look at the lease."""
        self._last = report
        for observer in self._observers:
            observer.ticked(report)

    def stands_by(self, began: int) -> None:
        """Tell metrics and log that another controller leads."""
        self.observe(TickReport(began, 0.0, leading=False))

    def failed(self, began: int, seconds: float, error: Exception) -> None:
        """Tell metrics and log that it could not be found out who leads, or of a defect."""
        name = error_name(error)
        self.observe(
            TickReport(began, seconds, leading=False, errors=(name,), messages=(str(error),))
        )

    def loaded(self, policy: Policy) -> None:
        """Go by a policy file that was read again."""
        self.policy = policy
        self._tell_loaded(())

    def not_loaded(self, problems: Sequence[str]) -> None:
        """Go on by the last good policy file, and tell what is wrong with the present one."""
        self._tell_loaded(tuple(problems))

    def _tell_loaded(self, problems: tuple[str, ...]) -> None:
        self._problems = problems
        for observer in self._observers:
            observer.policy_loaded(self._clock.now(), problems)

    # --- what is asked ---------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Return what ``gpu-policy status`` shows; reads nothing, so it never waits."""
        last = self._last
        leads = self._leading is not None and self._leading.is_leader()
        return {
            "actor": self._actor,
            "leading": leads,
            "leader": self._leader(),
            "tick_seconds": self.tick_seconds,
            "enforcement": self.policy.enforcement,
            "policy_problems": list(self._problems),
            "last_time": None if last is None else last.time,
            "last_duration_seconds": None if last is None else round(last.duration_seconds, 3),
            "last_actions": None if last is None else len(last.actions),
            "last_errors": [] if last is None else list(last.messages),
            "pending_jobs": None if last is None else last.pending_jobs,
            "unfinished_entries": None if last is None else last.unfinished_entries,
            "ledger": self._books_status(leads=leads),
        }

    def _books_status(self, *, leads: bool) -> dict[str, Any] | None:
        """Return how the books stand; they are kept by who leads, and where Slurm can be read."""
        told = None if self._money is None else self._money.status()
        last = self._last
        is_kept = leads and (last is None or last.ledger is not None)
        if told is None or is_kept or not told["up_to_date"]:
            return told
        problems = list(last.messages) if last is not None and last.messages else [_ELSEWHERE]
        return {**told, "up_to_date": False, "problems": problems}

    def _leader(self) -> str:
        """Return who leads, as far as is known: a lease of our own that ran out is nobody's."""
        if self._leading is None:
            return ""
        seen = self._leading.leader
        return "" if seen == self._holder and not self._leading.is_leader() else seen

    @staticmethod
    def may_go_beside(request: Mapping[str, Any]) -> bool:
        """Whether :meth:`handle` may be called with this while a tick is under way.

        Requests to the books may: their writers take turns in the database.
        """
        name = request.get("request")
        is_about_money = isinstance(name, str) and name in Treasury.REQUESTS
        return is_about_money and request.get("repair") is not True

    def handle(self, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a request of ``gpu-policy``; only the leader does.

        Raises:
            ControllerUnavailable: this controller does not lead.
            PolicyLayerError: as :meth:`Control.handle`.
        """
        if self._control is None or self._leading is None or not self._leading.is_leader():
            other = self._leader()
            who = f"{other} leads" if other else "nobody leads at the moment"
            if self._last is not None and self._last.messages:
                who = f"{who}: {self._last.messages[0]}"
            msg = f"this gpu-policyd stands by: {who}"
            raise ControllerUnavailable(msg)
        try:
            if self._money is not None and request.get("request") in Treasury.REQUESTS:
                return self._money.treasury.handle(caller, request)
            return self._control.handle(caller, request)
        except RecordsUnavailable as error:
            msg = f"gpu-policyd cannot reach its database: {error}"
            raise RecordsUnavailable(msg) from error
