"""``gpu-policy version``."""

from __future__ import annotations

import click

from slurm_gpu_policy import __version__
from slurm_gpu_policy.terminal.text import say


@click.command("version")
def command() -> None:
    """Print the version."""
    say(f"gpu-policy {__version__}")
