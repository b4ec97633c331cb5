"""The GPUs of a request, out of whichever option of sbatch or of ours asks for them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from slurm_gpu_policy.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

# A text: re compiles and keeps it when it is used, and most calls need no pattern.
_GPUS = (
    r"(?:(?P<type>(?=[0-9_.-]*[A-Za-z])[A-Za-z0-9][A-Za-z0-9_.-]*)(?::|=|$))?(?P<count>\d{1,6})?"
)
COUNTED = ("gpus", "gpus-per-node", "gpus-per-task", "gres")
_UNCOUNTED = (
    "gpus-per-socket",
    "ntasks-per-gpu",
    "tres-per-task",
    "tres-per-node",
    "tres-per-job",
)
_DIGITS = 6


class Gpus(NamedTuple):
    """What is asked for: a total or a number on each node, and the type if one is named.

    ``other_gres`` is the rest of a ``--gres`` list.
    """

    total: int | None = None
    per_node: int | None = None
    gpu_type: str = ""
    other_gres: str = ""
    asked: bool = False


def read_gpus(options: Mapping[str, str]) -> Gpus:
    """Return the GPUs that *options* (sbatch's long names) ask for.

    Raises:
        RequestError: a count that is none, two options that both ask, more than one type, or a
            form whose number of GPUs cannot be told before the job runs.
    """
    for name in _UNCOUNTED:
        if name in options and ("gpu" in options[name] or not name.startswith("tres")):
            msg = (
                f"--{name}={options[name]}: how many GPUs that is cannot be told beforehand; "
                "ask with --gpus, --gpus-per-node or --gpus-per-task"
            )
            raise RequestError(msg)
    rest, entries = _split_gres(options.get("gres", ""))
    asking = [name for name in COUNTED if name in options and (name != "gres" or entries)]
    if len(asking) > 1:
        msg = f"--{asking[0]} and --{asking[1]} both ask for GPUs: give one of them"
        raise RequestError(msg)
    if not asking:
        return Gpus(other_gres=rest)
    name = asking[0]
    kind, count = gpu_count(name, entries[0] if name == "gres" else options[name])
    if len(entries) > 1:
        msg = f"--gres={options['gres']} asks for GPUs twice: a job has one GPU type"
        raise RequestError(msg)
    per_node = name in {"gpus-per-node", "gres"}
    if name == "gpus-per-task":
        count *= _tasks(options)
    return Gpus(
        total=None if per_node else count or None,
        per_node=(count or None) if per_node else None,
        gpu_type=kind,
        other_gres=rest,
        asked=True,
    )


def gpu_count(option: str, text: str) -> tuple[str, int]:
    """Return (type or ``""``, count) of ``4``, ``h100`` or ``h100:4``."""
    if text.isascii() and text.isdigit() and len(text) <= _DIGITS:
        return "", int(text)
    match = re.fullmatch(_GPUS, text.strip(), re.ASCII)
    if match is None or not text.strip():
        what = "one GPU type a job" if "," in text else "a count, or a type and a count"
        msg = f"--{option}={text} is not understood: write {what}, such as 4 or h100:4"
        raise RequestError(msg)
    return match["type"] or "", int(match["count"] or 1)


def _split_gres(text: str) -> tuple[str, list[str]]:
    """Return the entries of a ``--gres`` list that are no GPUs, and the rest of those that are."""
    others, gpus = [], []
    for entry in text.split(",") if text and text.lower() != "none" else ():
        name, _, rest = entry.removeprefix("gres:").removeprefix("gres/").partition(":")
        if name.partition("=")[0] == "gpu":
            gpus.append(rest or name.partition("=")[2] or "1")
        else:
            others.append(entry)
    return ",".join(others), gpus


def _tasks(options: Mapping[str, str]) -> int:
    """Return the number of tasks, as sbatch counts them: --ntasks, or so many on each node."""
    if (tasks := options.get("ntasks", "")).isdecimal():
        return int(tasks)
    each = options.get("ntasks-per-node", "1")
    nodes = options.get("nodes", "1").rpartition("-")[2]
    return int(each) * int(nodes) if each.isdecimal() and nodes.isdecimal() else 1
