"""``gpu-policy ledger``: whether the books are right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from slurm_gpu_policy.apps.policy.lazy import LazyGroup

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMANDS: Mapping[str, str] = {
    "verify": "Add all entries up anew.",
    "reconcile": "Compare the books with Slurm's accounting.",
}


@click.group("ledger", cls=LazyGroup, lines=COMMANDS, prefix="ledger_")
def command() -> None:
    """Check the books: in themselves, and against Slurm's accounting. Operators only."""
