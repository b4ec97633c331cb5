"""The machines: nodes, their GPUs, partitions, reservations, and the controller's settings."""

from __future__ import annotations

from dataclasses import field
from types import MappingProxyType
from typing import TYPE_CHECKING

from slurm_gpu_policy.model.record import record

if TYPE_CHECKING:
    from collections.abc import Mapping

_EMPTY: Mapping[str, str] = MappingProxyType({})
_NO_TRES: Mapping[str, int] = MappingProxyType({})


@record
class NodeGpus:
    """GPUs of one type on one node. ``type`` is ``""`` where the site's GRES is untyped."""

    type: str
    total: int
    used: int


@record
class Node:
    """One node. ``state`` is Slurm's base state in upper case, ``flags`` its modifiers."""

    name: str
    state: str
    flags: frozenset[str]
    cpus: int
    cpus_used: int
    memory_mb: int
    memory_used_mb: int
    gpus: tuple[NodeGpus, ...]
    partitions: tuple[str, ...]
    features: frozenset[str]
    reason: str = ""
    weight: int = 1

    @property
    def usable(self) -> bool:
        """Whether Slurm may start jobs here, now or when running ones end.

        A node that does not answer is usable until Slurm gives it up (SlurmdTimeout) and calls
        it DOWN: every node is silent for a moment when the controller restarts.
        """
        return self.state not in _GONE and not self.flags & _KEPT_BACK


_GONE = frozenset({"DOWN", "ERROR", "FUTURE"})
_KEPT_BACK = frozenset({"DRAIN", "DOWN", "FAIL", "INVALID_REG"})


@record
class Partition:
    """One partition. An empty ``allow_*`` allows all; a ``None`` limit is unlimited."""

    name: str
    state: str
    default: bool
    nodes: tuple[str, ...]
    max_time_seconds: int | None
    default_time_seconds: int | None
    max_nodes: int | None
    allow_accounts: frozenset[str] = frozenset()
    deny_accounts: frozenset[str] = frozenset()
    allow_qos: frozenset[str] = frozenset()
    deny_qos: frozenset[str] = frozenset()
    allow_groups: frozenset[str] = frozenset()
    qos: str = ""
    priority_job_factor: int = 1
    priority_tier: int = 1
    total_cpus: int = 0
    billing_weights: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    tres: Mapping[str, int] = field(default_factory=lambda: _NO_TRES)
    """What all its nodes have together, per TRES name; memory in MiB."""


@record
class Reservation:
    """One reservation; times in Unix seconds."""

    name: str
    state: str
    start_time: int | None
    end_time: int | None
    nodes: tuple[str, ...]
    users: tuple[str, ...]
    accounts: tuple[str, ...]
    partition: str
    flags: frozenset[str]
    tres: Mapping[str, int] = field(default_factory=lambda: _NO_TRES)


@record
class ClusterConfig:
    """The controller's settings. ``settings`` keeps every key as Slurm prints it."""

    name: str
    version: str
    settings: Mapping[str, str] = field(default_factory=lambda: _EMPTY)

    @property
    def release(self) -> tuple[int, int]:
        """Major and minor release, e.g. ``(22, 5)``; ``(0, 0)`` where the text is no version."""
        head = self.version.split(".")
        if len(head) < 2 or not (head[0].isdigit() and head[1].isdigit()):  # noqa: PLR2004
            return (0, 0)
        return (int(head[0]), int(head[1]))
