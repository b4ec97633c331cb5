"""How long a job will run, from what its user's jobs of the same name and size have run before.

A prediction is a quantile of the latest completed runs: of the same user, name and number of
GPUs; where those are too few, of the same user; else the time limit. It is never longer than
the time limit.
"""

from __future__ import annotations

from dataclasses import field
from math import ceil
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.record import record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from slurm_gpu_policy.config.ordering import History
    from slurm_gpu_policy.model.job import AccountingRecord, Job

Key = tuple[str, str, int]
"""User, job name without its number, GPUs; of all jobs of a user: ``(user, "", -1)``."""
Run = tuple[int, int, int]
"""End (Unix seconds), job id, seconds it ran; in this order, so that runs sort by their end."""

MOST_KEYS: Final = 50_000
"""Kinds of jobs that are remembered; those that have not run for longest are forgotten."""


@record
class RunTimes:
    """The latest completed runs of each kind of job, oldest first. Nobody's, to begin with."""

    runs: Mapping[Key, tuple[Run, ...]] = field(default_factory=lambda: MappingProxyType({}))


NONE_YET: Final = RunTimes()


@record
class RunTime:
    """A job's run time as far as it is known, and what it comes from."""

    seconds: int | None
    """``None`` where the job has no time limit and nothing like it has run."""
    source: Literal["job name", "user", "time limit"]
    runs: int = 0
    """How many runs it comes from."""

    @property
    def words(self) -> str:
        """Where it comes from, for a reason."""
        if self.source == "time limit":
            return "time limit"
        whose = "jobs of this name and size" if self.source == "job name" else "jobs of this user"
        return f"predicted from the last {self.runs} {whose}"


def plain_name(name: str) -> str:
    """Return a job's name without the number at its end: ``train-17`` and ``train-18`` are one."""
    return name.rstrip("0123456789-_.:#")


def extended(known: RunTimes, records: Iterable[AccountingRecord], history: History) -> RunTimes:
    """Return *known* with more runs; those it has already, and runs cut short, change nothing."""
    new: dict[Key, set[Run]] = {}
    for one in records:
        if one.state is not JobState.COMPLETED or one.end_time is None or one.elapsed_seconds < 1:
            continue
        ran = (one.end_time, int(one.job_id), one.elapsed_seconds)
        new.setdefault(
            (one.user, plain_name(one.name), one.allocated_tres.get("gres/gpu", 0)), set()
        ).add(ran)
        new.setdefault((one.user, "", -1), set()).add(ran)
    if not new:
        return known
    runs = dict(known.runs)
    for key, found in new.items():
        runs[key] = tuple(sorted(found.union(runs.get(key, ())))[-history.runs :])
    if len(runs) > MOST_KEYS:
        latest = sorted(runs, key=lambda key: runs[key][-1], reverse=True)[:MOST_KEYS]
        runs = {key: runs[key] for key in latest}
    return RunTimes(MappingProxyType(runs))


def run_time(job: Job, known: RunTimes, history: History) -> RunTime:
    """Return how long *job* will run, and what that comes from."""
    limit = job.time_limit_seconds
    by_name: Key = (job.user, plain_name(job.name), job.gpus)
    sources: tuple[tuple[Literal["job name", "user"], Key], ...] = (
        ("job name", by_name),
        ("user", (job.user, "", -1)),
    )
    for source, key in sources:
        runs = known.runs.get(key, ())
        if len(runs) >= history.at_least:
            seconds = _quantile([run[2] for run in runs], history.quantile)
            return RunTime(seconds if limit is None else min(seconds, limit), source, len(runs))
    return RunTime(limit, "time limit")


def _quantile(values: list[int], part: float) -> int:
    """Return the smallest of *values* that at least *part* of them do not pass."""
    return sorted(values)[max(0, ceil(part * len(values)) - 1)]
