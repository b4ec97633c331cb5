"""Words for quantities: time in seconds, memory in MiB, money in micro-units, all integers.

Nothing here is a float: prices and budgets must add up exactly, and Slurm itself counts
seconds and mebibytes.
"""

from __future__ import annotations

import re

from slurm_gpu_policy.errors import RequestError

MICRO = 1_000_000
"""Micro-units in one unit of the site's currency."""

# Patterns are texts: re compiles and keeps those that are used, and gpu-submit uses few.
_HUMAN_TIME = r"(?:(\d{1,12})d)?(?:(\d{1,12})h)?(?:(\d{1,12})m)?(?:(\d{1,12})s)?"
_SLURM_TIME = (
    r"(?:(?P<d>\d{1,12})-(?P<dh>\d{1,12})(?::(?P<dm>\d{1,12})(?::(?P<ds>\d{1,12}))?)?"
    r"|(?P<h>\d{1,12}):(?P<hm>\d{1,12}):(?P<hs>\d{1,12})"
    r"|(?P<m>\d{1,12})(?::(?P<s>\d{1,12}))?)"
)
_MEMORY = r"(\d{1,18})(?:([KMGTP])(?:i?B)?)?"
_MONEY = r"(\d{1,12})(?:\.(\d{1,6}))?"
_MEBIBYTES = {"M": 1, "G": 1024, "T": 1024**2, "P": 1024**3}
_MAX_SECONDS = (2**32 - 3) * 60
"""Slurm keeps minutes in 32 bits and uses the topmost two values as marks (slurm.h, NO_VAL)."""


def parse_duration(text: str) -> int:
    """Return the seconds in *text*: ``4h``, ``1d12h``, ``90s``, or any form ``sbatch -t`` takes.

    A bare number is minutes, as in ``sbatch --time``.

    Raises:
        RequestError: *text* is no duration, is zero, or is longer than Slurm can hold.
    """
    text = text.strip()
    if (human := re.fullmatch(_HUMAN_TIME, text, re.ASCII)) and text:
        days, hours, minutes, seconds = (int(part or 0) for part in human.groups())
        total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    elif slurm := re.fullmatch(_SLURM_TIME, text, re.ASCII):
        part = {name: int(value or 0) for name, value in slurm.groupdict().items()}
        total = (
            ((part["d"] * 24 + part["dh"] + part["h"]) * 60 + part["dm"] + part["hm"] + part["m"])
            * 60
        ) + (part["ds"] + part["hs"] + part["s"])
    else:
        msg = (
            f"{text!r} is not a duration: write it as 4h, 1d12h, 90s, "
            "or like sbatch --time: minutes, hours:minutes:seconds, days-hours"
        )
        raise RequestError(msg)
    if not 0 < total <= _MAX_SECONDS:
        msg = (
            f"{text!r} is not a duration that can be used: "
            "more than zero, such as 60s, and at most what Slurm can hold"
        )
        raise RequestError(msg)
    return total


def format_duration(seconds: int) -> str:
    """Return *seconds* the way Slurm prints a time limit: ``[D-]HH:MM:SS``."""
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    clock = f"{hour:02d}:{minute:02d}:{second:02d}"
    return f"{days}-{clock}" if days else clock


def parse_memory(text: str) -> int:
    """Return the MiB in *text* (``64G``, ``500M``, ``1TB``); a bare number is MiB, as in sbatch.

    Raises:
        RequestError: *text* is no amount of memory.
    """
    match = re.fullmatch(_MEMORY, text.strip(), re.ASCII | re.IGNORECASE)
    if match is None:
        msg = f"{text!r} is not an amount of memory: write it as 64G, 500M or 1T"
        raise RequestError(msg)
    count, unit = int(match[1]), (match[2] or "M").upper()
    if unit == "K":
        return -(-count // 1024)
    return count * _MEBIBYTES[unit]


def parse_money(text: str) -> int:
    """Return the micro-units in a decimal amount such as ``2.50``.

    Raises:
        RequestError: *text* is not a plain, non-negative decimal of at most six places.
    """
    match = re.fullmatch(_MONEY, text.strip(), re.ASCII)
    if match is None:
        msg = (
            f"{text[:80]!r} is not an amount of money: write a plain decimal such as 12 or 12.50, "
            "with up to 12 digits before the point and 6 behind it"
        )
        raise RequestError(msg)
    return int(match[1]) * MICRO + int((match[2] or "").ljust(6, "0"))


def parse_gpu_hours(text: str) -> int:
    """Return the GPU-seconds in a decimal number of GPU-hours such as ``1.5``.

    Raises:
        RequestError: *text* is no such number, or makes no whole number of seconds.
    """
    match = re.fullmatch(_MONEY, text.strip(), re.ASCII)
    part = (match[2] or "").ljust(6, "0") if match else ""
    if match is None or int(part) * 3600 % MICRO:
        msg = f"{text!r} is no number of GPU-hours: a plain decimal, of whole GPU-seconds: 1.5"
        raise RequestError(msg)
    return int(match[1]) * 3600 + int(part) * 3600 // MICRO


def format_money(micros: int) -> str:
    """Return micro-units as a decimal: at least two places, never a rounded one."""
    sign = "-" if micros < 0 else ""
    whole, part = divmod(abs(micros), MICRO)
    places = f"{part:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{places}"


def counted(number: int, noun: str) -> str:
    """Return ``1 job`` or ``2 jobs``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
