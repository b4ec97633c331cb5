"""Dates that users type, in the time zone of the site's prices and budgets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from slurm_gpu_policy.errors import RequestError
from slurm_gpu_policy.policy.prices.timetable import moment

if TYPE_CHECKING:
    from slurm_gpu_policy.config.schema import Policy

_FORM = r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?)?"


def date_time(text: str | None, policy: Policy, option: str) -> int | None:
    """Return Unix seconds of a date by the clock on the wall; ``None`` for none.

    Raises:
        RequestError: it is no date.
    """
    if text is None:
        return None
    try:
        if re.fullmatch(_FORM, text, re.ASCII):
            return moment(text, policy.pricing.timezone if policy.pricing else "UTC")
    except (ValueError, OverflowError):
        pass
    msg = f"{option} {text!r}: write a date, 2030-01-31 or 2030-01-31T08:00"
    raise RequestError(msg)
