"""Which of Slurm's records an id means: a job, an array or one task of it, a group's part.

Slurm answers for ``123_4`` while that task waits with the others' record ``123_[0-9]``, and
for ``123+1`` with the whole heterogeneous job; here the record is found that was meant.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from slurm_gpu_policy.model.job import AccountingRecord, Job

_RANGE = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?", re.ASCII)


def holds(tasks: str, number: int) -> bool:
    """Whether a task list such as ``1,4-9:2%3`` has the task *number*."""
    return any(number in part for part in _ranges(tasks))


def is_range(task: str) -> bool:
    """Whether *task* is a list of tasks (an array's waiting rest) rather than one."""
    return bool(task) and not task.isdigit()


def _ranges(tasks: str) -> Iterator[range]:
    for part in tasks.strip("[] ").partition("%")[0].split(","):
        match = _RANGE.fullmatch(part.strip("[] "))
        if match is not None:
            first, step = int(match[1]), int(match[3] or 1)
            yield range(first, int(match[2] or first) + 1, max(step, 1))


def _is_fully_within(tasks: str, others: str) -> bool:
    whole = tuple(_ranges(others))
    return all(any(number in part for part in whole) for one in _ranges(tasks) for number in one)


class Selection:
    """The records that some ids mean: ``123``, ``123_4``, ``123_[5-9]``, ``123+1``."""

    def __init__(self, job_ids: Sequence[str]) -> None:
        self.job_ids = tuple(job_ids)
        self._numbers: dict[int, str] = {}
        self._parts: dict[str, str] = {}
        self._tasks: dict[int, dict[int, str]] = {}
        self._lists: dict[int, dict[str, str]] = {}
        for job_id in self.job_ids:
            head, sign, rest = job_id.partition("_")
            if not sign:
                head, sign, rest = job_id.partition("+")
            base = int(head)
            if not sign:
                self._numbers[base] = job_id
            elif sign == "+":
                self._parts[f"{base}+{int(rest)}"] = job_id
            elif is_range(rest):
                self._lists.setdefault(base, {})[rest] = job_id
            else:
                self._tasks.setdefault(base, {})[int(rest)] = job_id

    @property
    def asked(self) -> tuple[str, ...]:
        """What to ask Slurm for: ids in a form that each of its programs takes."""
        return asked(self.job_ids)

    def of(self, jobs: Iterable[Job]) -> tuple[Job, ...]:
        """Return the records that the ids mean.

        A task that waits with others in one record gets a record of its own.
        """
        return tuple(meant for job in jobs for meant in self._meant(job))

    def ids_of(self, job: Job | AccountingRecord) -> tuple[str, ...]:
        """Return the ids among ours that mean this record, or a task in it."""
        head, sign, task = job.display_id.partition("_")
        base = int(head) if sign else int(head.partition("+")[0])
        found = [
            self._numbers.get(job.job_id),
            self._numbers.get(base),
            self._parts.get(job.display_id),
        ]
        if not sign:
            return tuple(dict.fromkeys(filter(None, found)))
        wanted, lists = self._tasks.get(base, {}), self._lists.get(base, {})
        if task.isdigit():
            found.append(wanted.get(int(task)))
            found += [job_id for tasks, job_id in lists.items() if holds(tasks, int(task))]
        else:
            found += [job_id for number, job_id in wanted.items() if holds(task, number)]
            found += [job_id for tasks, job_id in lists.items() if _is_fully_within(task, tasks)]
        return tuple(dict.fromkeys(filter(None, found)))

    def _meant(self, job: Job) -> Iterator[Job]:
        base = job.array_job_id
        if base is None:
            if (
                job.job_id in self._numbers
                or (job.het_job_id or 0) in self._numbers
                or job.display_id in self._parts
            ):
                yield job
            return
        if job.job_id in self._numbers or base in self._numbers:
            yield job
            return
        wanted, lists = self._tasks.get(base), self._lists.get(base)
        if not wanted and not lists:
            return
        if not is_range(job.array_task):
            if self.ids_of(job):
                yield job
            return
        if any(_is_fully_within(job.array_task, tasks) for tasks in lists or ()):
            yield job
            return
        for number in wanted or ():
            if holds(job.array_task, number):
                yield replace(job, display_id=f"{base}_{number}", array_task=str(number))


def asked(job_ids: Iterable[str]) -> tuple[str, ...]:
    """Return *job_ids* as every program of Slurm takes them, each once.

    A part of a heterogeneous job, or a list of tasks, is asked for by its number alone.
    """
    return tuple(dict.fromkeys(_plain(job_id) for job_id in job_ids))


def _plain(job_id: str) -> str:
    if "+" in job_id or "[" in job_id:
        return job_id.partition("+")[0].partition("_")[0]
    return job_id
