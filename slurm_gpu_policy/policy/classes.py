"""The priority class that an operator gives to a job (rule V-908)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.model.action import Action
from slurm_gpu_policy.model.tag import CONTROLLER, read_tag
from slurm_gpu_policy.policy import rules

if TYPE_CHECKING:
    from slurm_gpu_policy.model.job import Job

CLASSES: Final = ("critical", "high", "normal", "low")
"""From the first in the line to the last."""
NO_CLASS: Final = "none"
"""Takes an operator's class away again."""


def set_class(job: Job, name: str, actor: str) -> Action:
    """Rule V-908: the mark by which the ordering knows a job's class.

    Raises:
        ValueError: *name* is neither a class nor :data:`NO_CLASS`.
    """
    if name not in (*CLASSES, NO_CLASS):
        msg = f"{name!r} is no priority class: it is one of {', '.join(CLASSES)}, or {NO_CLASS}"
        raise ValueError(msg)
    before = read_tag(job.admin_comment, CONTROLLER).get("class", NO_CLASS)
    return Action(
        "modify",
        job.job_id,
        job.address,
        rules.PRIORITY_CLASS,
        f"{actor} gave it the priority class {name}",
        before=f"class {before}",
        after=f"class {name}",
        user=job.user,
        mark=(("class", "" if name == NO_CLASS else name),),
    )
