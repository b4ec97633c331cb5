"""Where ``gpu-submit`` begins, also as ``python -m slurm_gpu_policy.apps.submit``."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the program and exit with its code."""
    gc.disable()  # nothing this short-lived program makes is worth collecting: 2 ms saved
    from slurm_gpu_policy.apps.submit.main import cli  # noqa: PLC0415 - not before the line above
    from slurm_gpu_policy.terminal.border import run_app  # noqa: PLC0415

    sys.exit(run_app(cli, "gpu-submit"))


if __name__ == "__main__":
    main()
