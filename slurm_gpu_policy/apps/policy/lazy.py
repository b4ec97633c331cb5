"""A group of commands, each imported when it is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping


class LazyGroup(click.Group):
    """Finds a command of this folder's module ``PREFIX + NAME``, as its ``command``.

    *lines* has the commands in the order of the help, each with its line there.
    """

    def __init__(
        self, *args: Any, lines: Mapping[str, str], prefix: str = "", **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._lines = lines
        self._prefix = prefix

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the commands' names."""
        return list(self._lines)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return a command, imported now."""
        if cmd_name not in self._lines:
            return None
        name = f"{self._prefix}{cmd_name}".replace("-", "_")
        command: click.Command = import_module(f"slurm_gpu_policy.apps.policy.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the help's list of commands, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._lines.items()))
