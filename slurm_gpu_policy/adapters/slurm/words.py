"""Slurm's own words for what went wrong, and the errors they become."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.errors import (
    JobNotFound,
    SlurmAbsent,
    SlurmError,
    SlurmRefused,
    SlurmTimeout,
    SlurmUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_gpu_policy.adapters.slurm.run import Answer

UNKNOWN_JOB = "Invalid job id specified"
NO_SCRIPT = "Job script not specified"
ALREADY_OVER = ("already completing or completed", "already finished")

# The connection was made and then lost: the controller may have acted on the call.
_LOST = (
    "Socket timed out on send/recv",
    "Zero Bytes were transmitted",
    "Transport endpoint is not connected",
    "Connection reset by peer",
    "Broken pipe",
    "Unexpected message received",
    # The rest of SLURM_COMMUNICATIONS_* (src/common/slurm_errno.c); the first was seen when
    # slurmctld was killed under sbatch.
    "Unexpected missing socket error",
    "Message send failure",
    "Message receive failure",
    "Communication shutdown failure",
    "Header lengths are longer than data received",
    "Insane message length",
)
# It was never made.
_UNREACHABLE = (
    "Unable to contact slurm controller",
    "Unable to contact slurm",
    "Communication connection failure",
    "Unable to connect",
    "Unable to establish",
    "Connection refused",
    "Connection timed out",
    "No route to host",
    "Network is unreachable",
    "Unable to resolve",
    "Unable to determine this slurmd's NodeName",
    "slurm controller in standby mode",
    "failed to open persistent connection",
    "Problem talking to the database",
    "Protocol authentication error",
    "Incompatible versions of client and server code",
    "Munge encode failed",
    "If munged is up",
)
# There is no configuration to go by, and waiting makes none.
_ABSENT = ("Could not establish a configuration source", "Unable to process configuration file")
# Slurm answers and does nothing at the moment; sbatch has tried for two minutes by itself.
_BUSY = ("Resource temporarily unavailable", "Slurm temporarily unable to accept job")
_WILL_RETRY = "retrying"
"""At the end of what sbatch says of a failure before it tries again."""


def said(answer: Answer) -> str:
    """Return what a program complained of, without the program's name before each line.

    What sbatch says before it tries again is left out where something follows: it got further.
    """
    program = answer.argv[0].rpartition("/")[2]
    lines = []
    for raw in answer.stderr.splitlines():
        line = raw.strip().removeprefix(f"{program}: ").removeprefix("error: ").strip()
        if line and line not in lines:
            lines.append(line)
    last = [line for line in lines if not line.rstrip(".").endswith(_WILL_RETRY)]
    return "\n".join(last or lines)


def error_in(answer: Answer, job_id: str | None = None) -> SlurmError:
    """Return the error that a program's complaint stands for."""
    # scontrol has some of its complaints on standard output.
    words = said(answer) or answer.stdout.strip().partition("\n")[0]
    return error_for(words, answer.argv, answer.code, job_id)


def error_for(
    text: str, argv: Sequence[str], code: int = 1, job_id: str | None = None
) -> SlurmError:
    """Return the error that Slurm's words *text* stand for; *job_id* is the job it is about."""
    program = argv[0].rpartition("/")[2]
    if job_id is not None and UNKNOWN_JOB in text:
        return JobNotFound(job_id)
    if any(phrase in text for phrase in _LOST):
        msg = (
            f"the connection to Slurm was lost before {program} had its answer ({text}); "
            "what happened is not known"
        )
        return SlurmTimeout(msg)
    if any(phrase in text for phrase in _ABSENT):
        msg = f"Slurm is not set up here: {program} says: {text}; see $SLURM_CONF"
        return SlurmAbsent(msg)
    if any(phrase in text for phrase in _UNREACHABLE):
        msg = f"Slurm cannot be reached: {program} says: {text}; see `scontrol ping`"
        return SlurmUnavailable(msg)
    if any(phrase in text for phrase in _BUSY):
        msg = f"Slurm is not ready at this moment: {program} says: {text}; try again later"
        return SlurmUnavailable(msg)
    call = " ".join(argv[:6])
    return SlurmRefused(text or f"`{call}` ended with code {code} and without a word")
