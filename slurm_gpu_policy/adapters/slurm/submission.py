"""The argument lists of sbatch and salloc, and what they answer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from slurm_gpu_policy.adapters.slurm.words import error_in, said
from slurm_gpu_policy.errors import SlurmRefused, SlurmUnreadable
from slurm_gpu_policy.model.ids import JobId

if TYPE_CHECKING:
    from slurm_gpu_policy.adapters.slurm.run import Answer
    from slurm_gpu_policy.model.submission import Submission

_PARSABLE = re.compile(r"^(\d+)(?:;.*)?$", re.MULTILINE | re.ASCII)
_PLANNED = r"Job \d+ to start at (\d+) "
_GRANTED = r"(?:Granted|Pending) job allocation (\d+)|job (\d+) queued"
_CANNOT_SAY = (
    "Requested node configuration is not available",
    "Requested nodes are busy",
    "Nodes required for job are DOWN, DRAINED",
    "Requested partition configuration not available now",
    "Required node not available",
)
GRANTED = "Granted job allocation"
# What salloc (of any release) does not know of sbatch's options, and would refuse the whole
# request for. The rendering adapter has the same list; a test compares them.
BATCH_ONLY = frozenset(
    {
        "array",
        "error",
        "export",
        "export-file",
        "get-user-env",
        "ignore-pbs",
        "input",
        "open-mode",
        "output",
        "parsable",
        "requeue",
        "no-requeue",
        "test-only",
        "wait",
        "wrap",
    }
)


def sbatch_argv(submission: Submission, *, test_only: bool = False) -> list[str]:
    """Return sbatch's arguments; the script itself goes to its standard input.

    ``/dev/stdin`` stands for the script only where arguments follow it.
    """
    argv = ["sbatch", "--test-only" if test_only else "--parsable", *_options(submission)]
    if submission.script_args:
        argv += ["/dev/stdin", *submission.script_args]
    return argv


def salloc_argv(submission: Submission) -> list[str]:
    """Return salloc's arguments for an allocation that outlives the command."""
    return ["salloc", "--no-shell", *_options(submission, leave_out=BATCH_ONLY)]


def _options(submission: Submission, leave_out: frozenset[str] = frozenset()) -> list[str]:
    options = [
        f"--{name}" if value is None else f"--{name}={value}"
        for name, value in submission.options
        if name not in leave_out
    ]
    if submission.submit_as is not None:
        import pwd  # noqa: PLC0415 - root only

        try:
            person = pwd.getpwnam(submission.submit_as)
        except KeyError:
            msg = f"there is no user {submission.submit_as!r} on this machine to submit for"
            raise SlurmRefused(msg) from None
        options += [f"--uid={person.pw_uid}", f"--gid={person.pw_gid}"]
    return options


def script_bytes(submission: Submission) -> bytes:
    """Return the script as it is sent: a file's bytes that were no UTF-8 come out unchanged."""
    return submission.script.encode("utf-8", "surrogateescape")


def submitted_id(answer: Answer) -> JobId:
    """Return the id in ``sbatch --parsable``'s answer; warnings beside it are no failure.

    Raises:
        SlurmError: sbatch refused, in its own words.
    """
    if answer.code != 0:
        raise error_in(answer)
    ids = _PARSABLE.findall(answer.stdout)
    if not ids:
        msg = f"sbatch printed no job id but {answer.stdout[:80]!r}"
        raise SlurmUnreadable(msg)
    return JobId(int(ids[-1]))


def planned_start(answer: Answer) -> int | None:
    """Return Unix seconds from ``sbatch --test-only``, which speaks on standard error.

    Raises:
        SlurmError: the request itself is refused.
    """
    if found := re.search(_PLANNED, answer.stderr, re.ASCII):
        return int(found[1])
    if any(phrase in said(answer) for phrase in _CANNOT_SAY):
        return None
    raise error_in(answer)


def allocated_id(text: str) -> JobId | None:
    """Return the id salloc named on standard error, granted or still waiting."""
    found = re.findall(_GRANTED, text, re.ASCII)
    return JobId(int("".join(found[-1]))) if found else None
