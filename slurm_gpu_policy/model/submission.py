"""A job ready for Slurm: a script and the options that go with it."""

from __future__ import annotations

from slurm_gpu_policy.model.record import record


@record
class Submission:
    """Everything Slurm needs to queue one job.

    ``options`` are sbatch's long names without dashes, with values (``None`` for a flag), e.g.
    ``("gres", "gpu:h100:4")``; each is unique. They are authoritative; the script's #SBATCH
    lines repeat them for the reader. ``script_options`` are the ones only the user's own
    script has. ``token`` is unique for this submission and stands in ``comment``.
    All text is UTF-8 with undecodable bytes as surrogates (``surrogateescape``).
    """

    script: str
    options: tuple[tuple[str, str | None], ...]
    token: str
    script_options: tuple[tuple[str, str | None], ...] = ()
    script_args: tuple[str, ...] = ()
    interactive: bool = False
    """Not for sbatch: ``script`` is a launcher (srun, salloc) to run in the user's terminal."""
    submit_as: str | None = None
    """Another user to submit for (root only); ``None`` for the caller."""
