"""What one tick of the controller did, for metrics and the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.model.record import record

if TYPE_CHECKING:
    from slurm_gpu_policy.model.action import AuditEntry
    from slurm_gpu_policy.model.ledger import LedgerState


@record
class LedgerReport:
    """How a tick left the books."""

    state: LedgerState
    entries: int | None = None
    """In the books, in all."""
    accounting_until: int | None = None
    """Unix seconds up to which Slurm's accounting is in the books whole; ``None`` before that."""
    remarks: tuple[str, ...] = ()
    """What there is to say of limits in Slurm and of warnings that follow from the books."""

    @property
    def accounting_lag_seconds(self) -> int | None:
        """How far the books are behind, as far as is known."""
        if self.accounting_until is None:
            return None
        return max(0, self.state.time - self.accounting_until)


@record
class TickReport:
    """One tick, told when it is over, however it ended.

    What the tick did not come to know is ``None``: a standby reads no queue, and nobody knows how
    long the queue is while Slurm does not answer.
    """

    time: int
    """Unix seconds when it began."""
    duration_seconds: float
    leading: bool
    dry_run: bool = False
    actions: tuple[AuditEntry, ...] = ()
    """What was done, refused, skipped …: each completed, so its outcome is never empty."""
    slurm_calls: int = 0
    """Programs started, or calls of libslurm made, in this tick."""
    errors: tuple[str, ...] = ()
    """Class names of the errors (errors.py) that ended the tick or a part of it. An action that
    Slurm refused is no error of the tick."""
    messages: tuple[str, ...] = ()
    """What those errors said, in the same order."""
    pending_jobs: int | None = None
    snapshot_time: int | None = None
    """Unix seconds of the snapshot that was decided on."""
    unfinished_entries: int | None = None
    """Entries of the audit log without an outcome, left by an interrupted controller."""
    ledger: LedgerReport | None = None
    """``None`` where no books are kept, or they could not be brought up to date."""

    @property
    def succeeded(self) -> bool:
        """Whether nothing went wrong; a standby that saw the other lead has succeeded."""
        return not self.errors
