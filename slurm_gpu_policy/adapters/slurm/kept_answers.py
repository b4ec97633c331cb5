"""Answers of slurmdbd, kept for a few minutes in the user's own folder.

``sacctmgr`` takes 0.2 to 0.4 s whatever it is asked: slurmdbd writes each reply in two parts
and the kernel holds the second back for 40 ms, several times a session. Accounts and QOS
change rarely and Slurm checks them again at submission, so a slightly old answer does no
harm; and when slurmdbd is down an old one is better than none, for Slurm itself goes on then.
"""

from __future__ import annotations

import os
from binascii import crc32
from typing import TYPE_CHECKING

from slurm_gpu_policy.content_cache import read_private, write_private

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_gpu_policy.services.ports import Clock


class KeptAnswers:
    """A folder of answers, one file for each question; only its owner may read it."""

    def __init__(self, folder: str, clock: Clock, seconds: int = 300) -> None:
        self._folder = folder
        self._clock = clock
        self._seconds = seconds

    def get(self, name: str, argv: Sequence[str], *, stale: bool = False) -> str | None:
        """Return the answer kept for *argv*, or ``None``; an old one too if *stale*."""
        question, path = self._place(name, argv)
        kept = read_private(path)
        if kept is None:
            return None
        asked, _, text = kept[0].decode("utf-8", "replace").partition("\n")
        age = self._clock.now() - kept[1]
        if asked != question or not (stale or 0 <= age < self._seconds):
            return None
        return text

    def put(self, name: str, argv: Sequence[str], text: str) -> None:
        """Keep *text*; a folder that cannot be written is no error."""
        question, path = self._place(name, argv)
        write_private(path, f"{question}\n{text}".encode("utf-8", "replace"))

    def _place(self, name: str, argv: Sequence[str]) -> tuple[str, str]:
        # The question is the file's first line: another version's answers are never misread.
        question = "\x1f".join((*argv, os.environ.get("SLURM_CONF", "")))
        return question, f"{self._folder}/{name}-{crc32(question.encode()):08x}"
