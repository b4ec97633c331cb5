"""Who may run: associations, their shares and usage, and QOS."""

from __future__ import annotations

from dataclasses import field
from types import MappingProxyType
from typing import TYPE_CHECKING

from slurm_gpu_policy.model.record import record

if TYPE_CHECKING:
    from collections.abc import Mapping

_NO_LIMIT: Mapping[str, int] = MappingProxyType({})


@record
class Association:
    """A place in the account tree: an account (``user`` empty), or a user in one.

    ``raw_shares`` is ``None`` for ``fairshare=parent``. Usage and factors are those of Slurm's
    last priority cycle and ``None`` where Slurm shows none. Limits are per TRES name as Slurm
    writes it (``gres/gpu``, ``cpu``, ``mem`` in MiB); a TRES that is absent is unlimited.
    """

    account: str
    user: str
    partition: str = ""
    parent: str = ""
    raw_shares: int | None = 1
    norm_shares: float | None = None
    raw_usage: int | None = None
    norm_usage: float | None = None
    effective_usage: float | None = None
    level_fs: float | None = None
    fair_share: float | None = None
    usage: float | None = None
    """Weighted TRES-seconds at this moment, decayed, to a hundredth or better (``raw_usage`` is
    cut to whole ones)."""
    priority: int = 0
    """What the association's jobs bring into the association factor."""
    qos: frozenset[str] = frozenset()
    default_qos: str = ""
    is_default: bool = False
    """Whether this is the user's default account."""
    max_tres_per_job: Mapping[str, int] = field(default_factory=lambda: _NO_LIMIT)
    grp_tres: Mapping[str, int] = field(default_factory=lambda: _NO_LIMIT)
    grp_tres_mins: Mapping[str, int] = field(default_factory=lambda: _NO_LIMIT)
    max_wall_seconds: int | None = None
    max_jobs: int | None = None
    max_submit_jobs: int | None = None


@record
class Qos:
    """A quality of service with its limits, in the units of :class:`Association`."""

    name: str
    priority: int = 0
    usage_factor: float = 1.0
    flags: frozenset[str] = frozenset()
    preempts: frozenset[str] = frozenset()
    preempt_mode: str = ""
    max_wall_seconds: int | None = None
    max_tres_per_job: Mapping[str, int] = field(default_factory=lambda: _NO_LIMIT)
    max_tres_per_user: Mapping[str, int] = field(default_factory=lambda: _NO_LIMIT)
    max_tres_per_account: Mapping[str, int] = field(default_factory=lambda: _NO_LIMIT)
    grp_tres: Mapping[str, int] = field(default_factory=lambda: _NO_LIMIT)
    grp_tres_mins: Mapping[str, int] = field(default_factory=lambda: _NO_LIMIT)
    max_jobs_per_user: int | None = None
    max_submit_jobs_per_user: int | None = None
