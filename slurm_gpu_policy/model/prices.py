"""What things cost, and what of it prices ask for."""

from __future__ import annotations

from dataclasses import field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from slurm_gpu_policy.model.record import record

if TYPE_CHECKING:
    from collections.abc import Mapping

Unit = Literal["money", "gpu_seconds"]

_NO_GPUS: Mapping[str, int] = MappingProxyType({})


@record
class Cost:
    """What something costs, in both units."""

    micros: int = 0
    gpu_seconds: int = 0

    def amount(self, unit: Unit) -> int:
        """Return it in the unit of a fund."""
        return self.micros if unit == "money" else self.gpu_seconds


@record
class Use:
    """What a job holds while it runs, as far as prices ask for it."""

    gpus: Mapping[str, int] = field(default_factory=lambda: _NO_GPUS)
    """By Slurm's name of the GPU type, ``""`` where it names none."""
    cpus: int = 0
    memory_mb: int = 0
    partition: str = ""
    qos: str = ""

    @property
    def gpu_count(self) -> int:
        """GPUs of all types."""
        return sum(self.gpus.values())


@record
class Band:
    """A time of the week with a factor of its own; ``start`` and ``end`` in seconds of the day.

    An end that is not after the start lies on the next day; ``days`` are those it starts on,
    Monday is 0.
    """

    days: frozenset[int]
    start: int
    end: int
    factor: int


@record
class Prices:
    """One set of prices: micro-units per hour, and factors in millionths."""

    gpus: Mapping[str, int] = field(default_factory=lambda: _NO_GPUS)
    """Per GPU by Slurm's name of the type; ``""`` for GPUs without one."""
    gpus_by_partition: Mapping[str, int] = field(default_factory=lambda: _NO_GPUS)
    """Per GPU without a type, by partition, where that tells types apart."""
    cpu: int = 0
    memory_gib: int = 0
    qos: Mapping[str, int] = field(default_factory=lambda: _NO_GPUS)
    partitions: Mapping[str, int] = field(default_factory=lambda: _NO_GPUS)
    bands: tuple[Band, ...] = ()
    """The first that a moment lies in has its factor; elsewhere it is one."""
    timezone: str = "UTC"
    minimum: int = 0
    """Rule C-405: least that a run costs which began under these prices and is not free."""


@record
class Tariff:
    """Prices that hold from ``since`` (Unix seconds) until the next tariff's."""

    since: int
    prices: Prices
