"""The mark gpu-submit leaves in a job's comment: who it is to us, in a few words.

Slurm's comment is the one free text a user may set on every release, that squeue, sacct and
pyslurm all show, so it carries the token that makes submission exactly-once and the facts
that later decisions need: ``my own words gpu-submit(token=4f2a…;workload=training)``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

SUBMIT: Final = "gpu-submit"
"""Whose mark stands in a job's comment: the user's own facts, which the user could change."""
CONTROLLER: Final = "gpu-policy"
"""Whose mark stands in a job's admin comment, which only operators can write."""

_MARK = r"{}\(([A-Za-z0-9_.:=;-]*)\)"
_UNSAFE = r"[^A-Za-z0-9_.:-]"


def write_tag(facts: Mapping[str, str], comment: str = "", writer: str = SUBMIT) -> str:
    """Return *comment* with *writer*'s mark appended.

    Raises:
        ValueError: a key or value holds a character the mark cannot carry.
    """
    for key, value in facts.items():
        if re.search(_UNSAFE, key) or re.search(_UNSAFE, value):
            msg = f"the job mark cannot carry {key}={value!r}"
            raise ValueError(msg)
    mark = f"{writer}(" + ";".join(f"{key}={value}" for key, value in facts.items()) + ")"
    return f"{comment} {mark}" if comment else mark


def read_tag(comment: str, writer: str = SUBMIT) -> dict[str, str]:
    """Return the facts of *writer*'s last mark in *comment*; empty where there is none."""
    marks = re.findall(_MARK.format(writer), comment)
    if not marks:
        return {}
    pairs = (part.partition("=") for part in marks[-1].split(";"))
    return {key: value for key, sign, value in pairs if sign}


def workload_of(comment: str) -> str:
    """Return a job's workload class: gpu-submit's, else ``workload=NAME`` in the user's words.

    As slurm_conf/job_submit.lua reads it, so that a job of sbatch can name its class too.
    """
    marked = read_tag(comment).get("workload")
    if marked:
        return marked
    named = re.search(r"(?:^|[^\w])workload=([\w.:-]+)", comment, re.ASCII)
    return named[1] if named else ""


def strip_tag(comment: str, writer: str = SUBMIT) -> str:
    """Return *comment* without the marks of *writer*."""
    return re.sub(_MARK.format(writer), "", comment).strip()


def change_tag(comment: str, changes: Mapping[str, str], writer: str = CONTROLLER) -> str:
    """Return *comment* with some facts of *writer*'s mark changed; ``""`` takes one out."""
    facts = {**read_tag(comment, writer), **changes}
    kept = {key: value for key, value in facts.items() if value}
    rest = strip_tag(comment, writer)
    return write_tag(kept, rest, writer) if kept else rest
