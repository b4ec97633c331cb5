"""What a tick does about money: charging before the rules decide, and what follows after them.

A tick whose books cannot be written does nothing about money, neither for nor against anybody, and
says so; the other rules go on. Where only the accounting cannot be read, charging goes on with
what the queue says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.errors import PolicyLayerError, RecordsUnavailable, SlurmError
from slurm_gpu_policy.model.tick import LedgerReport
from slurm_gpu_policy.policy.ledger.keeping import keeps_books
from slurm_gpu_policy.services.ledger.funding import READ_UNTIL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.ledger import LedgerState
    from slurm_gpu_policy.model.snapshot import Snapshot
    from slurm_gpu_policy.services.ledger.books import LedgerPort
    from slurm_gpu_policy.services.ledger.charge import Charging
    from slurm_gpu_policy.services.ledger.treasury import Treasury

    Follower = Callable[[Snapshot, Policy, LedgerState], tuple[str, ...]]
    """Does what follows from the books, after the tick's actions, and returns remarks."""


class Money:
    """The books at work in a controller; one object for its life."""

    def __init__(
        self,
        ledger: LedgerPort,
        charging: Charging,
        treasury: Treasury,
        followers: tuple[Follower, ...] = (),
        forget: Callable[[], None] = lambda: None,
    ) -> None:
        """*forget* is for what *followers* remember as the leader's."""
        self._ledger = ledger
        self._charging = charging
        self._followers = followers
        self.forget = forget
        """To be called when another controller may have led since."""
        self.treasury = treasury
        self.state: LedgerState | None = None
        """As this tick left the books; ``None`` where it could not bring them up to date, or where
        none are kept: then nothing is to be done about money."""
        self.report: LedgerReport | None = None
        """Of the tick under way."""
        self._told: dict[str, Any] = {}

    def charge(self, snapshot: Snapshot, policy: Policy) -> PolicyLayerError | None:
        """Bring the books up to date; return why that could not be done."""
        self.state = self.report = None
        if not keeps_books(policy):
            self._told = {}
            return None
        try:
            state = self._charging.run(snapshot, policy)
            with self._ledger.reading() as books:
                entries, until = books.count_entries(), books.mark(READ_UNTIL)
        except RecordsUnavailable as error:
            return self._failed(
                RecordsUnavailable(f"the books cannot be kept, so nothing is done by them: {error}")
            )
        except ValueError as error:  # a defect of ours; the other rules go on all the same
            return self._failed(RecordsUnavailable(f"the books refuse an entry: {error}"))
        except SlurmError as error:
            return self._failed(error)
        self.state = state
        self.report = LedgerReport(state, entries, until)
        self._tell()
        return None

    def follow(self, snapshot: Snapshot, policy: Policy) -> Iterator[PolicyLayerError]:
        """Do what follows from the books, and yield why some of it could not be done."""
        if self.state is None or self.report is None:
            return
        for follower in self._followers:
            try:
                remarks = follower(snapshot, policy, self.state)
            except (RecordsUnavailable, SlurmError) as error:
                yield error
            else:
                self.report = LedgerReport(
                    self.state,
                    self.report.entries,
                    self.report.accounting_until,
                    (*self.report.remarks, *remarks),
                )
        self._tell()

    def status(self) -> dict[str, Any] | None:
        """Return what ``gpu-policy status`` shows; ``None`` where no books are kept."""
        return self._told or None

    def _failed(self, error: PolicyLayerError) -> PolicyLayerError:
        self._told = {
            "time": None,
            "entries": None,
            "accounting_until": None,
            "uncovered_jobs": None,
            **self._told,
            "up_to_date": False,
            "problems": [str(error)],
        }
        return error

    def _tell(self) -> None:
        assert self.report is not None  # noqa: S101 - it is called when there is one
        state = self.report.state
        self._told = {
            "up_to_date": True,
            "time": state.time,
            "entries": self.report.entries,
            "accounting_until": self.report.accounting_until,
            "uncovered_jobs": len(state.uncovered),
            "problems": [*state.problems, *self.report.remarks],
        }
