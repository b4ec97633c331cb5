"""All about one job: what it asked for, why it waits, where it runs, how it ended."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from slurm_gpu_policy.errors import JobNotFound, RequestError, SlurmRefused, SlurmUnavailable
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.model.snapshot import Part
from slurm_gpu_policy.policy.ending import ending_words
from slurm_gpu_policy.policy.waiting import NO_WORDS, needs_limits, places, waiting_words
from slurm_gpu_policy.services.ports import AccountPort, ReadPort
from slurm_gpu_policy.services.selecting import holds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_gpu_policy.model.job import AccountingRecord, Job, JobDetail
    from slurm_gpu_policy.policy.waiting import Place, Words

_ID = re.compile(r"(\d+)(?:_(\d+)|_\[[0-9,:%-]+\]|\+(\d+))?", re.ASCII)
_LARGEST_ID = 2**32 - 3
"""Slurm numbers jobs in 32 bits and uses the topmost two values as marks."""


class ExplainPort(ReadPort, AccountPort, Protocol):
    """What explaining needs of Slurm."""


@record
class Explanation:
    """One job, or the record that speaks for its array or group, with the others beside it.

    ``job`` is what Slurm has in memory; once it is gone from there, ``records`` is what
    accounting remembers, one entry per run, oldest first.
    """

    job: Job | None
    detail: JobDetail | None = None
    words: Words = NO_WORDS
    places: tuple[Place, ...] = ()
    estimated_start: int | None = None
    ending: str = ""
    records: tuple[AccountingRecord, ...] = ()
    group: tuple[Job, ...] = ()
    """All records of the array or heterogeneous job, where the whole of it was asked for."""


def explain(slurm: ExplainPort, job_id: str) -> Explanation:
    """Return what there is to say about a job: ``123``, ``123_4`` or ``123+1``.

    Raises:
        RequestError: *job_id* is not the form of an id.
        SlurmRefused: neither Slurm nor its accounting knows it.
    """
    base, asked = parse_job_id(job_id)
    found = slurm.jobs([base if "+" in asked or "[" in asked else asked])
    jobs = _chosen(found, asked)
    if not jobs:
        return _remembered(slurm, asked)
    job = _spokesman(jobs)
    detail = _detail(slurm, job)
    group = jobs if len(jobs) > 1 else ()
    if job.state.is_pending:
        return _waiting(slurm, job, detail, group)
    ending = ""
    if detail is not None:
        job = detail.job
        ending = ending_words(job.state, detail.exit_code, detail.exit_signal)
    return Explanation(job, detail, ending=ending, group=group)


def parse_job_id(job_id: str) -> tuple[str, str]:
    """Return (number of the job or array, the id without blanks).

    Raises:
        RequestError: *job_id* is not the form of an id.
        JobNotFound: no job can have this number.
    """
    asked = job_id.strip()
    match = _ID.fullmatch(asked)
    if match is None or len(asked) > 200:  # noqa: PLR2004 - a list of tasks can be long, not this
        msg = f"{job_id!r} is not a job id: write 123, 123_4 for an array task, or 123+1"
        raise RequestError(msg)
    if not 0 < int(match[1]) <= _LARGEST_ID:
        raise JobNotFound(asked)
    return str(int(match[1])), asked


def _chosen(found: Sequence[Job], asked: str) -> tuple[Job, ...]:
    """Return the records that *asked* means."""
    if asked.isdigit():
        number = int(asked)
        whole = tuple(
            job for job in found if number in {job.job_id, job.array_job_id, job.het_job_id}
        )
        # 124 may be the own number of task 123_4, and squeue answers with the whole array.
        if any(number in {job.array_job_id, job.het_job_id} for job in whole):
            return whole
        return tuple(job for job in whole if job.job_id == number)
    exact = tuple(job for job in found if job.display_id == asked)
    if exact or "_" not in asked or "[" in asked:
        return exact
    task = int(asked.partition("_")[2])
    return tuple(job for job in found if job.state.is_pending and holds(job.array_task, task))


def _spokesman(jobs: Sequence[Job]) -> Job:
    """Return the record most worth explaining: a waiting, else a running, else the last one."""
    waiting = [job for job in jobs if job.state.is_pending]
    active = [job for job in jobs if job.state.is_active]
    return (waiting or active or [jobs[-1]])[0]


def _detail(slurm: ExplainPort, job: Job) -> JobDetail | None:
    """Return a job's detail; ``None`` where it went away, or an array's number means another."""
    try:
        detail = slurm.job(str(job.job_id))
    except JobNotFound:
        return None
    return detail if detail.job.display_id == job.display_id else None


def _waiting(
    slurm: ExplainPort, job: Job, detail: JobDetail | None, group: tuple[Job, ...]
) -> Explanation:
    parts = [Part.JOBS, Part.NODES, Part.PARTITIONS]
    if needs_limits(job):
        parts += [Part.QOS, Part.ASSOCIATIONS]
    if job.reservation:
        parts.append(Part.RESERVATIONS)
    snapshot = slurm.read(*parts)
    starts = slurm.estimated_starts([str(job.array_job_id or job.job_id)])
    return Explanation(
        job,
        detail,
        words=waiting_words(job, snapshot),
        places=places(job, snapshot.jobs),
        estimated_start=starts.get(job.job_id),
        group=group,
    )


def _remembered(slurm: ExplainPort, asked: str) -> Explanation:
    """Return what accounting knows of a job that left Slurm's memory."""
    try:
        records = slurm.accounting(job_ids=[asked])
    except SlurmUnavailable:
        raise
    except SlurmRefused as error:  # a site without accounting
        raise JobNotFound(asked) from error
    if not records:
        msg = f"there is no job {asked}: neither Slurm nor its accounting knows it"
        raise SlurmRefused(msg)
    last = records[-1]
    return Explanation(
        None, ending=ending_words(last.state, last.exit_code, last.exit_signal), records=records
    )
