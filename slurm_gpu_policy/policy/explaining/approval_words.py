"""How a held job's approval stands, for its owner (rules V-901 to V-905)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.pending import controller_mark, is_held, own_mark
from slurm_gpu_policy.policy.thresholds import Sizes, approvals_needed, approvers_words

if TYPE_CHECKING:
    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.job import Job
    from slurm_gpu_policy.model.snapshot import Snapshot

_RULES = {
    "pending": rules.APPROVAL_NEEDED,
    "denied": rules.APPROVAL_DENIED,
    "expired": rules.APPROVAL_EXPIRED,
}
_STATES = {"asked": "pending", "pending": "pending", "denied": "denied", "expired": "expired"}


@record
class Approval:
    """What a held job waits for: ``needed`` approvals of ``approvers`` (words)."""

    state: str
    """``pending``, ``denied`` or ``expired``."""
    needed: int
    """0 where the policy file, as this reader has it, asks for none (any more)."""
    approvers: str
    asks_for: str
    expires: int | None
    """Unix seconds; ``None`` for never."""

    @property
    def rule(self) -> str:
        """Which rule says so."""
        return _RULES[self.state]


def approval_of(job: Job, snapshot: Snapshot, policy: Policy) -> Approval | None:
    """Return how the approval of a held job stands, ``None`` where it waits for none.

    Needs the associations of its owner and the accounts above. The votes are known to the
    controller alone.
    """
    if not is_held(job):
        return None
    said = controller_mark(job).get("approval") or own_mark(job).get("approval", "")
    state = _STATES.get(said)
    if state is None:
        return None
    size = Sizes(snapshot, policy).of(job)
    lasts, since = policy.approvals.expires, job.submit_time
    return Approval(
        state=state,
        needed=approvals_needed(size, policy),
        approvers=approvers_words(policy),
        asks_for=size.words,
        expires=None if lasts is None or since is None else since + lasts,
    )
