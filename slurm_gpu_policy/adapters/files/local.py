"""Small files, written at once or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from slurm_gpu_policy.errors import PolicyLayerError

_MODE = 0o644


class LocalFiles:
    """Implements :class:`slurm_gpu_policy.services.ports.FilePort`."""

    def read(self, path: str) -> str | None:
        """See :meth:`slurm_gpu_policy.services.ports.FilePort.read`."""
        try:
            return Path(path).read_bytes().decode("utf-8", "surrogateescape")
        except FileNotFoundError:
            return None
        except OSError as error:
            msg = f"{path} cannot be read: {error.strerror}"
            raise PolicyLayerError(msg) from error

    def write(self, path: str, text: str) -> None:
        """See :meth:`slurm_gpu_policy.services.ports.FilePort.write`."""
        try:
            replace_file(Path(path), text.encode("utf-8", "surrogateescape"))
        except OSError as error:
            msg = f"{path} cannot be written: {error.strerror}"
            raise PolicyLayerError(msg) from error


def replace_file(path: Path, content: bytes, mode: int = _MODE) -> None:
    """Write a file beside *path* (through a link: beside what it leads to) and move it there.

    Raises:
        OSError: it cannot be written; *path* is as it was.
    """
    path = path.resolve()
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
