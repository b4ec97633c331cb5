"""Whom Slurm lets do what, as a test says."""

from __future__ import annotations

from slurm_gpu_policy.errors import SlurmUnavailable


class FakePeople:
    """Implements :class:`slurm_gpu_policy.services.ports.PeoplePort`."""

    def __init__(self, operators=(), coordinators=None):
        self.named_operators = frozenset(operators)
        self.named_coordinators = {
            account: frozenset(users) for account, users in (coordinators or {}).items()
        }
        self.calls = 0
        self.is_away = False

    def operators(self):
        self._answer()
        return self.named_operators

    def coordinators(self):
        self._answer()
        return self.named_coordinators

    def _answer(self):
        self.calls += 1
        if self.is_away:
            msg = "slurmdbd is away, as the test says"
            raise SlurmUnavailable(msg)
