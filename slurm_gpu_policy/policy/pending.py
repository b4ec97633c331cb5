"""What the deciders ask of a job that waits: since when, how many tasks, what its marks say."""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from slurm_gpu_policy.model.tag import CONTROLLER, SUBMIT, read_tag

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slurm_gpu_policy.model.job import Job

_NOTHING: Mapping[str, str] = {}
_NOT_YET = frozenset({"Dependency", "DependencyNeverSatisfied", "BeginTime"})


def controller_mark(job: Job) -> Mapping[str, str]:
    """Return the controller's facts about *job*; only operators can have written them."""
    return _read(job.admin_comment, CONTROLLER) if job.admin_comment else _NOTHING


def own_mark(job: Job) -> Mapping[str, str]:
    """Return gpu-submit's facts about *job*; its user could have changed them."""
    return _read(job.comment, SUBMIT) if job.comment else _NOTHING


@lru_cache(maxsize=1024)
def _read(comment: str, writer: str) -> Mapping[str, str]:
    """Read a mark once where several rules ask for it, one after the other."""
    return MappingProxyType(read_tag(comment, writer))


def points(mark: Mapping[str, str], key: str) -> int | None:
    """Return a number in a mark; ``None`` where there is none, or something else."""
    text = mark.get(key, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None  # noqa: PLR2004


def submitted(job: Job) -> int:
    """Return when *job* was submitted first (Unix seconds); Slurm forgets that on a requeue."""
    first = points(controller_mark(job), "first")
    return first if first is not None else job.submit_time or 0


def age_order(job: Job) -> tuple[int, int, int]:
    """Return the key that sorts by first submission; jobs submitted together keep their order."""
    return (submitted(job), int(job.array_job_id or job.het_job_id or job.job_id), int(job.job_id))


def is_held(job: Job) -> bool:
    """Whether a pending job waits for somebody to release it (Slurm keeps that as priority 0)."""
    return job.priority == 0


def is_eligible(job: Job, now: int) -> bool:
    """Whether a pending job could start if there were room: begin time and dependencies allow."""
    if job.reason in _NOT_YET:
        return False
    return job.eligible_time is None or job.eligible_time <= now


def task_ranges(job: Job) -> tuple[range, ...]:
    """Return the task numbers of an array's pending rest (``1-9:2,12%3``); none outside arrays.

    A text that Slurm has cut short (``1,3,...``) gives the numbers before the cut.
    """
    listed = job.array_task.partition("%")[0]
    found = []
    for part in listed.split(",") if listed else ():
        numbers, _, step = part.partition(":")
        first, _, last = numbers.partition("-")
        if not all(text.isascii() and text.isdigit() for text in (first, last or "0", step or "1")):
            break
        found.append(range(int(first), int(last or first) + 1, int(step or 1) or 1))
    return tuple(found)


def task_count(job: Job) -> int:
    """Return how many jobs this record stands for."""
    return sum(len(tasks) for tasks in task_ranges(job)) or 1
