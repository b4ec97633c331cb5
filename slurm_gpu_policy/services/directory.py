"""Who may do what: the system's groups, and what Slurm's accounting knows, kept for a while."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.errors import SlurmError
from slurm_gpu_policy.model.people import People

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.caller import Caller
    from slurm_gpu_policy.model.cluster import ClusterConfig
    from slurm_gpu_policy.services.ports import Clock, PeoplePort

_KEPT_SECONDS: Final = 300
"""How long an answer of slurmdbd serves: it takes a third of a second, and rarely changes."""


class Directory:
    """Tells approvers and operators; while slurmdbd is away, by what it last said."""

    def __init__(
        self, people: PeoplePort, groups_of: Callable[[str], tuple[str, ...]], clock: Clock
    ) -> None:
        self._people = people
        self._groups_of = groups_of
        self._clock = clock
        self._coordinators: Mapping[str, frozenset[str]] = {}
        self._coordinators_at: float | None = None
        self._operators: frozenset[str] = frozenset()
        self._operators_at: float | None = None

    def people(self, users: Iterable[str], policy: Policy) -> People:
        """Return what deciding on these users' votes needs to know; nothing that no rule asks."""
        approvers = policy.approvals.approvers
        groups = {}
        if approvers.groups:
            groups = {user: frozenset(self._groups_of(user)) for user in {*users}}
        return People(groups, self._read_coordinators() if approvers.coordinators else {})

    def coordinators(self) -> Mapping[str, frozenset[str]]:
        """Return the users who coordinate each account, whatever approvals ask for."""
        return self._read_coordinators()

    def is_operator(self, caller: Caller, policy: Policy, config: ClusterConfig | None) -> bool:
        """Whether the caller operates the cluster: root, SlurmUser, the policy's, or Slurm's."""
        if caller.is_root or caller.user in policy.operators:
            return True
        slurm_user = (config.settings if config else {}).get("SlurmUser", "")
        found = re.search(r"\((\d+)\)", slurm_user)  # slurm(64030)
        if found and int(found[1]) == caller.user_id:
            return True
        return caller.user in self._read_operators()

    def _read_coordinators(self) -> Mapping[str, frozenset[str]]:
        if self._is_old(self._coordinators_at):
            try:
                self._coordinators = self._people.coordinators()
                self._coordinators_at = self._clock.monotonic()
            except SlurmError:
                if self._coordinators_at is None:
                    raise
        return self._coordinators

    def _read_operators(self) -> frozenset[str]:
        if self._is_old(self._operators_at):
            try:
                self._operators = self._people.operators()
                self._operators_at = self._clock.monotonic()
            except SlurmError:
                if self._operators_at is None:
                    raise
        return self._operators

    def _is_old(self, at: float | None) -> bool:
        return at is None or self._clock.monotonic() - at >= _KEPT_SECONDS
