"""Dates that users type and see, in the time zone of the site's prices and budgets."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from slurm_gpu_policy.errors import RequestError
from slurm_gpu_policy.policy.prices.timetable import moment

if TYPE_CHECKING:
    from slurm_gpu_policy.config.schema import Policy

_FORM = r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?)?"


def zone_of(policy: Policy) -> str:
    """Return the time zone that budgets' periods go by."""
    return policy.pricing.timezone if policy.pricing else "UTC"


def zoned(seconds: int | None, zone: str) -> str | None:
    """Return Unix *seconds* as ISO-8601 in *zone*, so that a period ends on the day it ends there.

    ``None`` for none, and for what no calendar reaches.
    """
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, ZoneInfo(zone)).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return None


def date_time(text: str | None, policy: Policy, option: str) -> int | None:
    """Return Unix seconds of a date by the clock on the wall; ``None`` for none.

    Raises:
        RequestError: it is no date.
    """
    if text is None:
        return None
    try:
        if re.fullmatch(_FORM, text, re.ASCII):
            return moment(text, zone_of(policy))
    except (ValueError, OverflowError):
        pass
    msg = f"{option} {text!r}: write a date, 2030-01-31 or 2030-01-31T08:00"
    raise RequestError(msg)
