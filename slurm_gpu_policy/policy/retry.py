"""Starting a job again that ended badly (rules T-8xx).

Nothing of an ended job can be changed, so a retry is a requeue that leaves the job held, then its
mark, begin time and avoided node, then the release. No step can be done twice with effect, and
none is lost, because Slurm keeps the count itself:

    ended, restarts = n      the requeue is wanted (T-801). A controller that dies before it leaves
                             the job ended, and the next one wants the same; a second requeue is
                             refused by Slurm ("Job is pending execution").
    held, restarts = n + 1   the requeue is done and not yet the rest: the audit log has it as
                             begun, with all that is left to do, and the next leader does it.
    waits, restarts = n + 1  the mark says so too (``run``); where it does not, somebody else has
                             requeued the job, and the count is put right (T-803).
    runs, restarts = n + 1   the next attempt. Before the first one ends, the job's place in the
                             queue is marked (T-804), since Slurm forgets it with a requeue.

Facts in the mark: ``run`` is Slurm's count of restarts that the others belong to, ``attempt`` how
many retries were made, ``until`` the begin time, ``first`` the first submission, ``kept`` the
points of age at the first start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.errors import RequestError
from slurm_gpu_policy.model.action import Action
from slurm_gpu_policy.model.hostlist import expand
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.pending import controller_mark, own_mark, points
from slurm_gpu_policy.units import counted, format_duration, parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.cluster import ClusterConfig
    from slurm_gpu_policy.model.job import Job
    from slurm_gpu_policy.model.snapshot import Snapshot

ENDS: Mapping[JobState, str] = {
    JobState.NODE_FAIL: "node_fail",
    JobState.BOOT_FAIL: "boot_fail",
    JobState.FAILED: "failed",
    JobState.OUT_OF_MEMORY: "out_of_memory",
    JobState.PREEMPTED: "preempted",
    JobState.TIMEOUT: "timeout",
}
"""Slurm's states, and what the policy file calls them."""
_WORDS: Mapping[str, str] = {
    "node_fail": "a node failed",
    "boot_fail": "its nodes did not boot",
    "failed": "it failed",
    "out_of_memory": "it needed more memory than it had",
    "preempted": "it was preempted",
    "timeout": "it reached its time limit",
}
_BEGUN = "job requeued in held state"
"""Slurm's reason for a job that `scontrol requeuehold` has put back (job_mgr.c)."""
_DEFAULT_MAX_AGE_SECONDS = 7 * 86400
"""slurm.conf(5), PriorityMaxAge."""


def allowed(job: Job, policy: Policy) -> int:
    """Rule T-802: how many retries a job may have: what its user asks for, at most the site's.

    The user could change the comment that says so, and gains nothing beyond the site's cap.
    """
    asked = own_mark(job).get("retries", "")
    wanted = int(asked) if _is_count(asked) else policy.retries.default
    return min(wanted, policy.retries.most)


def used(job: Job, policy: Policy) -> int:
    """Rule T-803: how many retries a job has had.

    Where every restart counts that is Slurm's own count; else what the mark says.
    """
    if policy.retries.count_slurm_requeues:
        return job.restarts
    return points(controller_mark(job), "attempt") or 0


def delay_seconds(attempt: int, policy: Policy) -> int:
    """Rule T-806: how long the *attempt*-th retry (from 1) waits after the end before it."""
    delay, longest = policy.retries.first_delay, policy.retries.longest_delay
    for _ in range(attempt - 1):
        if delay >= longest or policy.retries.factor == 1:
            break
        delay *= policy.retries.factor
    return min(delay, longest)


def age_points(accrue_time: int | None, until: int | None, config: ClusterConfig | None) -> int:
    """Rule T-804: the points of age of a job whose age grew from *accrue_time* to *until*.

    PriorityWeightAge x min(1, age / PriorityMaxAge) (priority_multifactor.c, age factor),
    truncated; 0 where the age does not count or never began.
    """
    settings = config.settings if config else {}
    weight = settings.get("PriorityWeightAge", "")
    if accrue_time is None or until is None or not _is_count(weight):
        return 0
    try:
        most = parse_duration(settings.get("PriorityMaxAge", ""))
    except RequestError:
        most = _DEFAULT_MAX_AGE_SECONDS
    return int(weight) * min(max(until - accrue_time, 0), most) // most


def bad_nodes(job: Job, snapshot: Snapshot, policy: Policy) -> tuple[str, ...]:
    """Rule T-805: the nodes that the next attempt of an ended job avoids."""
    if ENDS.get(job.state) not in policy.retries.exclude_bad_node:
        return ()
    try:
        held = expand(job.node_list)
    except ValueError:
        return ()
    if len(held) == 1:
        return held
    down = {node.name for node in snapshot.nodes if not node.usable}
    return tuple(name for name in held if name in down)


def with_exclusions(present: str, more: Sequence[str]) -> str:
    """Return a job's excluded nodes with *more* beside those that it has (``gpu[01-02]``)."""
    try:
        have = expand(present)
    except ValueError:
        return ",".join(more)
    return ",".join((*have, *(name for name in more if name not in have)))


def retries(snapshot: Snapshot, policy: Policy) -> tuple[Action, ...]:
    """Return what jobs need that ended and have attempts left, or that were started again.

    An action's ``excluded_nodes`` are to be added to those the job has (:func:`with_exclusions`).
    """
    wanted: list[Action] = []
    for job in snapshot.jobs:
        most = allowed(job, policy)
        if not most or _is_part(job):
            continue
        if job.state.is_over:
            wanted += _again(job, most, snapshot, policy)
        elif job.state.is_pending or job.state is JobState.RUNNING:
            wanted += _count(job, policy)
            if job.state is JobState.RUNNING:
                wanted += _remember(job, most, snapshot, policy)
    return tuple(wanted)


def _again(job: Job, most: int, snapshot: Snapshot, policy: Policy) -> Iterator[Action]:
    """Rule T-801: put an ended job back into the queue."""
    end = ENDS.get(job.state)
    made = used(job, policy)
    if end is None or end not in policy.retries.ends or made >= most:
        return
    attempt = made + 1
    ended = snapshot.time if job.end_time is None else job.end_time
    begin = max(ended + delay_seconds(attempt, policy), snapshot.time)
    changes = [("begin_time", str(begin))]
    avoided = bad_nodes(job, snapshot, policy)
    if avoided:
        changes.append(("excluded_nodes", ",".join(avoided)))
    which = f"retry {attempt} of {most}"
    mark = {"attempt": str(attempt), "run": str(job.restarts + 1), "until": str(begin)}
    yield Action(
        "requeue",
        job.job_id,
        job.address,
        rules.RETRY,
        _why(end, job, which, begin - snapshot.time, avoided),
        before=f"{job.state.value} after {counted(job.restarts, 'restart')}",
        after=which,
        user=job.user,
        changes=tuple(changes),
        mark=tuple((mark | _place(job, snapshot, policy)).items()),
    )


def _why(end: str, job: Job, which: str, wait: int, avoided: Sequence[str]) -> str:
    code = f" with exit code {job.exit_code}" if end == "failed" and job.exit_code else ""
    nodes = f", without {', '.join(avoided)}" if avoided else ""
    return f"{_WORDS[end]}{code}; {which} begins in {format_duration(wait)}{nodes}"


def _count(job: Job, policy: Policy) -> Iterator[Action]:
    """Rule T-803: count a restart that was not ours.

    A job that is held because of a requeue may be one of ours that is not finished.
    """
    mark = controller_mark(job)
    if (points(mark, "run") or 0) >= job.restarts or job.reason.replace("_", " ") == _BEGUN:
        return
    attempt = str(used(job, policy))
    yield Action(
        "modify",
        job.job_id,
        job.address,
        rules.RETRY_COUNT,
        f"Slurm or its user has put it back into the queue: {attempt} of its retries are used",
        before=f"attempt {mark.get('attempt', '0')}",
        after=f"attempt {attempt}",
        user=job.user,
        mark=(("attempt", attempt), ("run", str(job.restarts)), ("until", "")),
    )


def _remember(job: Job, most: int, snapshot: Snapshot, policy: Policy) -> Iterator[Action]:
    """Rule T-804: mark a job's place in the queue before Slurm forgets it."""
    place = _place(job, snapshot, policy)
    if place and used(job, policy) < most:
        yield Action(
            "modify",
            job.job_id,
            job.address,
            rules.RETRY_PLACE,
            "its place in the queue is kept in case it has to start again",
            before="no place kept",
            after=f"first {place['first']}, kept {place['kept']}",
            user=job.user,
            mark=tuple(place.items()),
        )


def _place(job: Job, snapshot: Snapshot, policy: Policy) -> dict[str, str]:
    """Return the marks of a job's place in the queue; empty where they stand, or nobody knows.

    A job that was requeued before anybody looked has lost its place already.
    """
    known = "first" in controller_mark(job)
    if not policy.retries.keep_place or known or job.restarts or job.submit_time is None:
        return {}
    kept = age_points(job.accrue_time, job.start_time, snapshot.config)
    return {"first": str(job.submit_time), "kept": str(kept)}


def _is_part(job: Job) -> bool:
    """Whether this is a part of a heterogeneous job whose first part speaks for the whole."""
    return job.het_job_id is not None and job.het_job_id != job.job_id


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9  # noqa: PLR2004 - 32 bits
