"""Which adapter to take: pyslurm where it imports and fits Slurm's release, else the commands."""

from __future__ import annotations

from importlib.machinery import PathFinder
from typing import TYPE_CHECKING

from slurm_gpu_policy.adapters.slurm.commands import CommandSlurm
from slurm_gpu_policy.adapters.slurm.kept_answers import KeptAnswers
from slurm_gpu_policy.content_cache import cache_folder
from slurm_gpu_policy.errors import SlurmUnavailable

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

    ``auto`` looks only whether pyslurm is installed: importing it costs more than a submission.
    The adapter imports it when there are enough calls to make, and goes on with the commands
    where it does not fit; ``pyslurm`` insists on it.

    Raises:
        SlurmUnavailable: pyslurm was chosen and is not installed.
    """
    kept = _kept_answers(clock)
    is_installed = choice != "commands" and PathFinder.find_spec("pyslurm") is not None
    if is_installed:
        from slurm_gpu_policy.adapters.slurm.pyslurm_adapter import PyslurmSlurm  # noqa: PLC0415

        adapter = PyslurmSlurm(
            clock,
            read_seconds=timeout_seconds,
            submit_seconds=2 * timeout_seconds,
            kept=kept,
            always=choice == "pyslurm",
        )
        if choice == "pyslurm":
            return adapter, "pyslurm, because slurm.adapter says so"
        # Whether it fits is seen when it is imported; the doctor does that and then says so.
        return adapter, "the commands, and for many calls at once pyslurm if it fits this Slurm"
    if choice == "pyslurm":
        msg = (
            "slurm.adapter chooses pyslurm, and it is not installed for this Python: "
            "install the release that matches Slurm's, or choose `auto` or `commands`"
        )
        raise SlurmUnavailable(msg)
    commands = CommandSlurm(
        clock, read_seconds=timeout_seconds, submit_seconds=2 * timeout_seconds, kept=kept
    )
    if choice == "commands":
        return commands, "the commands, because slurm.adapter says so"
    return commands, "the commands, because pyslurm is not installed for this Python"


def _kept_answers(clock: Clock) -> KeptAnswers | None:
    """Return the user's folder of kept answers; ``None`` for a user without a home."""
    folder = cache_folder()
    return KeptAnswers(folder, clock) if folder else None
