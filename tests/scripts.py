"""Requests and decisions for rendering, and what bash makes of a rendered script."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.adapters.rendering.renderer import Renderer
from slurm_gpu_policy.model.decision import Decision, Reason
from slurm_gpu_policy.model.request import Request

if TYPE_CHECKING:
    from pathlib import Path

    from slurm_gpu_policy.model.submission import Submission

TOKEN = "4f2a0c"  # noqa: S105 - marks a submission, opens nothing


def make_request(*command: str, **fields: Any) -> Request:
    return Request(user="u1", command=command, **{"gpus": 4, **fields})


def make_decision(**fields: Any) -> Decision:
    defaults: dict[str, Any] = {
        "gpus": 4,
        "gpu_type": "h100",
        "gres_type": "h100",
        "partition": "gpu",
        "account": "nlp",
        "qos": "normal",
        "time_seconds": 4 * 3600,
    }
    return Decision("admit", (Reason("ADM-1", "fits"),), **{**defaults, **fields})


def rendered(
    request: Request, decision: Decision | None = None, renderer: Renderer | None = None
) -> Submission:
    return (renderer or Renderer()).render(request, decision or make_decision(), TOKEN)


def option(submission: Submission, name: str) -> str | None:
    """The value of an option, or None where it is not there (or a flag)."""
    return dict(submission.options).get(name)


def in_bash(
    submission: Submission,
    folder: Path,
    *,
    env: dict[str, str] | None = None,
    before: tuple[bytes, ...] = (),
) -> subprocess.CompletedProcess[bytes]:
    """Run a rendered script as slurmd would: from a file, with the script's arguments."""
    path = folder / "slurm_script"
    path.write_bytes(submission.script.encode("utf-8", "surrogateescape"))
    path.chmod(0o700)
    return subprocess.run(
        [*before, os.fsencode(path), *map(os.fsencode, submission.script_args)],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
