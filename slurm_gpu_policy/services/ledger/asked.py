"""The fields of a request to the books, which anybody may have written."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from slurm_gpu_policy.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slurm_gpu_policy.model.prices import Unit

_LONGEST_NAME: Final = 255
_LONGEST_REASON: Final = 500
_LARGEST: Final = 10**18
"""Of any amount: a balance of some such still fits into a database's 64 bits."""
_LATEST: Final = 253_402_300_799
"""The end of the year 9999, in Unix seconds."""


def name(asked: Mapping[str, Any], field: str) -> str:
    """Return a name; ``""`` where there is none.

    Raises:
        RequestError: it is no text, too long, or has characters that no name has.
    """
    value = asked.get(field)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _LONGEST_NAME or not value.isprintable():
        msg = f"{field}: {str(value)[:80]!r} is no name"
        raise RequestError(msg)
    return value


def account(asked: Mapping[str, Any], field: str = "account") -> str:
    """Return an account, which Slurm keeps in lower case; ``""`` where there is none."""
    return name(asked, field).lower()


def needed(field: str, value: str) -> str:
    """Return *value*.

    Raises:
        RequestError: it is empty.
    """
    if not value:
        msg = f"{field}: it is needed"
        raise RequestError(msg)
    return value


def reason(asked: Mapping[str, Any]) -> str:
    """Return why something is done.

    Raises:
        RequestError: there is none, or it is too long.
    """
    value = asked.get("reason")
    if not isinstance(value, str) or not value.strip():
        msg = "a reason is needed: --reason TEXT"
        raise RequestError(msg)
    if len(value) > _LONGEST_REASON:
        msg = f"the reason has {len(value)} characters; {_LONGEST_REASON} are allowed"
        raise RequestError(msg)
    return value.strip()


def flag(asked: Mapping[str, Any], field: str) -> bool:
    """Return whether a field is true."""
    return asked.get(field) is True


def amount(asked: Mapping[str, Any], field: str = "amount") -> int:
    """Return an amount, which is written as a text: JSON's numbers lose digits in some readers.

    Raises:
        RequestError: it is none, or is 0.
    """
    value = asked.get(field)
    if not isinstance(value, str) or not re.fullmatch(r"-?[0-9]{1,19}", value):
        msg = f"{field}: {str(value)[:80]!r} is no amount: a whole number, as text"
        raise RequestError(msg)
    if not 0 < abs(int(value)) <= _LARGEST:
        msg = f"{field}: {value} is not from 1 to {_LARGEST} (or as much below 0)"
        raise RequestError(msg)
    return int(value)


def unit(asked: Mapping[str, Any]) -> Unit:
    """Return what an amount is counted in.

    Raises:
        RequestError: it is neither.
    """
    value = asked.get("unit")
    if value not in ("money", "gpu_seconds"):
        msg = f"unit: {str(value)[:80]!r} is neither money nor gpu_seconds"
        raise RequestError(msg)
    return value  # type: ignore[no-any-return] # it is one of the two


def number(asked: Mapping[str, Any], field: str, least: int, most: int) -> int | None:
    """Return a whole number; ``None`` where there is none.

    Raises:
        RequestError: it is none, or out of bounds.
    """
    value = asked.get(field)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        msg = f"{field}: {str(value)[:80]!r} is no whole number from {least} to {most}"
        raise RequestError(msg)
    return value


def time(asked: Mapping[str, Any], field: str) -> int | None:
    """Return a time in Unix seconds; ``None`` where there is none."""
    return number(asked, field, 0, _LATEST)


def request_id(asked: Mapping[str, Any]) -> str:
    """Return the id that a client made for a request that writes.

    Raises:
        RequestError: there is none that can be used.
    """
    value = asked.get("id")
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9-]{8,36}", value):
        msg = f"id: {str(value)[:80]!r} is none: 8 to 36 letters, digits and hyphens"
        raise RequestError(msg)
    return value
