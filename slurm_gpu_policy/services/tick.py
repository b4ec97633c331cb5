"""One tick of the controller: read Slurm once, decide, change what differs, write it down.

A tick is idempotent: all it goes by is what Slurm says now, so one that was interrupted is made
good by the next. No audit, no action: every action has its entry before it begins, and the
entries of a tick that was interrupted are completed by whoever leads next (mending.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.errors import PolicyLayerError, RecordsUnavailable, SlurmError
from slurm_gpu_policy.model.action import AuditEntry
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.model.snapshot import Part
from slurm_gpu_policy.model.tick import LedgerReport, TickReport
from slurm_gpu_policy.policy.approval import vote_key
from slurm_gpu_policy.policy.rules import level_of
from slurm_gpu_policy.services.act import Result, carry_out, error_name
from slurm_gpu_policy.services.mending import mend
from slurm_gpu_policy.services.orders import order_for, put_together

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.action import Action, Level, Outcome, Vote
    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.snapshot import Snapshot
    from slurm_gpu_policy.services.ledger.money import Money
    from slurm_gpu_policy.services.orders import Order
    from slurm_gpu_policy.services.ports import Clock, RecordsPort, SlurmPort

PARTS: Final = (
    Part.JOBS,
    Part.ENDED,
    Part.NODES,
    Part.PARTITIONS,
    Part.ASSOCIATIONS,
    Part.SHARES,
    Part.QOS,
    Part.PRIORITIES,
    Part.RESERVATIONS,
    Part.CONFIG,
)
_BATCH: Final = 500
"""Orders between two looks at whether to stop, and between two writes of the audit log."""
_REMEMBERED: Final = 20_000
"""Entries of the audit log that a new leader reads, to know what has been said already."""

_LONGEST_REST_SECONDS: Final = 3600.0

Decider = Callable[["Snapshot", "Policy", "tuple[Vote, ...]"], "tuple[Action, ...]"]
"""A rule's pure function: what it wants done, from the queue, the policy and the votes."""


@record
class Wanted:
    """One tick's decision: what to do, what to leave at saying, and why it cannot be had."""

    orders: tuple[Order, ...] = ()
    withheld: tuple[tuple[Action, Level], ...] = ()
    """What the level of its rule leaves undone."""
    unable: tuple[tuple[Action, str], ...] = ()
    """Actions that no order can be made of, and why."""


def decide(
    snapshot: Snapshot,
    policy: Policy,
    votes: tuple[Vote, ...],
    deciders: Sequence[Decider],
    is_due: Callable[[Action], bool] = lambda _: True,
) -> Wanted:
    """Return what *deciders*, the weightiest first, want done of what *is_due*."""
    acted: list[Action] = []
    withheld: list[tuple[Action, Level]] = []
    for decider in deciders:
        for action in decider(snapshot, policy, votes):
            if not is_due(action):
                continue
            level = level_of(action.rule, policy)
            if level == "enforce":
                acted.append(action)
            else:
                withheld.append((action, level))
    try:
        return Wanted(put_together(acted, snapshot), tuple(withheld))
    except ValueError:
        good, unable = _sorted_out(acted, snapshot)
        return Wanted(put_together(good, snapshot), tuple(withheld), tuple(unable))


def _sorted_out(
    actions: Sequence[Action], snapshot: Snapshot
) -> tuple[list[Action], list[tuple[Action, str]]]:
    """Part the actions that an order can be made of from those whose mark cannot be written."""
    good: list[Action] = []
    unable: list[tuple[Action, str]] = []
    jobs = {job.job_id: job for job in snapshot.jobs}
    for action in actions:
        try:
            order_for(jobs.get(action.job_id), [action])
        except ValueError as error:
            unable.append((action, str(error)))
        else:
            good.append(action)
    return good, unable


def _may_be_voted_on(snapshot: Snapshot) -> tuple[JobId, ...]:
    """Return the numbers that votes on the jobs of this queue go by: each is marked first."""
    marked = (job for job in snapshot.jobs if "approval=" in job.admin_comment)
    return tuple(dict.fromkeys(vote_key(job) for job in marked))


class Tick:
    """Implements the tick; one object for the life of a controller."""

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        *,
        slurm: SlurmPort,
        records: RecordsPort,
        clock: Clock,
        deciders: Sequence[Decider],
        actor: str,
        refresh: Callable[[Policy], None] = lambda _: None,
        leads_still: Callable[[], bool] = lambda: True,
        keeps_lead: Callable[[], bool] = lambda: True,
        is_stopping: Callable[[], bool] = lambda: False,
        money: Money | None = None,
    ) -> None:
        """*leads_still* is asked before every call that changes anything; it must cost nothing.
        *keeps_lead* renews the lease as well, so that a tick may last longer than that.

        *refresh* brings what the deciders know beside the snapshot up to date, as does *money*,
        where there are books.
        """
        self._slurm = slurm
        self._records = records
        self._clock = clock
        self._deciders = deciders
        self._actor = actor
        self._refresh = refresh
        self._leads_still = leads_still
        self._keeps_lead = keeps_lead
        self._is_stopping = is_stopping
        self._money = money
        self._unsaved: dict[int, tuple[Outcome, str]] = {}
        """Outcomes that the database could not take."""
        self._said: set[tuple[JobId, str, str]] | None = None
        """What was withheld and is in the audit log; ``None`` while nobody has looked."""
        self._resting: dict[tuple[JobId, str, str], tuple[int, float]] = {}
        """What Slurm refused: how often, and until when it is not tried again (monotonic)."""

    def run(self, policy: Policy) -> TickReport:
        """Do one tick, as the leader, and tell what came of it; no error of ours is raised."""
        notes = _Notes(self._clock, self._slurm)
        try:
            self._run(policy, notes)
        except PolicyLayerError as error:
            notes.fail(error)
        return notes.report()

    def forget(self) -> None:
        """Forget what this controller knew as a leader: another one may have led since."""
        self._said = None
        self._unsaved = {}
        self._resting = {}
        if self._money is not None:
            self._money.forget()

    def _run(self, policy: Policy, notes: _Notes) -> None:
        if self._unsaved:
            self._finish(self._unsaved)
            self._unsaved = {}
        left = self._records.unfinished()
        notes.snapshot = snapshot = self._slurm.read(*PARTS)
        voted = _may_be_voted_on(snapshot)
        votes = self._records.votes(voted) if voted else ()
        busy = self._mend(left, snapshot, notes)
        try:
            self._refresh(policy)
        except SlurmError as error:  # slurmdbd is away; what was known before will do
            notes.fail(error)
        self._charge(snapshot, policy, notes)
        now = self._clock.monotonic()

        def is_due(action: Action) -> bool:
            _, until = self._resting.get(_key(action), (0, now))
            return action.job_id not in busy and until <= now

        wanted = decide(snapshot, policy, votes, self._deciders, is_due)
        bound = policy.controller.updates_per_tick
        for start in range(0, min(len(wanted.orders), bound), _BATCH):
            if self._is_stopping() or not self._keeps_lead():
                return
            self._do(wanted.orders[start : min(start + _BATCH, bound)], policy, notes)
        self._say(wanted, snapshot, bound, notes)
        self._follow_up(snapshot, policy, notes)

    def _charge(self, snapshot: Snapshot, policy: Policy, notes: _Notes) -> None:
        """Bring the books up to date, for the deciders to go by."""
        if self._money is not None:
            error = self._money.charge(snapshot, policy)
            if error is not None:
                notes.fail(error)
            notes.ledger = self._money.report

    def _follow_up(self, snapshot: Snapshot, policy: Policy, notes: _Notes) -> None:
        """Let Slurm's own limits and people know of what the books say now."""
        if self._money is not None and not self._is_stopping() and self._keeps_lead():
            for error in self._money.follow(snapshot, policy):
                notes.fail(error)
            notes.ledger = self._money.report

    def _mend(
        self, left: Sequence[AuditEntry], snapshot: Snapshot, notes: _Notes
    ) -> frozenset[JobId]:
        """Complete entries that were left open; return the jobs that are still under way."""
        if not left:
            return frozenset()
        results = mend(self._slurm, left, snapshot, self._leads_still)
        notes.note(left, results, self._clock.now())
        self._finish(_outcomes(results))
        notes.unfinished = sum(result.outcome is None for result in results.values())
        return frozenset(entry.action.job_id for entry in left)

    def _do(self, orders: Sequence[Order], policy: Policy, notes: _Notes) -> None:
        """Carry out a batch: into the audit log, to Slurm, and its end into the audit log."""
        actions = [(action, order) for order in orders for action in order.actions]
        now = self._clock.now()
        ids = self._records.begin(self._actor, now, [(action, "enforce") for action, _ in actions])
        results = carry_out(self._slurm, orders, self._leads_still)
        by_entry = {
            entry_id: results[order.job_id]
            for entry_id, (_, order) in zip(ids, actions, strict=True)
        }
        entries = [
            AuditEntry(entry_id, now, self._actor, action, "enforce")
            for entry_id, (action, _) in zip(ids, actions, strict=True)
        ]
        notes.note(entries, by_entry, self._clock.now())
        self._let_rest(entries, by_entry, policy.controller.tick)
        self._finish(_outcomes(by_entry))

    def _let_rest(
        self, entries: Sequence[AuditEntry], results: Mapping[int, Result], tick_seconds: int
    ) -> None:
        """Try again what Slurm refused after a pause that doubles, instead of in every tick."""
        for entry in entries:
            key = _key(entry.action)
            times, _ = self._resting.pop(key, (0, 0.0))
            if results[entry.entry_id].outcome == "refused":
                pause = min(tick_seconds * 2**times, _LONGEST_REST_SECONDS)
                self._resting[key] = (times + 1, self._clock.monotonic() + pause)

    def _finish(self, outcomes: Mapping[int, tuple[Outcome, str]]) -> None:
        try:
            self._records.finish(self._clock.now(), outcomes)
        except RecordsUnavailable:
            self._unsaved = {**self._unsaved, **outcomes}
            raise

    def _say(self, wanted: Wanted, snapshot: Snapshot, bound: int, notes: _Notes) -> None:
        """Write into the audit log, once for each job and rule, what was not done and why."""
        if self._said is None:
            told = self._records.entries(limit=_REMEMBERED)
            self._said = {_key(entry.action) for entry in told if entry.outcome == "skipped"}
        here = {job.job_id for job in snapshot.jobs}
        self._said = {key for key in self._said if key[0] in here}
        self._resting = {key: rest for key, rest in self._resting.items() if key[0] in here}
        unsaid: list[tuple[Action, Level, str]] = [
            (action, level, f"{action.rule} is at {level}: not done")
            for action, level in wanted.withheld
        ]
        unsaid += [(action, "enforce", words) for action, words in wanted.unable]
        unsaid = [one for one in unsaid if _key(one[0]) not in self._said][:bound]
        if not unsaid:
            return
        now = self._clock.now()
        ids = self._records.begin(self._actor, now, [(a, level) for a, level, _ in unsaid])
        results = {
            entry_id: Result("skipped", words)
            for entry_id, (_, _, words) in zip(ids, unsaid, strict=True)
        }
        entries = [
            AuditEntry(entry_id, now, self._actor, action, level)
            for entry_id, (action, level, _) in zip(ids, unsaid, strict=True)
        ]
        notes.note(entries, results, now)
        self._finish(_outcomes(results))
        self._said |= {_key(action) for action, _, _ in unsaid}


def _key(action: Action) -> tuple[JobId, str, str]:
    return (action.job_id, action.rule, action.verb)


def _outcomes(results: Mapping[int, Result]) -> dict[int, tuple[Outcome, str]]:
    return {
        entry_id: (result.outcome, result.words)
        for entry_id, result in results.items()
        if result.outcome is not None
    }


class _Notes:
    """What is to be told of a tick, gathered while it runs."""

    def __init__(self, clock: Clock, slurm: SlurmPort) -> None:
        self._clock = clock
        self._slurm = slurm
        self._began = clock.now()
        self._monotonic = clock.monotonic()
        self._calls = slurm.calls_made
        self.errors: list[str] = []
        self.words: list[str] = []
        self.actions: list[AuditEntry] = []
        self.snapshot: Snapshot | None = None
        self.unfinished = 0
        self.ledger: LedgerReport | None = None

    def fail(self, error: PolicyLayerError) -> None:
        """Take note of an error."""
        self.errors.append(error_name(error))
        self.words.append(str(error))

    def note(self, entries: Sequence[AuditEntry], results: Mapping[int, Result], now: int) -> None:
        """Take note of what became of some entries."""
        for entry in entries:
            result = results[entry.entry_id]
            if result.outcome is not None:
                self.actions.append(
                    replace(entry, outcome=result.outcome, words=result.words, finished=now)
                )
            else:
                self.unfinished += 1
            if result.error and result.error not in self.errors:
                self.errors.append(result.error)
                self.words.append(result.words)

    def report(self) -> TickReport:
        """Return the report of the tick that is over."""
        snapshot = self.snapshot
        pending = None
        if snapshot is not None:
            pending = sum(job.state.is_pending for job in snapshot.jobs)
        return TickReport(
            time=self._began,
            duration_seconds=self._clock.monotonic() - self._monotonic,
            leading=True,
            actions=tuple(self.actions),
            slurm_calls=self._slurm.calls_made - self._calls,
            errors=tuple(self.errors),
            messages=tuple(self.words),
            pending_jobs=pending,
            snapshot_time=None if snapshot is None else snapshot.time,
            unfinished_entries=self.unfinished,
            ledger=self.ledger,
        )
