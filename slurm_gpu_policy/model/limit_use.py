"""What Slurm has counted against one association's limits, at one moment."""

from __future__ import annotations

from dataclasses import field
from types import MappingProxyType
from typing import TYPE_CHECKING

from slurm_gpu_policy.model.record import record

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOTHING: Mapping[str, int] = MappingProxyType({})


@record
class LimitUse:
    """An account (``user`` empty) or a user in one; whole minutes per TRES, cut by Slurm."""

    account: str
    user: str = ""
    partition: str = ""
    limits: Mapping[str, int] = field(default_factory=lambda: _NOTHING)
    """Its own GrpTRESMins; a TRES without one is absent."""
    used: Mapping[str, int] = field(default_factory=lambda: _NOTHING)
    """Of every TRES that is counted on this cluster."""
    running: Mapping[str, int] = field(default_factory=lambda: _NOTHING)
    """What running jobs may still use, to their time limits."""


@record
class LimitChange:
    """One GrpTRESMins to be set, of an association or of a QOS; ``None`` takes it away."""

    tres: str
    minutes: int | None
    account: str = ""
    user: str = ""
    qos: str = ""
