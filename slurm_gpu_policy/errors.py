"""Every error the package raises on purpose, in one tree.

    PolicyLayerError
    |-- RequestError             the user asked for something malformed          (exit 2)
    |   `-- RenderError          a script template cannot be rendered
    |-- Refused                  the site's policy refuses, with a Decision      (exit 3)
    |-- PolicyFileError          the site's policy file is wrong                 (exit 5)
    |-- RecordsUnavailable       the controller's database cannot be reached     (exit 4)
    |-- ControllerUnavailable    gpu-policyd cannot be reached                   (exit 4)
    |-- NotAllowed               the caller may not do this                      (exit 1)
    |-- NotifyFailed             a notice could not be sent                      (exit 4)
    `-- SlurmError
        |-- SlurmRefused         Slurm understood and said no, in its own words  (exit 1)
        |   `-- JobNotFound      no such job, or it left Slurm's memory
        |-- SlurmUnavailable     Slurm cannot be reached; nothing was done       (exit 4)
        |   |-- SlurmTimeout     no answer in time; what happened is unknown
        |   `-- SlurmAbsent      it is not set up here; waiting does not help
        `-- SlurmUnreadable      Slurm answered something we cannot read

Exit codes are chosen in ``apps`` only; the column above says which ones they choose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_gpu_policy.model.decision import Decision


class PolicyLayerError(Exception):
    """Root of the tree; its text is always fit to be shown to a user."""


class RequestError(PolicyLayerError):
    """A request that cannot be understood, whoever asks and whatever the cluster."""


class RenderError(RequestError):
    """A script template that is missing, broken, or lacks a value."""


class Refused(PolicyLayerError):
    """A request that is understood and not allowed; ``decision`` holds the reasons."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        super().__init__("; ".join(reason.message for reason in decision.reasons))


class PolicyFileError(PolicyLayerError):
    """A policy file that cannot be used; ``problems`` holds one line of text per error."""

    def __init__(self, path: str, problems: Sequence[str]) -> None:
        self.path = path
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class RecordsUnavailable(PolicyLayerError):
    """The controller's database cannot be reached, is locked, full or of another version."""


class ControllerUnavailable(PolicyLayerError):
    """``gpu-policyd`` does not answer; the text says where it may have done something."""


class NotAllowed(PolicyLayerError):
    """The caller may not do this; the text says who may."""


class NotifyFailed(PolicyLayerError):
    """A notice that could not be sent; ``is_lasting`` where trying again cannot help."""

    def __init__(self, message: str, *, is_lasting: bool = False) -> None:
        self.is_lasting = is_lasting
        super().__init__(message)


class SlurmError(PolicyLayerError):
    """Anything that goes wrong between this program and Slurm."""


class SlurmRefused(SlurmError):
    """Slurm understood the call and refused it; the text is Slurm's own."""


class JobNotFound(SlurmRefused):
    """Slurm knows no such job (any more)."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"Slurm knows no job {job_id}: it never existed, or it ended longer ago than "
            "MinJobAge (sacct -j may still know it)"
        )


class SlurmUnavailable(SlurmError):
    """Slurm cannot be reached (not installed, not running, not answering); nothing was done."""


class SlurmTimeout(SlurmUnavailable):
    """Slurm did not answer in time, so whether the call took effect is not known."""


class SlurmAbsent(SlurmUnavailable):
    """Slurm's programs or its configuration are not on this machine: no retry can help."""


class SlurmUnreadable(SlurmError):
    """Slurm's answer does not have the form its version documents."""
