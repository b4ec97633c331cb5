"""What has run before, kept by the controller for orderings that predict run times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.policy.run_times import NONE_YET, RunTimes, extended

if TYPE_CHECKING:
    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.services.ports import AccountPort, Clock

_PIECE_SECONDS: Final = 86400
"""What one question is about: weeks of a busy site in one answer would keep a tick waiting."""
_OVERLAP_SECONDS: Final = 300
"""Read again each time, since slurmdbd hears of the end of a job a little later."""


class History:
    """Run times of ended jobs: the latest day first, then a day further back with each look."""

    def __init__(self, slurm: AccountPort, clock: Clock) -> None:
        self._slurm = slurm
        self._clock = clock
        self._looked = float("-inf")
        self._since: int | None = None
        self._until = 0
        self.known: RunTimes = NONE_YET

    def refresh(self, policy: Policy) -> None:
        """Ask the accounting one question, where the policy predicts run times and it is time.

        Raises:
            SlurmError: it did not answer; what is known stays.
        """
        if not predicts(policy):
            return
        now = self._clock.now()
        if self._since is None or now < self._since:  # the clock was put back before it all
            self._read(now - _PIECE_SECONDS, now, policy)
            self._since, self._until = now - _PIECE_SECONDS, now
            self._looked = self._clock.monotonic()
        elif self._clock.monotonic() - self._looked >= policy.controller.history:
            self._looked = self._clock.monotonic()
            self._read(min(self._until, now) - _OVERLAP_SECONDS, now, policy)
            self._until = now
        elif self._since > now - policy.controller.history_span:
            self._read(self._since - _PIECE_SECONDS, self._since, policy)
            self._since -= _PIECE_SECONDS

    def _read(self, start: int, end: int, policy: Policy) -> None:
        if policy.ordering is not None:
            ended = self._slurm.accounting(start=start, end=end)
            self.known = extended(self.known, ended, policy.ordering.history)


def predicts(policy: Policy) -> bool:
    """Return whether anything in the site's ordering depends on predicted run times."""
    ordering = policy.ordering
    if ordering is None or ordering.run_time != "predicted":
        return False
    return ordering.kind == "sjf" or ordering.terms.deadline.weight > 0
