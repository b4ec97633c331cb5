"""``gpu-policy init``: a starting policy file from what the live cluster has."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.config.loader import FILE_VARIABLE, SITE_FILE
from slurm_gpu_policy.config.starting import starting_policy
from slurm_gpu_policy.errors import RequestError
from slurm_gpu_policy.model.snapshot import Part
from slurm_gpu_policy.terminal.text import say

if TYPE_CHECKING:
    from slurm_gpu_policy.model.snapshot import Snapshot
    from slurm_gpu_policy.services.ports import ReadPort

_MODE = 0o644


@click.command("init")
@click.argument("file", required=False)
@click.option("--force", is_flag=True, help="Replace a file that is there already.")
def command(*, file: str | None, force: bool) -> None:
    """Write a starting policy file for this cluster to FILE; `-` is standard output.

    Without FILE it goes where gpu-policy looks for it: $GPU_POLICY_FILE, else
    /etc/slurm-gpu-policy/policy.yaml. A file that is there already is only replaced with --force.
    """
    target = file or os.environ.get(FILE_VARIABLE) or SITE_FILE
    if target != "-" and not force and os.path.lexists(target):
        raise _there(target)
    text = starting_policy(read_cluster(bootstrap.connect(bootstrap.default_policy())))
    if target == "-":
        say(text.rstrip("\n"))
        return
    if target == SITE_FILE:
        _make_folder(Path(SITE_FILE).parent)
    write_whole(Path(target), text.encode(), replace=force)
    say(f"wrote {target}; next: edit it, then gpu-policy check {target}")


def read_cluster(slurm: ReadPort) -> Snapshot:
    """Return what a starting file tells of."""
    return slurm.read(Part.PARTITIONS, Part.NODES, Part.ASSOCIATIONS, Part.CONFIG)


def write_whole(path: Path, content: bytes, *, replace: bool) -> None:
    """Write a file at once or not at all, through a link if *path* is one.

    Raises:
        RequestError: it is there already and *replace* is not set, or cannot be written.
    """
    path = Path(os.path.realpath(path))
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            if replace:
                partial.replace(path)
            else:
                os.link(partial, path)  # fails if somebody was quicker
        finally:
            partial.unlink(missing_ok=True)
    except FileExistsError as error:
        raise _there(str(path)) from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        msg = f"{path} cannot be written: {why}"
        raise RequestError(msg) from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o755, exist_ok=True)
    except OSError as error:
        msg = f"{folder} cannot be made: {error.strerror} (give a FILE of your own, or be root)"
        raise RequestError(msg) from error


def _there(path: str) -> RequestError:
    return RequestError(f"{path} is there already: give --force to replace it, or another FILE")
