"""Once a tick: telling people of budgets that run out, and remembering that they were told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.errors import NotifyFailed, SlurmError
from slurm_gpu_policy.policy.ledger.warnings import Audience, running_costs, warnings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.ledger import LedgerState
    from slurm_gpu_policy.model.snapshot import Snapshot
    from slurm_gpu_policy.policy.ledger.warnings import Warned
    from slurm_gpu_policy.services.ledger.books import LedgerPort
    from slurm_gpu_policy.services.ports import NotifyPort

MARK: Final = "warned:"
"""With a fund's id: the highest percentage that people were told of."""


class BudgetWarnings:
    """Rule B-010 at work. Where people were told is kept in the books, over restarts.

    A notice counts as told once it is in the notifier's hands: a crash in the moments between
    these two tells it again, one before it is sent loses it.
    """

    def __init__(
        self,
        ledger: LedgerPort,
        notify: NotifyPort,
        coordinators: Callable[[], Mapping[str, frozenset[str]]],
    ) -> None:
        self._ledger = ledger
        self._notify = notify
        self._coordinators = coordinators

    def run(self, state: LedgerState, snapshot: Snapshot, policy: Policy) -> tuple[Warned, ...]:
        """Tell what is new in *state*, and return it.

        Raises:
            RecordsUnavailable: the books cannot be reached; what was told is told once all the
                same while this process runs (the notifier knows its key).
        """
        found = self._due(state, snapshot, policy)
        kept = [each for each in found if each.notice is None or self._tells(each)]
        if kept:
            with self._ledger.writing() as books:
                for each in kept:
                    books.set_mark(f"{MARK}{each.fund_id}", each.percent)
        return tuple(kept)

    def _due(self, state: LedgerState, snapshot: Snapshot, policy: Policy) -> tuple[Warned, ...]:
        limited = [view for view in state.views if not view.fund.unlimited]
        if not limited:
            return ()
        with self._ledger.reading() as books:
            told = {
                int(name.removeprefix(MARK)): percent for name, percent in books.marks(MARK).items()
            }
            audience = Audience({}, state.parents)

            def decide(running: Mapping[int, int], audience: Audience) -> tuple[Warned, ...]:
                return warnings(
                    limited,
                    told=told,
                    running=running,
                    audience=audience,
                    policy=policy,
                    now=state.time,
                )

            # Running jobs have cost between nothing and what is set aside for them: where that
            # makes no difference, their claims need not be read.
            most = {view.fund.fund_id: view.in_flight for view in limited}
            if not decide({}, audience) and not decide(most, audience):
                return ()
            funds = [view.fund for view in limited]
            running = running_costs(books.open_claims(), funds)
        try:
            coordinators = self._coordinators()
        except SlurmError:  # whom it concerns can be told as well in the next tick
            return ()
        return decide(running, Audience(coordinators, state.parents, snapshot.jobs))

    def _tells(self, warned: Warned) -> bool:
        assert warned.notice is not None  # noqa: S101 - for the type checker
        try:
            self._notify.send(warned.notice)
        except NotifyFailed:  # which the notifier counts and logs; the next tick tries again
            return False
        return True
