"""Which of several controllers leads: a lease in the database, timed by each one's own clock.

A leader stops by itself when its last renewal is ``seconds`` old, counted from before that
renewal was asked for. A standby takes the lease when it has seen the same one for ``seconds`` and
a margin, counted from after it was first seen. A renewal is asked for before it can be seen, so
the leader has stopped before the standby begins, whatever the wall clocks say and however long
either was stopped. No monotonic clock is compared with another's.

What this cannot do is call back a command that was under way when its leader was stopped (SIGSTOP,
a machine that was suspended) for longer than the lease: such a command may reach Slurm late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from slurm_gpu_policy.model.action import Lease
    from slurm_gpu_policy.services.ports import Clock, LeadPort

_MARGIN: Final = 0.1
"""Of the lease: more than any two clocks differ in their pace."""
_HEARTBEATS: Final = 10


class Leading:
    """One controller's part in it.

    *holder* is unlike any other's, also that of an earlier process on the same machine. *seconds*
    are the same for all controllers of a cluster.
    """

    def __init__(self, records: LeadPort, clock: Clock, holder: str, seconds: float) -> None:
        self._records = records
        self._clock = clock
        self._holder = holder
        self._seconds = seconds
        self._renewed: float | None = None
        self._seen: Lease | None = None
        self._seen_since = 0.0

    @property
    def heartbeat_seconds(self) -> float:
        """How often :meth:`tick` is to be called, at least.

        Then another has taken over 1.3 x *seconds* after a leader ended, at the latest.
        """
        return self._seconds / _HEARTBEATS

    @property
    def leader(self) -> str:
        """The holder of the lease as it was last seen; ``""`` while nobody has it."""
        return self._seen.holder if self._seen else ""

    @property
    def renewals(self) -> int:
        """How often the lease as last seen has been renewed: it grows while somebody leads."""
        return self._seen.renewals if self._seen else 0

    def seconds_left(self) -> float:
        """Return how long this controller leads for certain; 0 where it does not. Costs nothing."""
        if self._renewed is None:
            return 0.0
        return max(self._renewed + self._seconds - self._clock.monotonic(), 0.0)

    def is_leader(self) -> bool:
        """Return whether this controller may act now; to be asked before every action."""
        return self.seconds_left() > 0

    def tick(self) -> bool:
        """Renew the lease, or take it if nobody does, and return whether this controller leads.

        Raises:
            RecordsUnavailable: a leader stays one until its lease has run out, and nobody becomes
                one.
        """
        asked = self._clock.monotonic()
        lease = self._records.lease()
        self._note(lease)
        if self._may_take(lease):
            taken = self._records.take(self._holder, lease)
            if taken is None:
                self._renewed = None
            else:
                self._renewed = asked
                self._note(taken)
        else:
            self._renewed = None
        return self.is_leader()

    def resign(self) -> None:
        """Stop leading, and let another begin at once.

        Raises:
            RecordsUnavailable: then it begins when the lease has run out.
        """
        self._renewed = None
        self._records.resign(self._holder)

    def _note(self, lease: Lease) -> None:
        if lease != self._seen:
            self._seen = lease
            self._seen_since = self._clock.monotonic()

    def _may_take(self, lease: Lease) -> bool:
        """Whether a lease as just seen is free, ours, or given up by its holder.

        Ours it is also after a renewal whose answer was lost: nobody else writes our name.
        """
        if lease.holder in {"", self._holder}:
            return True
        unchanged = self._clock.monotonic() - self._seen_since
        return unchanged >= self._seconds * (1 + _MARGIN)
