"""What follows from the books in Slurm itself, beside what is done to single jobs.

Called once a tick, after the rules have had their say: limits of accounts and users (rule B-008),
and the table by which job_submit.lua judges submissions (L-207, B-006, B-007).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.errors import NotAllowed, PolicyLayerError
from slurm_gpu_policy.policy.ledger.budget_table import budget_table
from slurm_gpu_policy.policy.ledger.keeping import keeps_books
from slurm_gpu_policy.services.ledger.slurm_limits import SlurmLimits

if TYPE_CHECKING:
    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.ledger import LedgerState
    from slurm_gpu_policy.model.snapshot import Snapshot
    from slurm_gpu_policy.services.ledger.books import LedgerPort
    from slurm_gpu_policy.services.ports import FilePort, LimitsPort


class Enforcing:
    """Writes both; one object for the life of a controller."""

    def __init__(self, limits: LimitsPort, ledger: LedgerPort, files: FilePort) -> None:
        self._limits = SlurmLimits(limits, ledger)
        self._files = files

    def run(self, snapshot: Snapshot, policy: Policy, state: LedgerState) -> tuple[str, ...]:
        """Bring the table and Slurm's limits up to date; return what could not be, in words.

        Needs nodes, partitions, QOS and the configuration.

        Raises:
            SlurmError, RecordsUnavailable: Slurm or the database is away.
        """
        remarks: list[str] = []
        try:
            if policy.apply.job_submit and keeps_books(policy):
                self._files.write(policy.ledger.table, budget_table(snapshot, policy, state))
        except PolicyLayerError as error:
            remarks.append(f"job_submit.lua does not know what accounts have left: {error}")
        try:
            remarks += self._limits.run(snapshot, policy, state)
        except NotAllowed as error:
            remarks.append(f"limits in Slurm are not kept: {error}")
        return tuple(remarks)

    def forget(self) -> None:
        """Forget what this controller knew as a leader: another one may have led since."""
        self._limits.forget()
