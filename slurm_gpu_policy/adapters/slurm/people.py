"""Whom Slurm lets do what: its operators, and the coordinators of accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.adapters.slurm.run import READ_SECONDS, reading_environment, run
from slurm_gpu_policy.adapters.slurm.words import error_in

if TYPE_CHECKING:
    from collections.abc import Mapping

_OPERATING = frozenset({"Operator", "Administrator"})


class SlurmPeople:
    """Implements :class:`slurm_gpu_policy.services.ports.PeoplePort` by sacctmgr."""

    def __init__(self, *, read_seconds: float = READ_SECONDS) -> None:
        self._read_seconds = read_seconds

    def operators(self) -> frozenset[str]:
        """See :meth:`slurm_gpu_policy.services.ports.PeoplePort.operators`."""
        return read_operators(self._ask("user", "format=user,adminlevel"))

    def coordinators(self) -> Mapping[str, frozenset[str]]:
        """See :meth:`slurm_gpu_policy.services.ports.PeoplePort.coordinators`."""
        return read_coordinators(self._ask("account", "withcoord", "format=account,coordinators"))

    def _ask(self, *what: str) -> str:
        argv = ("sacctmgr", "-n", "-P", "show", *what)
        answer = run(argv, timeout=self._read_seconds, env=reading_environment())
        if answer.code != 0:
            raise error_in(answer)
        return answer.stdout


def read_operators(text: str) -> frozenset[str]:
    """Read ``user|adminlevel`` lines."""
    pairs = (line.partition("|") for line in text.splitlines())
    return frozenset(user for user, _, level in pairs if level in _OPERATING)


def read_coordinators(text: str) -> dict[str, frozenset[str]]:
    """Read ``account|user,user`` lines; accounts without coordinators are left out."""
    pairs = (line.partition("|") for line in text.splitlines())
    return {
        account: frozenset(filter(None, names.split(","))) for account, _, names in pairs if names
    }
