"""What a submission asks of the books before there is a job, and what it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.model.record import record

if TYPE_CHECKING:
    from slurm_gpu_policy.model.prices import Unit, Use


@record
class Ask:
    """What a job may cost at most, before it is submitted."""

    token: str
    """The mark that its comment will carry."""
    account: str
    user: str
    use: Use
    """Of one task."""
    seconds: int
    """Time limit; 0 for none."""
    tasks: int = 1


@record
class Purse:
    """One level of a job's line: what is left there, and what the job needs; in its unit."""

    account: str
    user: str
    """``""`` where it is the whole account's."""
    budgets: tuple[str, ...]
    unit: Unit
    left: int
    """Available, and what may be overdrawn; what was just promised is not in it any more."""
    needed: int
    granted: int
    soft_exceeded: bool = False
    """Whether more is spent or set aside than the soft limit (rule B-002)."""


@record
class Promise:
    """Whether something was set aside for an :class:`Ask`.

    Without a purse nobody has set the job's line a budget, and nothing limits it.
    """

    token: str
    purses: tuple[Purse, ...] = ()
    """Of each level that has a budget, the user's own first."""
    covered: bool = True

    @property
    def short(self) -> tuple[Purse, ...]:
        """The levels that have too little left."""
        return () if self.covered else tuple(one for one in self.purses if one.left < one.needed)
