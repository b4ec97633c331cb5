"""Slurm's ways to write numbers, times, memory and TRES, read into plain integers.

Every function takes the text of one field and raises ``ValueError`` where it is none of the
forms that Slurm's source prints; :func:`reading` turns that into an error that names the field.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn

from slurm_gpu_policy.errors import SlurmUnreadable

if TYPE_CHECKING:
    from collections.abc import Mapping

UNSET = frozenset(
    {"", "(null)", "N/A", "n/a", "None", "NONE", "Unknown", "UNKNOWN", "INVALID", "NOT_SET", "*"}
)
"""What Slurm prints in place of a value it does not have."""

_ENDLESS = frozenset({"UNLIMITED", "INFINITE", "infinite", "unlimited", "Partition_Limit"})
_SCALE = {"K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4, "P": 1024**5, "E": 1024**6}
_NO_VAL = 4294967294
"""slurm.h NO_VAL; the number above it is INFINITE."""
_NO_TRES: Mapping[str, int] = MappingProxyType({})


def unreadable(field: str, text: str, record: str = "") -> NoReturn:
    """Say which field of which record cannot be read.

    Raises:
        SlurmUnreadable: always.
    """
    where = f" of {record}" if record else ""
    shown = text if len(text) <= 80 else text[:77] + "..."  # noqa: PLR2004 - a line's length
    msg = f"Slurm's field {field}{where} has a form this version does not know: {shown!r}"
    raise SlurmUnreadable(msg)


def word(text: str) -> str:
    """Return *text*, or ``""`` for the marks of an unset value."""
    return "" if text in UNSET else text


def words(text: str) -> tuple[str, ...]:
    """Return the parts of a comma list, none for an unset value or ``ALL``."""
    if text in UNSET or text == "ALL":
        return ()
    return tuple(part for part in text.split(",") if part)


def count(text: str) -> int:
    """Return a count; 0 where unset. Slurm may shorten it: ``1K`` is 1024, ``1.50K`` 1536.

    A range (``2-4``: nodes asked for) gives its lower end.
    """
    if text.isdigit():
        return int(text)
    if text in UNSET:
        return 0
    head, _, tail = text.partition("-")
    if head and tail:
        return count(head)
    scale = _SCALE.get(text[-1])
    return int(text) if scale is None else _scaled(text[:-1], scale)


def optional_count(text: str) -> int | None:
    """Return a count, ``None`` where unset or unlimited."""
    if text in UNSET or text in _ENDLESS:
        return None
    number = count(text)
    return None if number in {_NO_VAL, _NO_VAL + 1} else number


def fraction(text: str) -> float | None:
    """Return a decimal (``inf`` too), ``None`` where unset."""
    return None if text in UNSET else float(text)


def epoch(text: str) -> int | None:
    """Return Unix seconds as printed under ``SLURM_TIME_FORMAT=%s``, ``None`` where unset."""
    if text.isdigit():
        return int(text) or None
    if text in UNSET or text in _ENDLESS:
        return None
    return int(text)


def seconds(text: str) -> int | None:
    """Return the seconds in ``[D-]HH:MM:SS`` or ``MM:SS``; ``None`` for unset and unlimited.

    sacct adds milliseconds (``MM:SS.mmm``); they are dropped.
    """
    if text in UNSET or text in _ENDLESS:
        return None
    days, sign, clock = text.rpartition("-")
    if sign and not days:
        msg = f"negative duration {text!r}"
        raise ValueError(msg)
    parts = clock.partition(".")[0].split(":")
    if len(parts) > 3 or (len(parts) < 2 and not sign):  # noqa: PLR2004 - hours, minutes, seconds
        msg = f"no duration: {text!r}"
        raise ValueError(msg)
    total = 0
    for part in parts if not sign else [*parts, "0", "0"][:3]:
        total = total * 60 + _digits(part)
    return total + (_digits(days) * 86400 if sign else 0)


def minutes(text: str) -> int | None:
    """Return the seconds in a bare number of minutes; ``None`` for unset and unlimited."""
    number = optional_count(text)
    return None if number is None else number * 60


def mebibytes(text: str) -> int:
    """Return MiB from ``8000M``, ``62.50G``, ``1T`` or a bare number of MiB; 0 where unset."""
    if text in UNSET:
        return 0
    if text.isdigit():
        return int(text)
    unit = text[-1]
    if unit == "M":
        return _scaled(text[:-1], 1)
    if unit == "K":
        return -(-_scaled(text[:-1], 1024) // 1024**2)
    if unit not in _SCALE:
        msg = f"no amount of memory: {text!r}"
        raise ValueError(msg)
    return _scaled(text[:-1], _SCALE[unit] // 1024**2)


def tres(text: str) -> Mapping[str, int]:
    """Return counts per TRES from ``cpu=4,mem=8000M,gres/gpu:h100=2``; memory in MiB.

    A TRES whose limit was cleared (an empty value, ``-1``) is left out: it is unlimited.
    """
    if text in UNSET:
        return _NO_TRES
    found = {}
    for part in text.split(","):
        name, sign, value = part.partition("=")
        if not sign or not name:
            msg = f"no TRES list: {text!r}"
            raise ValueError(msg)
        if value in {"", "-1", "N"}:
            continue
        found[name] = mebibytes(value) if name in _IN_MEMORY else count(value)
    return MappingProxyType(found)


_IN_MEMORY = frozenset({"mem", "vmem"})


def exit_status(text: str) -> tuple[int, int]:
    """Return (code, signal) from ``CODE:SIGNAL``; zeros where unset."""
    if text in UNSET:
        return (0, 0)
    code, sign, signal = text.partition(":")
    return (_digits(code), _digits(signal) if sign else 0)


def wait_status(text: str) -> int:
    """Return the exit code of squeue's ``exit_code``: ``3:0``, and before 23.11 a wait status."""
    if ":" in text or text in UNSET:
        return exit_status(text)[0]
    return _digits(text) >> 8 & 0xFF


def _digits(text: str) -> int:
    """Return an unsigned decimal; ``int`` alone would let signs, blanks and ``_`` pass."""
    if not (text.isascii() and text.isdigit()):
        msg = f"no number: {text!r}"
        raise ValueError(msg)
    return int(text)


def _scaled(text: str, scale: int) -> int:
    """Return ``text * scale`` exactly, where *text* is a decimal of at most two places."""
    whole, _, part = text.partition(".")
    total = _digits(whole) * scale
    if part:
        total += round(_digits(part) * scale / 10 ** len(part))
    return total
