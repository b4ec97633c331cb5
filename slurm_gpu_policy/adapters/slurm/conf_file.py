"""What stands in slurm.conf itself.

For the one setting that Slurm 22.05 prints wrongly, and for the few that must be known also while
slurmctld does not answer.
"""

from __future__ import annotations

import os
import re
from types import MappingProxyType
from typing import TYPE_CHECKING

from slurm_gpu_policy.adapters.slurm.kept_answers import FILES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FLAGS = "PriorityFlags"
_ALL = "NO_NORMAL_ALL"
_LINE = re.compile(
    r"[ \t]*(?:include[ \t]+(\S+)"
    r"|(PriorityFlags|ClusterName|SlurmUser|AuthInfo)[ \t]*=[ \t]*([^\s#]+))",
    re.IGNORECASE,
)
_DEEPEST = 5


def corrected(settings: Mapping[str, str]) -> Mapping[str, str]:
    """Return *settings* with PriorityFlags as slurm.conf has it, where that cannot be told.

    22.05 prints NO_NORMAL_ALL for any one of NO_NORMAL_ASSOC, _PART, _QOS and _TRES (26.05 prints
    what is set). Where the file is not on this machine, what is printed stands.
    """
    if _ALL not in settings.get(_FLAGS, ""):
        return settings
    flags = _settings(settings.get("SLURM_CONF", "")).get(_FLAGS.lower(), "")
    if not flags or _ALL in flags.upper():
        return settings
    return MappingProxyType({**settings, _FLAGS: flags})


def identity() -> Mapping[str, str]:
    """Return ``clustername``, ``slurmuser`` and ``socket`` (munged's, where it is not the usual).

    It is empty where no slurm.conf is on this machine, in none of the places for it.
    """
    chosen = os.environ.get("SLURM_CONF", "")
    for path in (chosen,) if chosen else FILES:
        if "clustername" in (found := _settings(path)):
            return _identity(found)
    return {}


def identity_in(settings: Mapping[str, str]) -> Mapping[str, str]:
    """Return the same of the settings that slurmctld says; in SlurmUser the user id counts."""
    return _identity({name.lower(): value for name, value in settings.items()})


def _identity(found: Mapping[str, str]) -> Mapping[str, str]:
    user = found.get("slurmuser", "root")
    number = re.search(r"\((\d+)\)", user)  # slurm(64030), as slurmctld says it
    socket = re.search(r"(?:^|,)socket=([^,\s]+)", found.get("authinfo", ""))
    return {
        "clustername": found.get("clustername", "").lower(),
        "slurmuser": number[1] if number else user,
        "socket": socket[1] if socket else "",
    }


def _settings(path: str) -> dict[str, str]:
    """Return what stands in a file; of several Slurm takes the last one."""
    return {name.lower(): value for name, value in _lines(path, 0)}


def _lines(path: str, depth: int) -> Iterator[tuple[str, str]]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - as kept_answers
            lines = file.read().splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        if match := _LINE.match(line):
            included, name, value = match.groups()
            if name:
                yield name, value
            elif depth < _DEEPEST:
                folder = os.path.dirname(path)  # noqa: PTH120
                yield from _lines(os.path.join(folder, included), depth + 1)  # noqa: PTH118
