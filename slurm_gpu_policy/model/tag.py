"""The mark gpu-submit leaves in a job's comment: who it is to us, in a few words.

Slurm's comment is the one free text a user may set on every release, that squeue, sacct and
pyslurm all show, so it carries the token that makes submission exactly-once and the facts
that later decisions need: ``my own words gpu-submit(token=4f2a…;workload=training)``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_MARK = r"gpu-submit\(([A-Za-z0-9_.:=;-]*)\)"
_UNSAFE = r"[^A-Za-z0-9_.:-]"


def write_tag(facts: Mapping[str, str], comment: str = "") -> str:
    """Return *comment* with the mark appended.

    Raises:
        ValueError: a key or value holds a character the mark cannot carry.
    """
    for key, value in facts.items():
        if re.search(_UNSAFE, key) or re.search(_UNSAFE, value):
            msg = f"the job mark cannot carry {key}={value!r}"
            raise ValueError(msg)
    mark = "gpu-submit(" + ";".join(f"{key}={value}" for key, value in facts.items()) + ")"
    return f"{comment} {mark}" if comment else mark


def read_tag(comment: str) -> dict[str, str]:
    """Return the facts of the last mark in *comment*; empty where there is none."""
    marks = re.findall(_MARK, comment)
    if not marks:
        return {}
    pairs = (part.partition("=") for part in marks[-1].split(";"))
    return {key: value for key, sign, value in pairs if sign}


def strip_tag(comment: str) -> str:
    """Return the user's own part of *comment*."""
    return re.sub(_MARK, "", comment).strip()
