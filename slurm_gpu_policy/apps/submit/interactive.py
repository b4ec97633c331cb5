"""Jobs with somebody in front of them: the rendered launcher runs in the user's own terminal."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn

from slurm_gpu_policy.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_gpu_policy.model.submission import Submission


def run_in_terminal(submissions: Sequence[Submission]) -> NoReturn:
    """Become the launcher (srun or salloc), so that its exit code and signals are ours.

    Raises:
        RequestError: more than one job, or bash cannot be started.
    """
    if len(submissions) != 1:
        msg = "an interactive job needs a terminal of its own: submit the others without it"
        raise RequestError(msg)
    launcher = os.fsencode(submissions[0].script)
    try:
        # The text goes by descriptor: an argument list may be too short for it, a file would
        # have to be removed, and standard input belongs to the user.
        descriptor = os.memfd_create("gpu-submit", 0)
        os.write(descriptor, launcher)
        os.execvp("bash", ["bash", f"/proc/self/fd/{descriptor}"])  # noqa: S606, S607 - no shell text of the user's
    except OSError as error:
        msg = f"bash cannot be started for the interactive job: {error.strerror}"
        raise RequestError(msg) from error
