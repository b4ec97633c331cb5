"""What ``scontrol show`` says of nodes, partitions, reservations and settings.

These records are written by administrators, one a line, as ``Key=Value`` with blanks between.
Free text (a node's Reason, Comment) stands behind the fields read here, so the first
occurrence of a key is the real one.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from slurm_gpu_policy.adapters.slurm import quantities as q
from slurm_gpu_policy.adapters.slurm.gres import gpus
from slurm_gpu_policy.model.cluster import (
    ClusterConfig,
    Node,
    NodeGpus,
    Partition,
    Reservation,
)
from slurm_gpu_policy.model.hostlist import expand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TypeVar

    T = TypeVar("T")


class _Record:
    """One record of ``scontrol -o show``; :meth:`get` names the field it cannot read."""

    __slots__ = ("fields", "name")

    def __init__(self, line: str, key: str) -> None:
        pairs = [part.partition("=") for part in line.split(" ")]
        self.fields = {name: value for name, sign, value in reversed(pairs) if sign}
        self.name = f"{key}={self.fields.get(key, '')}"

    def get(self, key: str, read: Callable[[str], T]) -> T:
        """Return the field *key*; one that this release does not print reads as empty."""
        text = self.fields.get(key, "")
        try:
            return read(text)
        except ValueError:
            q.unreadable(key, text, self.name)


def _lines(text: str, key: str) -> Iterator[str]:
    """Yield the lines that are records; a Reason of several lines leaves some that are not."""
    start = key + "="
    return (line for line in text.splitlines() if line.startswith(start))


def nodes(text: str) -> tuple[Node, ...]:
    """Read ``scontrol -o -d show node``."""
    return tuple(_node(line) for line in _lines(text, "NodeName"))


def _node(line: str) -> Node:
    line, _, reason = line.partition(" Reason=")
    record = _Record(line, "NodeName")
    state, flags = node_state(record.fields.get("State", ""))
    return Node(
        name=record.get("NodeName", str),
        state=state,
        flags=flags,
        cpus=record.get("CPUTot", q.count),
        cpus_used=record.get("CPUAlloc", q.count),
        memory_mb=record.get("RealMemory", q.mebibytes),
        memory_used_mb=record.get("AllocMem", q.mebibytes),
        gpus=_node_gpus(record),
        partitions=record.get("Partitions", q.words),
        features=frozenset(record.get("AvailableFeatures", q.words)),
        reason=reason.strip(),
        weight=record.get("Weight", q.count),
    )


def node_state(text: str) -> tuple[str, frozenset[str]]:
    """Return (base state, flags) from ``IDLE+DRAIN`` or ``DOWN*+CLOUD``.

    The star is Slurm's mark for a node that does not answer.
    """
    base, *flags = text.split("+")
    found = {flag.rstrip("*").upper() for flag in flags if flag}
    if "*" in text:
        found.add("NOT_RESPONDING")
    return base.rstrip("*").upper(), frozenset(found)


def _node_gpus(record: _Record) -> tuple[NodeGpus, ...]:
    """Return the node's GPUs by type, in the order of its configuration."""
    total: dict[str, int] = {}
    for entry in record.get("Gres", gpus):
        total[entry.kind] = total.get(entry.kind, 0) + entry.number
    used: dict[str, int] = {}
    for entry in record.get("GresUsed", gpus):
        used[entry.kind] = used.get(entry.kind, 0) + entry.number
    if "" in used and "" not in total and len(total) == 1:
        used = {next(iter(total)): used[""]}
    return tuple(NodeGpus(kind, number, used.get(kind, 0)) for kind, number in total.items())


def partitions(text: str) -> tuple[Partition, ...]:
    """Read ``scontrol -o show partition``."""
    return tuple(_partition(line) for line in _lines(text, "PartitionName"))


def _partition(line: str) -> Partition:
    record = _Record(line, "PartitionName")

    def names(key: str) -> frozenset[str]:
        return frozenset(record.get(key, q.words))

    return Partition(
        name=record.get("PartitionName", str),
        state=record.get("State", str),
        default=record.get("Default", str) == "YES",
        nodes=record.get("Nodes", expand),
        max_time_seconds=record.get("MaxTime", q.seconds),
        default_time_seconds=record.get("DefaultTime", q.seconds),
        max_nodes=record.get("MaxNodes", q.optional_count),
        allow_accounts=names("AllowAccounts"),
        deny_accounts=names("DenyAccounts"),
        allow_qos=names("AllowQos"),
        deny_qos=names("DenyQos"),
        allow_groups=names("AllowGroups"),
        qos=record.get("QoS", q.word),
        priority_job_factor=record.get("PriorityJobFactor", q.count),
        priority_tier=record.get("PriorityTier", q.count),
        total_cpus=record.get("TotalCPUs", q.count),
        billing_weights=record.get("TRESBillingWeights", _pairs),
        tres=record.get("TRES", q.tres),
    )


def _pairs(text: str) -> Mapping[str, str]:
    pairs = (part.partition("=") for part in q.words(text))
    return MappingProxyType({name: value for name, _, value in pairs})


def reservations(text: str) -> tuple[Reservation, ...]:
    """Read ``scontrol -o show reservation`` ("No reservations in the system" is none)."""
    return tuple(_reservation(line) for line in _lines(text, "ReservationName"))


def _reservation(line: str) -> Reservation:
    record = _Record(line, "ReservationName")
    return Reservation(
        name=record.get("ReservationName", str),
        state=record.get("State", q.word),
        start_time=record.get("StartTime", q.epoch),
        end_time=record.get("EndTime", q.epoch),
        nodes=record.get("Nodes", expand),
        users=record.get("Users", q.words),
        accounts=record.get("Accounts", q.words),
        partition=record.get("PartitionName", q.word),
        flags=frozenset(record.get("Flags", q.words)),
        tres=record.get("TRES", q.tres),
    )


DATED = "Configuration data as of"
"""The first line of ``scontrol show config``, kept as a setting: slurmctld's own clock."""


def config(text: str) -> ClusterConfig:
    """Read ``scontrol show config``: ``Key = Value`` a line; other lines are headings."""
    settings = {}
    for line in text.splitlines():
        if line.startswith(DATED):
            settings[DATED] = line.removeprefix(DATED).strip()
        key, sign, value = line.partition("=")
        if sign and key and not key[0].isspace() and key.endswith(" "):
            settings[key.rstrip()] = value.strip()
    if "SLURM_VERSION" not in settings:
        q.unreadable("SLURM_VERSION", "", "scontrol show config")
    return ClusterConfig(
        name=settings.get("ClusterName", ""),
        version=settings["SLURM_VERSION"],
        settings=MappingProxyType(settings),
    )
