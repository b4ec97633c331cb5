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
    folder = cache_folder()
    if folder is None:
        return make()
    tag = sys.implementation.cache_tag or "python"
    path = f"{folder}/{kind}-{zlib.crc32(source):08x}.{tag}"
    key = (__version__, kind, source)
    kept = read_private(path)
    if kept is not None:
        try:
            entry = marshal.loads(kept[0])  # noqa: S302 - our own file, as read_private checks
        except (ValueError, EOFError, TypeError):
            entry = None
        if isinstance(entry, tuple) and len(entry) == 2 and entry[0] == key:  # noqa: PLR2004
            return entry[1]
    value = make()
    write_private(path, marshal.dumps((key, value)))
    return value


def cache_folder() -> str | None:
    """Return the user's cache folder for this package; ``None`` where there is no usable home."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - pathlib costs 4 ms
    return f"{base}/slurm-gpu-policy" if base.startswith("/") else None


def read_private(path: str) -> tuple[bytes, int] | None:
    """Return a file's bytes and its age mark (mtime, Unix seconds).

    ``None`` unless it is a file of ours, of sensible size, that nobody else can write.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                return None
            if status.st_size > _LARGEST_BYTES:
                return None
            return file.read(), int(status.st_mtime)
    except OSError:
        return None


def write_private(path: str, data: bytes) -> None:
    """Write *data* to *path* at once or not at all, for us alone; failing to is no error."""
    partial = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.replace(partial, path)  # noqa: PTH105
        except OSError:
            os.unlink(partial)  # noqa: PTH108
    except OSError:
        return
