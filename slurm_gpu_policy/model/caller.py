"""Who is at the other end of the controller's socket."""

from __future__ import annotations

from slurm_gpu_policy.model.record import record


@record
class Caller:
    """A user as the kernel vouches for them, never as a request says."""

    user_id: int
    user: str
    """``#1234`` where this machine has no name for the user id; no user can be called that."""
    groups: tuple[str, ...] = ()
    """Names of all the user's groups."""

    @property
    def is_root(self) -> bool:
        """Whether this is the superuser."""
        return self.user_id == 0
