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
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs gpu-submit 10 ms
                age = self._clock.now() - int(os.fstat(file.fileno()).st_mtime)
                asked, _, text = file.read().decode().partition("\n")
        except (OSError, UnicodeDecodeError):
            return None
        if asked != question or not (stale or 0 <= age < self._seconds):
            return None
        return text

    def put(self, name: str, argv: Sequence[str], text: str) -> None:
        """Keep *text*; a folder that cannot be written is no error."""
        question, path = self._place(name, argv)
        draft = f"{path}.{os.getpid()}"
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)  # noqa: PTH103 - as above
            with open(draft, "wb", opener=_private) as file:
                file.write(f"{question}\n{text}".encode())
            os.replace(draft, path)  # noqa: PTH105
        except (OSError, UnicodeEncodeError):
            return

    def _place(self, name: str, argv: Sequence[str]) -> tuple[str, str]:
        # The question is the file's first line: another version's answers are never misread.
        question = "\x1f".join((*argv, os.environ.get("SLURM_CONF", "")))
        return question, f"{self._folder}/{name}-{crc32(question.encode()):08x}"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
