"""Results that depend on nothing but a file's content, kept between runs.

``gpu-submit`` must not pay for importing pydantic or Jinja2 at each call, so what they make of
a file is kept in the user's cache folder. An entry holds the whole source it was made from and
is used only where that is equal, byte for byte. A cache that is missing, foreign, damaged or
not writable is as good as none: the result is made anew.
"""

from __future__ import annotations

import marshal
import os
import sys
import zlib
from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

_LARGEST_BYTES = 8 * 1024 * 1024


def cached(kind: str, source: bytes, make: Callable[[], Any]) -> Any:
    """Return ``make()``, or what it returned before for the same *kind* and *source*.

    The value must be made of ``None``, ``bool``, ``int``, ``str``, ``bytes``, tuples, lists and
    dicts. Whatever ``make`` raises passes through and nothing is kept.
    """
    folder = _folder()
    if folder is None:
        return make()
    tag = sys.implementation.cache_tag or "python"
    path = os.path.join(folder, f"{kind}-{zlib.crc32(source):08x}.{tag}")  # noqa: PTH118 - pathlib costs 4 ms
    key = (__version__, kind, source)
    entry = _load(path)
    if isinstance(entry, tuple) and len(entry) == 2 and entry[0] == key:  # noqa: PLR2004
        return entry[1]
    value = make()
    _store(folder, path, marshal.dumps((key, value)))
    return value


def _folder() -> str | None:
    """Return the cache folder; ``None`` where the user has no usable home."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    return os.path.join(base, "slurm-gpu-policy") if base.startswith("/") else None  # noqa: PTH118


def _load(path: str) -> object:
    """Return the entry at *path*; ``None`` unless it is a file of ours that nobody else writes."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                return None
            if status.st_size > _LARGEST_BYTES:
                return None
            return marshal.loads(file.read())  # noqa: S302 - our own file, checked above
    except (OSError, ValueError, EOFError, TypeError):
        return None


def _store(folder: str, path: str, data: bytes) -> None:
    """Write *data* to *path* at once or not at all; failing to is no error."""
    partial = f"{path}.{os.getpid()}"
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.replace(partial, path)  # noqa: PTH105
        except OSError:
            os.unlink(partial)  # noqa: PTH108
    except OSError:
        return
