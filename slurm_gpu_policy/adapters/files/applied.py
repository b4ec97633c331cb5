"""``applied-CLUSTER.json``: what ``gpu-policy apply`` has made, over crashes."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.adapters.files.local import replace_file
from slurm_gpu_policy.errors import NotAllowed, PolicyLayerError
from slurm_gpu_policy.model.plan import Made

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_VERSION = 1
_LOCK = "apply.lock"


class AppliedFile:
    """Implements :class:`slurm_gpu_policy.services.ports.MadePort` in one folder.

    *on_wait* is called when another apply is at work and must be waited for.
    """

    def __init__(self, folder: str, on_wait: Callable[[], None] = lambda: None) -> None:
        self._folder = Path(folder)
        self._on_wait = on_wait

    @contextmanager
    def alone(self) -> Iterator[None]:
        """See :meth:`slurm_gpu_policy.services.ports.MadePort.alone`."""
        path = self._folder / _LOCK
        try:
            self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _cannot_write(path, error) from error
        try:
            # The programs that we start hold the lock with us: when we are killed, the next
            # apply waits until the one we had started is done.
            os.set_inheritable(descriptor, True)  # noqa: FBT003 - its name says it
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._on_wait()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def load(self, cluster: str) -> Made:
        """See :meth:`slurm_gpu_policy.services.ports.MadePort.load`."""
        path = self._path(cluster)
        try:
            return _read(json.loads(path.read_bytes()), cluster)
        except FileNotFoundError:
            return Made()
        except OSError as error:
            msg = f"{path} cannot be read: {error.strerror}"
            raise PolicyLayerError(msg) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            msg = (
                f"{path} is damaged, or another version's: put it right from a backup, or move it "
                "away: what apply has made until now then counts as made by others"
            )
            raise PolicyLayerError(msg) from error

    def save(self, cluster: str, made: Made) -> None:
        """See :meth:`slurm_gpu_policy.services.ports.MadePort.save`."""
        path = self._path(cluster)
        kept = {
            "version": _VERSION,
            "cluster": cluster,
            "objects": sorted(made.objects),
            "closed": dict(sorted(made.closed.items())),
        }
        try:
            replace_file(path, json.dumps(kept, indent=1).encode() + b"\n")
        except OSError as error:
            raise _cannot_write(path, error) from error

    def _path(self, cluster: str) -> Path:
        if "/" in cluster or not cluster:
            msg = f"the cluster's name {cluster!r} cannot be part of a file's name"
            raise PolicyLayerError(msg)
        return self._folder / f"applied-{cluster}.json"


def _read(kept: Any, cluster: str) -> Made:
    if kept["version"] != _VERSION or kept["cluster"] != cluster:
        raise ValueError(kept["version"], kept["cluster"])
    return Made(
        frozenset(tuple(str(part) for part in one) for one in kept["objects"] if one),
        {str(name): str(before) for name, before in kept["closed"].items()},
    )


def _cannot_write(path: Path, error: OSError) -> NotAllowed:
    msg = f"{path} cannot be written: {error.strerror}"
    if isinstance(error, PermissionError):
        msg += (
            "; apply is for root or SlurmUser, always the same of the two, on the machine of "
            "slurmctld"
        )
    return NotAllowed(msg)
