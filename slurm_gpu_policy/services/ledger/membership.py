"""Who may do what with the books: the account tree and its people, kept for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.errors import SlurmError
from slurm_gpu_policy.model.snapshot import Part
from slurm_gpu_policy.policy.ledger.allowed import Rights

if TYPE_CHECKING:
    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.caller import Caller
    from slurm_gpu_policy.model.snapshot import Snapshot
    from slurm_gpu_policy.services.directory import Directory
    from slurm_gpu_policy.services.ports import Clock, ReadPort

_KEPT_SECONDS: Final = 60
_PARTS: Final = (Part.ASSOCIATIONS, Part.CONFIG)


class Membership:
    """Tells what callers may; for several threads at once (the worst is that two read the same).

    While slurmdbd is away it goes by what that last said.
    """

    def __init__(self, slurm: ReadPort, directory: Directory, clock: Clock) -> None:
        self._slurm = slurm
        self._directory = directory
        self._clock = clock
        self._kept: tuple[float, Snapshot] | None = None

    def rights(self, caller: Caller, policy: Policy) -> Rights:
        """Return what a caller may.

        Raises:
            SlurmError: Slurm has not said yet who belongs where.
        """
        tree = self.tree()
        return Rights(
            user=caller.user,
            operates=self._directory.is_operator(caller, policy, tree.config),
            parents={one.account: one.parent for one in tree.associations if not one.user},
            accounts=frozenset(one.account for one in tree.associations if one.user == caller.user),
            coordinated=frozenset(
                account
                for account, users in self._directory.coordinators().items()
                if caller.user in users
            ),
        )

    def has(self, account: str, user: str) -> bool:
        """Whether Slurm has the account, and in it the user if one is named."""
        return any(one.account == account and one.user == user for one in self.tree().associations)

    def tree(self) -> Snapshot:
        """Return associations and settings, at most a minute old while Slurm answers."""
        kept = self._kept
        if kept is not None and self._clock.monotonic() - kept[0] < _KEPT_SECONDS:
            return kept[1]
        try:
            read = self._slurm.read(*_PARTS)
        except SlurmError:
            if kept is None:
                raise
            return kept[1]
        self._kept = self._clock.monotonic(), read
        return read
