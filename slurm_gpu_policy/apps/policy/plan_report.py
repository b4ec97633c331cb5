"""A plan for people and for programs, as ``gpu-policy plan`` and ``apply`` print it."""

from __future__ import annotations

from difflib import unified_diff
from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.config.loader import BUILTIN, find_policy_file
from slurm_gpu_policy.errors import PolicyFileError
from slurm_gpu_policy.policy.planning.plan_words import in_words
from slurm_gpu_policy.terminal.text import say
from slurm_gpu_policy.units import counted

if TYPE_CHECKING:
    from slurm_gpu_policy.model.plan import Change, FileChange
    from slurm_gpu_policy.services.plan import Draft

_SIGNS = {"create": "+", "set": "~", "remove": "-"}
_MOST_DIFF_LINES = 40


def refuse_problems(draft: Draft) -> None:
    """Raise what the policy file wants and cannot be.

    Raises:
        PolicyFileError: there is such a thing.
    """
    if draft.plan.problems:
        path = find_policy_file() or BUILTIN
        raise PolicyFileError(path, [f"{path}: {problem}" for problem in draft.plan.problems])


def show_draft(draft: Draft) -> None:
    """Say what Slurm would get, a line a step, and the files as differences."""
    for change in draft.plan.changes:
        say(change_line(change))
    for file in draft.files:
        say(file_line(file))
        lines = diff(file)
        for line in lines[:_MOST_DIFF_LINES]:
            say(f"    {line}")
        if len(lines) > _MOST_DIFF_LINES:
            say(f"    … {len(lines) - _MOST_DIFF_LINES} more lines (--json has all)")
    for remark in draft.remarks:
        say(f"! {remark}")
    if draft.is_empty:
        say(f"nothing to do: cluster {draft.cluster} is as the policy file wants it")
    else:
        parts = [counted(len(draft.plan.changes), "change")]
        if draft.files:
            parts.append(counted(len(draft.files), "file"))
        say(f"{' and '.join(parts)} for cluster {draft.cluster}")


def change_line(change: Change) -> str:
    """Return ``~ account nlp: shares 10 -> 20``."""
    return f"{_SIGNS[change.verb]} {in_words(change)}"


def file_line(file: FileChange) -> str:
    """Return what happens to a file."""
    return f"+ write {file.path}" if file.before is None else f"~ rewrite {file.path}"


def diff(file: FileChange) -> list[str]:
    """Return a file's change as the lines of a unified diff."""
    before = (file.before or "").splitlines()
    lines = unified_diff(before, file.after.splitlines(), file.path, file.path, lineterm="", n=1)
    return list(lines)


def draft_json(draft: Draft) -> dict[str, Any]:
    """Return the object that ``--json`` prints."""
    return {
        "cluster": draft.cluster,
        "changes": [change_json(change) for change in draft.plan.changes],
        "files": [file_json(file) for file in draft.files],
        "remarks": list(draft.remarks),
    }


def change_json(change: Change) -> dict[str, Any]:
    """Return one step as an object."""
    return {
        "verb": change.verb,
        "kind": change.what[0],
        "name": list(change.what[1:]),
        "fields": [
            {"field": one.name, "before": one.before, "after": one.after} for one in change.fields
        ],
        "words": in_words(change),
    }


def file_json(file: FileChange) -> dict[str, Any]:
    """Return one file as an object."""
    return {
        "path": file.path,
        "exists": file.before is not None,
        "diff": "\n".join(diff(file)),
    }
