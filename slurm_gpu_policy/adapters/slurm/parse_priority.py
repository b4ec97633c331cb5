"""What ``sprio`` says of pending jobs' priorities (no release of it has ``--json``)."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.adapters.slurm import quantities as q
from slurm_gpu_policy.model.job import PriorityFactors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_UNIT = "\x1f"


def _points(text: str) -> float:
    return 0.0 if text in q.UNSET else float(text)


def _by_tres(text: str) -> Mapping[str, float]:
    pairs = (part.partition("=") for part in q.words(text))
    return MappingProxyType({name: float(value) for name, sign, value in pairs if sign})


# (letter of sprio -o, field of PriorityFactors, how to read it)
FIELDS: tuple[tuple[str, str, Callable[[str], Any]], ...] = (
    ("i", "job_id", int),
    ("r", "partition", str),
    ("Y", "priority", q.count),
    ("A", "age", _points),
    ("B", "association", _points),
    ("F", "fair_share", _points),
    ("J", "job_size", _points),
    ("P", "partition_factor", _points),
    ("Q", "qos_factor", _points),
    ("N", "nice", int),
    ("S", "site", int),
    ("T", "tres", _by_tres),
)
FORMAT = _UNIT.join("%" + letter for letter, _field, _read in FIELDS)


def priorities(text: str) -> tuple[PriorityFactors, ...]:
    """Read ``sprio -h -o`` :data:`FORMAT`: one row for each job and partition it may start in."""
    found = []
    for line in text.splitlines():
        if not line.strip():
            continue
        fields = line.split(_UNIT)
        if len(fields) != len(FIELDS):
            q.unreadable(f"count of fields ({len(fields)} for {len(FIELDS)})", line, "sprio's row")
        row: dict[str, Any] = {"qos": ""}
        for (letter, field, read), value in zip(FIELDS, fields, strict=True):
            try:
                row[field] = read(value.strip())
            except ValueError:
                q.unreadable(f"%{letter}", value, f"sprio's row for job {fields[0].strip()}")
        found.append(PriorityFactors(**row))
    return tuple(found)
