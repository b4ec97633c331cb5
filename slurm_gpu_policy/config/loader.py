"""The only reader of the site's policy file and the user's settings."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.config.frozen import from_plain, to_plain
from slurm_gpu_policy.content_cache import cached
from slurm_gpu_policy.errors import PolicyFileError, RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slurm_gpu_policy.config.schema import Policy

SITE_FILE = "/etc/slurm-gpu-policy/policy.yaml"
USER_FILE = "~/.config/slurm-gpu-policy/submit.yaml"
FILE_VARIABLE = "GPU_POLICY_FILE"
USER_FILE_VARIABLE = "GPU_POLICY_USER_FILE"
BUILTIN = "(built-in defaults)"
_LARGEST_BYTES = 4 * 1024 * 1024


def find_policy_file(path: str | None = None) -> str | None:
    """Return the policy file in force: *path*, ``$GPU_POLICY_FILE``, the site's, or ``None``."""
    chosen = path or os.environ.get(FILE_VARIABLE)
    if chosen:
        return chosen
    return SITE_FILE if os.path.exists(SITE_FILE) else None  # noqa: PTH110 - see content_cache


def load_policy(path: str | None = None) -> Policy:
    """Return the policy in force, read-only (see :mod:`~slurm_gpu_policy.config.frozen`).

    Raises:
        PolicyFileError: the file cannot be read or is wrong; every problem is in it.
    """
    chosen = find_policy_file(path)
    source = read_source(chosen) if chosen else b""
    key = b"%d\0%s\0%s" % (_schema_time(), os.fsencode(chosen or ""), source)

    def make() -> Any:
        from slurm_gpu_policy.config.validation import validate  # noqa: PLC0415 - pydantic

        return to_plain(validate(source, chosen or BUILTIN))

    return from_plain(cached("policy", key, make))


def _schema_time() -> int:
    """Return when the file's form last changed, in nanoseconds: an upgrade outdates the cache."""
    with os.scandir(os.path.dirname(__file__)) as here:  # noqa: PTH120 - pathlib costs 4 ms
        return max(entry.stat().st_mtime_ns for entry in here if entry.name.endswith(".py"))


def load_user_options(known: Mapping[str, str]) -> dict[str, str | list[str]]:
    """Return the user's own option defaults, by click's parameter name.

    *known* maps the option names the file may use (``gpu-type``) to parameter names.

    Raises:
        RequestError: the file cannot be read, or names an option that does not exist.
    """
    path = os.environ.get(USER_FILE_VARIABLE) or os.path.expanduser(USER_FILE)  # noqa: PTH111
    if not os.path.exists(path):  # noqa: PTH110
        return {}

    def make() -> Any:
        from slurm_gpu_policy.config.validation import validate_options  # noqa: PLC0415 - yaml

        return validate_options(source, path, known)

    try:
        source = read_source(path)
        key = b"%s\0%s\0%s" % (os.fsencode(path), source, " ".join(sorted(known)).encode())
        return dict(cached("options", key, make))
    except PolicyFileError as error:  # the user's file, not the site's: wrong use
        msg = f"your settings file is wrong:\n{error}"
        raise RequestError(msg) from error


def read_source(path: str) -> bytes:
    """Return the bytes of a settings file.

    Raises:
        PolicyFileError: there is no such file, it cannot be read, or it is far too large.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            source = file.read(_LARGEST_BYTES + 1)
    except OSError as error:
        raise PolicyFileError(path, [f"{path}: cannot be read: {error.strerror}"]) from error
    except ValueError as error:  # a path with a NUL byte
        raise PolicyFileError(path, [f"{path!r}: is not a path: {error}"]) from error
    if len(source) > _LARGEST_BYTES:
        raise PolicyFileError(path, [f"{path}: is larger than {_LARGEST_BYTES} bytes"])
    return source
