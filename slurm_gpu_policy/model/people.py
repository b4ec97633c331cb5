"""Who people are to the policy: their groups, and what Slurm lets them do."""

from __future__ import annotations

from dataclasses import field
from types import MappingProxyType
from typing import TYPE_CHECKING

from slurm_gpu_policy.model.record import record

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOBODY: Mapping[str, frozenset[str]] = MappingProxyType({})


@record
class People:
    """What was found out about the people whom a decision asks about."""

    groups: Mapping[str, frozenset[str]] = field(default_factory=lambda: _NOBODY)
    """Names of the groups of each user that was asked about."""
    coordinators: Mapping[str, frozenset[str]] = field(default_factory=lambda: _NOBODY)
    """Users who coordinate each account (its own, not those of the accounts above it)."""
