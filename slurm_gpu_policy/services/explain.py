"""All about one job: what it asked for, why it waits, where it runs, how it ended."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from slurm_gpu_policy.errors import (
    JobNotFound,
    PolicyLayerError,
    RequestError,
    SlurmError,
    SlurmRefused,
    SlurmUnavailable,
    SlurmUnreadable,
)
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.model.snapshot import Part
from slurm_gpu_policy.policy.attempts import Attempts, attempts
from slurm_gpu_policy.policy.explaining.approval_words import Approval, approval_of
from slurm_gpu_policy.policy.explaining.budget_words import budget_facts, waits_for_money
from slurm_gpu_policy.policy.explaining.ending import ending_words
from slurm_gpu_policy.policy.explaining.estimating import Estimate, estimated_start
from slurm_gpu_policy.policy.explaining.obstacles import blocking, obstacles
from slurm_gpu_policy.policy.explaining.waiting import NO_WORDS, needs_limits, places, waiting_words
from slurm_gpu_policy.policy.ledger.keeping import keeps_books
from slurm_gpu_policy.policy.pending import is_eligible
from slurm_gpu_policy.services.ports import AccountPort, ReadPort
from slurm_gpu_policy.services.prospects import Prospects, hidden, prospects
from slurm_gpu_policy.services.selecting import holds
from slurm_gpu_policy.services.standing import PRIORITY_PARTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.job import AccountingRecord, Job, JobDetail
    from slurm_gpu_policy.model.prices import Unit
    from slurm_gpu_policy.model.snapshot import Snapshot
    from slurm_gpu_policy.policy.explaining.waiting import Place, Words

_ID = re.compile(r"(\d+)(?:_(\d+)|_\[[0-9,:%-]+\]|\+(\d+))?", re.ASCII)
_LARGEST_ID = 2**32 - 3
"""Slurm numbers jobs in 32 bits and uses the topmost two values as marks."""
_PARTS: Final = (Part.JOBS, Part.NODES, Part.PARTITIONS, Part.RESERVATIONS)
_NO_ATTEMPTS: Final = Attempts()
_NO_PROSPECTS: Final = Prospects()


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
    start_source: Literal["slurm", "ours"] | None = None
    """Whose estimate that is; ``None`` where there is none."""
    start_words: str = ""
    """Why there is no estimate."""
    prospects: Prospects = _NO_PROSPECTS
    attempts: Attempts = _NO_ATTEMPTS
    approval: Approval | None = None
    ending: str = ""
    records: tuple[AccountingRecord, ...] = ()
    group: tuple[Job, ...] = ()
    """All records of the array or heterogeneous job, where the whole of it was asked for."""


def explain(
    slurm: ExplainPort,
    job_id: str,
    policy: Policy,
    ask_books: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
) -> Explanation:
    """Return what there is to say about a job: ``123``, ``123_4`` or ``123+1``.

    *ask_books* answers a request to the books, for what a budget has left.

    Raises:
        RequestError: *job_id* is not the form of an id.
        SlurmRefused: neither Slurm nor its accounting knows it.
    """
    base, asked = parse_job_id(job_id)
    found = slurm.jobs([base if "+" in asked or "[" in asked else asked])
    jobs = _chosen(found, asked)
    if not jobs:
        return _remembered(slurm, asked, policy)
    job = _spokesman(jobs)
    detail = _detail(slurm, job)
    group = jobs if len(jobs) > 1 else ()
    tried = _attempts(slurm, job, policy)
    if job.state.is_pending:
        waits = _waiting(slurm, job, policy)
        money = _money_facts(waits.job or job, slurm, policy, ask_books)
        words = replace(waits.words, facts=(*money, *waits.words.facts))
        return replace(waits, words=words, detail=detail, attempts=tried, group=group)
    ending = ""
    if detail is not None:
        job = detail.job
        ending = ending_words(job.state, detail.exit_code, detail.exit_signal)
    return Explanation(job, detail, ending=ending, attempts=tried, group=group)


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


def _attempts(slurm: ExplainPort, job: Job, policy: Policy) -> Attempts:
    """Return the job's attempts; accounting, which is slow, is asked only where it had several."""
    records: Sequence[AccountingRecord] = ()
    if job.restarts and "[" not in job.display_id:
        try:
            records = slurm.accounting(job_ids=[job.display_id])
        except SlurmError:  # without accounting there is still what Slurm and the mark count
            records = ()
    return attempts(records, job, policy)


def _waiting(slurm: ExplainPort, job: Job, policy: Policy) -> Explanation:
    snapshot, missing = _snapshot(slurm)
    job = next((one for one in snapshot.jobs if one.display_id == job.display_id), job)
    owners = _with_owner(slurm, snapshot, job)
    found = Prospects(missing=missing)
    if not missing:
        try:
            found = prospects(job, snapshot, policy, owners)
        except (SlurmRefused, ValueError) as error:
            known = hidden(snapshot)
            more = f"; {known}" if known else ""
            found = Prospects(missing=f"what it is made of is not known: {error}{more}")
    words = waiting_words(job, owners)
    said = replace(words, facts=(*words.facts, *obstacles(job, snapshot, policy)))
    starts = slurm.estimated_starts([str(job.array_job_id or job.job_id)])
    planned = starts.get(job.job_id)
    estimate = Estimate(planned) if planned is not None else _estimate(job, snapshot)
    source: Literal["slurm", "ours"] | None = "slurm" if planned is not None else None
    if source is None and estimate.start is not None:
        source = "ours"
    return Explanation(
        job,
        words=said,
        places=found.places or _places(job, snapshot),
        estimated_start=estimate.start,
        start_source=source,
        start_words=estimate.why_none,
        prospects=found,
        approval=approval_of(job, owners, policy),
    )


def _money_facts(
    job: Job,
    slurm: ExplainPort,
    policy: Policy,
    ask_books: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None,
) -> tuple[str, ...]:
    """Return what budgets have left of a job that waits for them, and what would pass."""
    if ask_books is None or not keeps_books(policy) or not waits_for_money(job):
        return ()
    try:
        rows = ask_books({"request": "budget"})["budgets"]
        snapshot = slurm.read(Part.ASSOCIATIONS, user=job.user)
    except PolicyLayerError:  # the explanation is good without
        return ()
    left: dict[tuple[str, str], tuple[Unit, int]] = {}
    for row in rows:
        level, unit = (row["account"], row["user"]), row["unit"]
        more = int(row["available"]) + int(row.get("overdraft") or 0)
        left[level] = (unit, left.get(level, (unit, 0))[1] + more)
    parents = {one.account: one.parent for one in snapshot.associations if not one.user}
    return tuple(budget_facts(job, left, parents, policy, snapshot.time))


def _snapshot(slurm: ExplainPort) -> tuple[Snapshot, str]:
    """Return all there is to know of the line, or less of it and why.

    An ordinary user may not see everybody's shares (PrivateData), and slurmdbd may be down:
    then the explanation is without the priority.
    """
    try:
        return slurm.read(*PRIORITY_PARTS, Part.RESERVATIONS, fresh=True), ""
    except SlurmUnreadable:
        raise
    except SlurmError as error:
        return slurm.read(*_PARTS), f"what it is made of is not known: {error}"


def _with_owner(slurm: ExplainPort, snapshot: Snapshot, job: Job) -> Snapshot:
    """Return *snapshot* with the associations of the job's owner, and their limits.

    The shares of all come from the controller, which does not say which QOS somebody may use.
    """
    try:
        parts = [Part.ASSOCIATIONS, Part.QOS] if not snapshot.qos else [Part.ASSOCIATIONS]
        found = slurm.read(*parts, user=job.user)
    except SlurmError:
        if needs_limits(job):
            raise
        return replace(snapshot, associations=())
    return replace(snapshot, associations=found.associations, qos=snapshot.qos or found.qos)


def _places(job: Job, snapshot: Snapshot) -> tuple[Place, ...]:
    """Return the places by Slurm's own numbers; a job that may not start yet has none."""
    return places(job, snapshot.jobs) if is_eligible(job, snapshot.time) else ()


def _estimate(job: Job, snapshot: Snapshot) -> Estimate:
    """Return our own estimate, where nothing but other jobs stands in the way."""
    if needs_limits(job):
        return Estimate(None, "it waits for a limit, not only for nodes")
    if blocking(job, snapshot):
        return Estimate(None, "a reservation stands in its way")
    return estimated_start(job, snapshot)


def _remembered(slurm: ExplainPort, asked: str, policy: Policy) -> Explanation:
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
    own = [one for one in records if one.display_id == last.display_id]
    return Explanation(
        None,
        ending=ending_words(last.state, last.exit_code, last.exit_signal),
        attempts=attempts(own, None, policy),
        records=records,
    )
