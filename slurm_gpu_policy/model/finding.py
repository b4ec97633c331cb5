"""What a check of the installation found."""

from __future__ import annotations

from typing import Literal

from slurm_gpu_policy.model.record import record

Level = Literal["ok", "warn", "fail"]


@record
class Finding:
    """One thing looked at: ``ok``, ``warn`` (works, but not as well as it could) or ``fail``."""

    level: Level
    subject: str
    """What was looked at, in a word or two: ``adapter``, ``accounting``."""
    message: str
    """What was found."""
    remedy: str = ""
    """What to do about it; empty for ``ok``."""
