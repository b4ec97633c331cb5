"""The history of a job's attempts, for people (rules T-8xx)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy.explaining.ending import ending_words
from slurm_gpu_policy.policy.pending import controller_mark, points
from slurm_gpu_policy.policy.retry import ENDS, allowed, used
from slurm_gpu_policy.units import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.job import AccountingRecord, Job


@record
class Attempt:
    """One run of a job: 1 is the first. Times in Unix seconds."""

    number: int
    start_time: int | None
    end_time: int | None
    nodes: str
    state: JobState
    words: str
    """How it ended; ``""`` while it has not."""


@record
class Attempts:
    """All runs of a job, and what may follow."""

    runs: tuple[Attempt, ...] = ()
    made: int = 0
    """Retries made so far."""
    allowed: int = 0
    """Retries that it may have."""
    next_time: int | None = None
    """When the next attempt may begin, while the job waits for it (Unix seconds)."""
    words: str = ""
    """All of it in a sentence; ``""`` for a job that never was, and never will be, retried."""


def attempts(records: Sequence[AccountingRecord], job: Job | None, policy: Policy) -> Attempts:
    """Return a job's attempts: *records* are its runs in the accounting, *job* what Slurm holds.

    A run that ended without a start (cancelled while it waited) is none, and what went before a
    resize is none of its own.
    """
    ran = sorted(
        (
            item
            for item in records
            if item.start_time is not None and item.state is not JobState.RESIZING
        ),
        key=lambda item: item.start_time or 0,
    )
    runs = tuple(
        Attempt(
            number,
            item.start_time,
            item.end_time if item.is_over else None,
            item.node_list,
            item.state,
            _ending(item),
        )
        for number, item in enumerate(ran, 1)
    )
    if job is None:
        return Attempts(runs, max(len(runs) - 1, 0), words=_past(runs))
    most, made = allowed(job, policy), used(job, policy)
    next_time = points(controller_mark(job), "until") if job.state.is_pending else None
    return Attempts(runs, made, most, next_time, _words(job, made, most, policy, runs))


def _ending(item: AccountingRecord) -> str:
    """Return how a run ended; older Slurm overwrites its state when the job is requeued."""
    if item.state is not JobState.REQUEUED:
        return ending_words(item.state, item.exit_code, item.exit_signal)
    code = f" after exit code {item.exit_code}" if item.exit_code else ""
    return f"it was put back into the queue{code}"


def _past(runs: Sequence[Attempt]) -> str:
    return f"it ran {counted(len(runs), 'time')}" if len(runs) > 1 else ""


def _words(job: Job, made: int, most: int, policy: Policy, runs: Sequence[Attempt]) -> str:
    if not most:
        return _past(runs)
    told = f"{made} of {counted(most, 'retry').replace('retrys', 'retries')} used"
    if not job.state.is_over:
        return told
    if ENDS.get(job.state) in policy.retries.ends:
        return f"{told}; it is not tried again" if made >= most else f"{told}; it is tried again"
    return f"{told}; it is not tried again after this end"
