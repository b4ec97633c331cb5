"""What jobs write: new lines as they come, or the end of a file."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, BinaryIO

from slurm_gpu_policy.terminal.text import safe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from slurm_gpu_policy.services.watch import Sight

_TAIL_LINES = 10
_TAIL_BYTES = 16 * 1024
_CHUNK_BYTES = 64 * 1024
_LONGEST_LINE_BYTES = 64 * 1024
_OLD_SECONDS = 60
"""Of a job that runs for longer when we come, only the end of its output so far is shown."""


class Follower:
    """Hands each new line that jobs write to *tell*, once; with the job's id if there are several.

    Jobs that share an output file are followed as one.
    """

    def __init__(self, job_ids: Sequence[str], tell: Callable[[str], None]) -> None:
        self._job_ids = tuple(job_ids)
        self._tell = tell
        self._files: dict[str, _Growing] = {}
        self._prefixes: dict[str, str] = {}
        self._paths: dict[str, str] = {}

    def note(self, sight: Sight) -> None:
        """Follow the output files of a sight's jobs from now on."""
        for job in sight.jobs:
            path = sight.outputs.get(job.display_id)
            if path:
                self._paths[job.display_id] = path
            if path and path not in self._files:
                is_old = job.elapsed_seconds > _OLD_SECONDS
                self._files[path] = _Growing(path, only_end=is_old)
                is_alone = self._job_ids == (job.display_id,)
                self._prefixes[path] = "" if is_alone else f"{job.display_id}| "

    def look(self) -> None:
        """Tell of the lines that have come."""
        for path, file in self._files.items():
            for line in file.lines():
                self._tell(self._prefixes[path] + line)

    def finish(self, display_id: str) -> None:
        """Tell of all that a job wrote, also of a last line without an end."""
        path = self._paths.get(display_id)
        if path is not None:
            for line in (*self._files[path].lines(), *self._files[path].rest()):
                self._tell(self._prefixes[path] + line)


class _Growing:
    """A file that others write: :meth:`lines` yields each whole line once."""

    def __init__(self, path: str, *, only_end: bool) -> None:
        self._path = path
        self._only_end = only_end
        self._at = 0
        self._rest = b""

    def lines(self) -> Iterator[str]:
        """Yield the lines since the last call; none while the file cannot be read from here."""
        try:
            with _open(self._path) as file:
                if self._only_end:
                    self._only_end = False
                    data = _last_lines(file)
                    self._at = file.tell() - len(data)
                if os.fstat(file.fileno()).st_size < self._at:  # a requeued job began it anew
                    self._at, self._rest = 0, b""
                file.seek(self._at)
                while chunk := file.read(_CHUNK_BYTES):
                    self._at += len(chunk)
                    *whole, self._rest = (self._rest + chunk).split(b"\n")
                    if len(self._rest) > _LONGEST_LINE_BYTES:
                        whole, self._rest = [*whole, self._rest], b""
                    yield from map(_shown, whole)
        except OSError:
            return

    def rest(self) -> Iterator[str]:
        """Yield the last line if it has no end, once."""
        rest, self._rest = self._rest, b""
        if rest:
            yield _shown(rest)


def tail(path: str) -> list[str]:
    """Return the last lines of a job's output; empty while it cannot be read from here."""
    if not path:
        return []
    try:
        with _open(path) as file:
            return [_shown(line) for line in _last_lines(file).splitlines()]
    except OSError:
        return []


def _open(path: str) -> BinaryIO:
    """Open a job's output file; a pipe or device is none (and could keep us waiting)."""
    file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")  # noqa: PTH123, SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(path)
    return file


def _last_lines(file: BinaryIO) -> bytes:
    """Return the last lines of *file*, and leave it at its end."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL_BYTES))
    data = file.read()
    return b"".join(data.splitlines(keepends=True)[-_TAIL_LINES:])


def _shown(line: bytes) -> str:
    """Return a line as a terminal would show it: of a progress bar only its last state."""
    text = line.rstrip(b"\r").rpartition(b"\r")[2]
    return safe(text.decode("utf-8", "replace"))
