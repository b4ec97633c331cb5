"""Answers of slurmdbd, kept for a few minutes in the user's own folder.

``sacctmgr`` takes 0.2 to 0.4 s whatever it is asked: slurmdbd writes each reply in two parts
and the kernel holds the second back for 40 ms, several times a session. Accounts and QOS
change rarely and Slurm checks them again at submission, so a slightly old answer does no
harm; and when slurmdbd is down an old one is better than none, for Slurm itself goes on then.
"""

from __future__ import annotations

import os
import re
from binascii import crc32
from typing import TYPE_CHECKING

from slurm_gpu_policy.content_cache import read_private, write_private

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_gpu_policy.services.ports import Clock

_OLDEST_SECONDS = 7 * 86400
"""Beyond this an answer says too little of today's limits, even while slurmdbd is down."""
FILES = ("/etc/slurm/slurm.conf", "/run/slurm/conf/slurm.conf")
"""Slurm's configuration where packages put it, and where a configless cluster's node has it."""
_WHOSE = re.compile(
    rb"^[ \t]*(?:ClusterName|SlurmctldHost|ControlMachine|AccountingStorageHost)[ \t]*=[ \t]*\S+",
    re.IGNORECASE | re.MULTILINE,
)
_INCLUDED = re.compile(rb"^[ \t]*include[ \t]+([!-~]+)", re.IGNORECASE | re.MULTILINE)


class KeptAnswers:
    """A folder of answers, one file for each question; only its owner may read it."""

    def __init__(self, folder: str, clock: Clock, seconds: int = 300) -> None:
        self._folder = folder
        self._clock = clock
        self._seconds = seconds

    def get(self, name: str, argv: Sequence[str], *, stale: bool = False) -> str | None:
        """Return the answer kept for *argv*, or ``None``; if *stale*, one of the last week too."""
        question, path = self._place(name, argv)
        kept = read_private(path)
        if kept is None:
            return None
        asked, _, text = kept[0].decode("utf-8", "replace").partition("\n")
        age = self._clock.now() - kept[1]
        is_good = age < _OLDEST_SECONDS if stale else 0 <= age < self._seconds
        return text if is_good and asked == question else None

    def put(self, name: str, argv: Sequence[str], text: str) -> None:
        """Keep *text*; a folder that cannot be written is no error."""
        question, path = self._place(name, argv)
        write_private(path, f"{question}\n{text}".encode("utf-8", "replace"))

    def _place(self, name: str, argv: Sequence[str]) -> tuple[str, str]:
        # The question is the file's first line: another version's answers are never misread.
        question = "\x1f".join((*argv, _cluster()))
        return question, f"{self._folder}/{name}-{crc32(question.encode()):08x}"


def _cluster() -> str:
    """Return what tells this cluster from another one whose users have the same home.

    Read from Slurm's configuration, for asking a program costs 5 ms and this less than 0.1.
    Where no name is found (Slurm was built for another place), this machine's name serves.
    """
    chosen = os.environ.get("SLURM_CONF", "")
    for path in (chosen,) if chosen else FILES:
        text = _read(path)
        names = _WHOSE.findall(text)
        for included in _INCLUDED.findall(text):
            names += _WHOSE.findall(_read(os.path.join(os.path.dirname(path), included.decode())))  # noqa: PTH118, PTH120
        if names:
            return f"{chosen} {b' '.join(names)!a}"
    return f"{chosen} {os.environ.get('SLURM_CONF_SERVER', '')} {os.uname().nodename}"


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs 4 ms
            return file.read()
    except (OSError, ValueError):
        return b""
