"""Generic resources in Slurm's several notations, and how many GPUs a job has.

==============================  ====================================================
``gpu:h100:8(S:0-1)``           what a node has (``Gres=``), with its sockets
``gpu:h100:3(IDX:0,2-3)``       what is used of it (``GresUsed=``), or one job's share
``gpu:(null):1(IDX:4)``         the same without a type
``gpu:1g.10gb:2``               a type may hold dots, dashes and underscores (MIG)
``shard:h100:4(0/0,2/4,2/4)``   shards are no GPUs
``gres:gpu:h100:2``             what a job asks for, as 22.05 prints it
``gres/gpu:h100:2``             the same from 23.11 on
``gres/gpu=4,gres/gpu:h100=4``  TRES: the total, and the same GPUs again by type
==============================  ====================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from slurm_gpu_policy.adapters.slurm.quantities import UNSET, count, tres
from slurm_gpu_policy.model.hostlist import indexes

if TYPE_CHECKING:
    from collections.abc import Iterator

_GPU = "gpu"
_NO_TYPE = frozenset({"", "(null)", "no_consume", "no_gpu_env"})


class Gres(NamedTuple):
    """One entry of a list: GPUs of one type, and which ones where Slurm says so."""

    kind: str
    number: int
    indexes: tuple[int, ...] = ()


def gpus(text: str) -> tuple[Gres, ...]:
    """Return the GPU entries of a GRES list; other resources (shards, MPS, licences) are not.

    Raises:
        ValueError: an entry for GPUs that has none of the forms above.
    """
    if text in UNSET:
        return ()
    return tuple(_entry(part) for part in _split(text) if _is_gpu(part))


def _split(text: str) -> Iterator[str]:
    """Split at the commas outside parentheses."""
    if "(" not in text:
        yield from text.split(",")
        return
    start = depth = 0
    for position, letter in enumerate(text):
        if letter == "(":
            depth += 1
        elif letter == ")":
            depth -= 1
        elif letter == "," and depth == 0:
            yield text[start:position]
            start = position + 1
    yield text[start:]


def _bare(part: str) -> str:
    return part.removeprefix("gres:").removeprefix("gres/")


def _is_gpu(part: str) -> bool:
    part = _bare(part)
    return part.startswith(_GPU) and (len(part) == len(_GPU) or part[len(_GPU)] in ":=(")


def _entry(part: str) -> Gres:
    body = _bare(part).replace("(null)", "")
    body, _, note = body.partition("(")
    fields = body.replace("=", ":").split(":")[1:]
    number = 1  # `--gres=gpu` is one
    if fields and (fields[-1][:1].isdigit() and fields[-1].rstrip("KMGTP").isdigit()):
        number = count(fields.pop())
    elif fields and len(fields) > 1:
        msg = f"no count of GPUs: {part!r}"
        raise ValueError(msg)
    kind = next((field for field in fields if field not in _NO_TYPE), "")
    where = note.removesuffix(")")
    if where.startswith("IDX:"):
        return Gres(kind, number, indexes(where.removeprefix("IDX:")))
    return Gres(kind, number)


def gpus_in_tres(text: str) -> tuple[int, str]:
    """Return (GPUs, type) from a TRES list; ``""`` for the type if it names none or several.

    Typed and untyped entries count the same GPUs, so they are not added up.
    """
    if "gres/gpu" not in text:
        return (0, "")
    total, by_type = 0, {}
    for name, number in tres(text).items():
        if name == "gres/gpu":
            total = number
        elif name.startswith("gres/gpu:"):
            by_type[name[len("gres/gpu:") :]] = number
    held = {kind: number for kind, number in by_type.items() if number}
    kind = next(iter(held)) if len(held) == 1 else ""
    return (max(total, sum(held.values())), kind)


def gpus_requested(
    asked: tuple[str, str, str, str], nodes: int = 1, tasks: int = 1
) -> tuple[int, str]:
    """Return (GPUs, type) of the whole job from what it asked for per job, node, socket, task.

    A socket's share cannot be multiplied without the layout, so it counts as one a node.
    """
    total = 0
    kinds: set[str] = set()
    for text, times in zip(asked, (1, max(nodes, 1), max(nodes, 1), max(tasks, 1)), strict=True):
        found = gpus(text)
        if found and not total:
            total = times * sum(entry.number for entry in found)
        kinds.update(entry.kind for entry in found)
    kinds.discard("")
    return (total, kinds.pop() if len(kinds) == 1 else "")
