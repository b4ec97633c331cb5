"""What stands in slurm.conf itself, for the one setting that Slurm 22.05 prints wrongly."""

from __future__ import annotations

import os
import re
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FLAGS = "PriorityFlags"
_ALL = "NO_NORMAL_ALL"
_LINE = re.compile(
    r"[ \t]*(?:include[ \t]+(\S+)|PriorityFlags[ \t]*=[ \t]*([^\s#]+))", re.IGNORECASE
)
_DEEPEST = 5


def corrected(settings: Mapping[str, str]) -> Mapping[str, str]:
    """Return *settings* with PriorityFlags as slurm.conf has it, where that cannot be told.

    22.05 prints NO_NORMAL_ALL for any one of NO_NORMAL_ASSOC, _PART, _QOS and _TRES (26.05 prints
    what is set). Where the file is not on this machine, what is printed stands.
    """
    if _ALL not in settings.get(_FLAGS, ""):
        return settings
    found = list(_flags(settings.get("SLURM_CONF", ""), 0))
    # Slurm takes the last of several, and the same flags but for the form of these.
    if not found or _ALL in found[-1].upper():
        return settings
    return MappingProxyType({**settings, _FLAGS: found[-1]})


def _flags(path: str, depth: int) -> Iterator[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - as kept_answers
            lines = file.read().splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        if match := _LINE.match(line):
            included, flags = match.groups()
            if flags:
                yield flags
            elif depth < _DEEPEST:
                folder = os.path.dirname(path)  # noqa: PTH120
                yield from _flags(os.path.join(folder, included), depth + 1)  # noqa: PTH118
