"""Why a job waits: Slurm's pending reasons in words that a user understands.

A reason that no table here knows is shown as Slurm gives it. Nothing here changes who waits.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import TYPE_CHECKING

from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.model.tag import CONTROLLER, read_tag
from slurm_gpu_policy.policy.explaining.budget_words import budget_words
from slurm_gpu_policy.policy.explaining.limit_reasons import (
    limit_facts,
    limit_words,
    read_limit_reason,
)
from slurm_gpu_policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from slurm_gpu_policy.model.cluster import Node, Reservation
    from slurm_gpu_policy.model.job import Job
    from slurm_gpu_policy.model.snapshot import Snapshot


@record
class Words:
    """Why a job waits (``text``), what its user can do (``advice``), and what was found."""

    text: str
    advice: str = ""
    facts: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text


NO_WORDS = Words("")
"""For a job that does not wait."""


@record
class Place:
    """A pending job's place in one partition's line: 1 is first of ``of``."""

    partition: str
    place: int
    of: int


_WAIT = "nothing to do: it starts by itself"
_RESUBMIT = "it will never start as it is: cancel it (scancel {job_id}) and submit it changed"
_OPERATORS = "ask the operators"
_APPROVE = "an approver lets it go: gpu-policy approve {job_id}; gpu-policy approvals shows who"
_RELEASE = "release it when it may start: scontrol release {job_id}"

# Slurm's word, in lower case without blanks and underscores -> (why, what to do).
# {account}, {qos}, {partition}, {wanted}, {job_id}, {reservation} come from the job.
_REASONS: Mapping[str, tuple[str, str]] = {
    "none": ("Slurm has not looked at it yet", "wait a moment: Slurm looks every few seconds"),
    "resources": (
        "it is among the next to start and waits for {wanted} to be free",
        "nothing is wrong; a smaller or shorter job may start sooner",
    ),
    "priority": (
        "jobs with a higher priority wait for partition {partition} as well",
        "nothing is wrong; a shorter --time lets Slurm fit it into a gap",
    ),
    "dependency": ("it waits for other jobs, as it was asked to (--dependency)", _WAIT),
    "dependencyneversatisfied": (
        "the job it depends on ended in a way that was not asked for (--dependency)",
        _RESUBMIT,
    ),
    "jobhelduser": ("its owner holds it", _RELEASE),
    "jobheldadmin": ("an operator, or Slurm itself, holds it", _OPERATORS + " why"),
    "jobholdmaxrequeue": ("it was requeued too often and is held now", _RELEASE),
    "jobrequeuedinheldstate": ("it was requeued to be held", _RELEASE),
    "launchfailedrequeuedheld": (
        "its nodes could not start it (prolog? working directory?), so Slurm holds it",
        "look for the cause, then: scontrol release {job_id}",
    ),
    "begintime": (
        "its start was set to a later time (--begin; after a requeue Slurm waits a little too)",
        _WAIT,
    ),
    "reqnodenotavail": (
        "nodes that it needs are not available: down, drained, or reserved",
        "it starts when they are back; or ask for other nodes",
    ),
    "nodedown": ("a node that it needs is down", "it starts when the node is back"),
    "nodesrequiredforjobaredowndrainedorreservedforjobsinhigherprioritypartitions": (
        "the nodes it could use are down, drained, or kept for partitions of higher priority",
        "it starts when nodes are back; or choose another partition",
    ),
    "partitiondown": ("partition {partition} is closed to starts", _OPERATORS + " when it opens"),
    "partitioninactive": ("partition {partition} is inactive", _OPERATORS + " when it opens"),
    "partitionnodelimit": (
        "it asks for more or fewer nodes than partition {partition} gives one job, or than it has",
        "ask for another number of nodes, or another partition",
    ),
    "partitiontimelimit": (
        "its time limit is longer than partition {partition} allows",
        "shorten it (scontrol update jobid={job_id} timelimit=…), or use another partition",
    ),
    "partitionconfig": (
        "partition {partition} does not allow what it asks for",
        "use another partition, or " + _OPERATORS,
    ),
    "reservation": ("it waits for reservation {reservation} to begin or to have room", _WAIT),
    "reservationdeleted": ("its reservation {reservation} does not exist any more", _RESUBMIT),
    "reservationinvalid": ("it cannot use its reservation {reservation}", _RESUBMIT),
    "licenses": ("licenses that it asks for are all in use", "it starts when others return them"),
    "badconstraints": ("no set of nodes can ever satisfy what it asks for", _RESUBMIT),
    "constraints": ("no set of nodes satisfies what it asks for", _RESUBMIT),
    "accountnotallowed": (
        "partition {partition} is not open to account {account}",
        "use another account (-A) or partition (-p)",
    ),
    "qosnotallowed": (
        "QOS {qos} is not allowed there (partition {partition}, account {account})",
        "use another QOS (-q), partition or account",
    ),
    "invalidaccount": ("its account {account} is not valid (any more)", _RESUBMIT),
    "invalidqos": ("its QOS {qos} is not valid (any more)", _RESUBMIT),
    "accountingpolicy": ("a limit of accounting does not allow it", _OPERATORS + " which one"),
    "associationjoblimit": ("account {account} is at its limit of jobs", _WAIT),
    "associationresourcelimit": ("account {account} is at a limit of resources", _WAIT),
    "associationtimelimit": ("account {account} has used up its time", _OPERATORS),
    "qosjoblimit": ("QOS {qos} is at its limit of jobs", _WAIT),
    "qosresourcelimit": ("QOS {qos} is at a limit of resources", _WAIT),
    "qostimelimit": ("QOS {qos} has used up its time", _OPERATORS),
    "qosusagethreshold": (
        "account {account} has used so much lately that QOS {qos} takes no jobs of it",
        "wait until its usage decays, or use another QOS (-q)",
    ),
    "maxmemperlimit": (
        "it asks for more memory per node or CPU than is allowed",
        "it will not start as it is: ask for less memory or more CPUs",
    ),
    "jobarraytasklimit": (
        "as many tasks of its array run as it asked for (--array=…%N)",
        "it starts when another task ends; scontrol update jobid={job_id} arraytaskthrottle=N",
    ),
    "cleaning": ("it was requeued and its last run is still being cleaned up", _WAIT),
    "prolog": ("its nodes are being made ready (prolog)", _WAIT),
    "frontenddown": ("no front-end node is up", _OPERATORS),
    "burstbufferresources": ("there is not enough burst buffer space for it", _WAIT),
    "burstbufferstagein": ("its data is being staged into the burst buffer", _WAIT),
    "burstbufferoperation": ("a burst buffer operation failed", _OPERATORS),
    "powernotavail": ("there is not enough electrical power for it now", _WAIT),
    "powerreserved": ("electrical power is reserved for others now", _WAIT),
    "fedjoblock": ("the clusters of the federation settle which of them runs it", _WAIT),
    "scheddefer": (
        "it asked to start at once, and this cluster defers that",
        "submit it without --immediate",
    ),
    "deadline": ("it can no longer end before its --deadline", _RESUBMIT),
    # What an earlier run of a requeued job left behind:
    "systemfailure": ("Slurm itself failed on it", _OPERATORS),
    "joblaunchfailure": ("it could not be started on its nodes", _OPERATORS),
    "nonzeroexitcode": ("its last run ended with an error", "see its output"),
    "raisedsignal": ("its last run was ended by a signal", "see its output"),
    "timelimit": ("its last run reached its time limit", "give it more --time"),
    "inactivelimit": ("its last run was idle for too long", "see its output"),
    "outofmemory": ("its last run needed more memory than it had", "give it more --mem"),
}
_UNREADABLE = re.compile(r"[ _,]")
_DEPENDENCY = re.compile(r"([a-z]+):([0-9]+(?:_[0-9*]+)?)(?:\+([0-9]+))?(?:\((\w+)\))?", re.ASCII)
_AFTER = {
    "after": "job {id} has started",
    "afterany": "job {id} has ended, in whatever way",
    "afterok": "job {id} has ended with success",
    "afternotok": "job {id} has failed",
    "aftercorr": "the same task of array {id} has ended with success",
    "afterburstbuffer": "job {id} has ended and its data is staged out",
}
_MOST_NODES_NAMED = 4


def reason_words(job: Job) -> Words:
    """Return why a job waits from Slurm's reason alone (cheap: for whole queues)."""
    if (held := approval_words(job)) is not None:
        return held
    if (short := budget_words(job)) is not None:
        return Words(*short)
    reason = job.reason.strip()
    limit = read_limit_reason(reason)
    if limit is not None:
        return Words(*limit_words(limit, job))
    head, _, detail = reason.partition("UnavailableNodes:")
    # "ReqNodeNotAvail, May be reserved for other job" begins with the word that counts.
    for name in (head, head.partition(",")[0], head.partition("(")[0]):
        words = _REASONS.get(_UNREADABLE.sub("", name).lower() or "none")
        if words is not None:
            break
    else:
        return Words(f"Slurm gives the reason {reason}")
    text, advice = words
    names = {
        "account": job.account,
        "qos": job.qos or "(none)",
        "partition": " or ".join(job.partitions) or "(none)",
        "reservation": job.reservation or "(none)",
        "wanted": wanted(job),
        "job_id": str(job.array_job_id or job.job_id),
    }
    if detail := detail.strip(" ()"):
        text += f" ({detail})"
    elif head.count(","):
        text += f" ({head.partition(',')[2].strip()})" if "reqnode" in head.lower() else ""
    return Words(text.format_map(names), advice.format_map(names))


_APPROVALS: Mapping[str, tuple[str, str]] = {
    "asked": ("it waits for an approval (rule V-901)", _APPROVE),
    "pending": ("it waits for an approval (rule V-901)", _APPROVE),
    "denied": ("an approver denied it (rule V-904)", "gpu-policy audit --job {job_id} says why"),
    "expired": (
        "nobody approved it in time (rule V-905)",
        "cancel it (scancel {job_id}) and submit it anew",
    ),
}
"""What stands as ``approval`` in the controller's mark, or in gpu-submit's."""


def approval_words(job: Job) -> Words | None:
    """Return why a held job waits where that is an approval; ``None`` for all others."""
    if (
        job.priority
        or not job.state.is_pending
        or "approval=" not in job.admin_comment + job.comment
    ):
        return None
    state = read_tag(job.admin_comment, CONTROLLER).get("approval")
    state = state or read_tag(job.comment).get("approval", "")
    words = _APPROVALS.get(state)
    if words is None:
        return None
    job_id = job.array_job_id or job.job_id
    return Words(words[0], words[1].format(job_id=job_id))


def waiting_words(job: Job, snapshot: Snapshot | None = None) -> Words:
    """Return why a job waits, with what a snapshot shows about it.

    Jobs, nodes and partitions are worth having in *snapshot* always; QOS and associations for
    limit reasons (:func:`needs_limits`); reservations for jobs that name one.
    """
    words = reason_words(job)
    if snapshot is None:
        return words
    return Words(words.text, words.advice, tuple(_facts(job, snapshot)))


def needs_limits(job: Job) -> bool:
    """Return whether a job waits because of a limit on its account or QOS."""
    return read_limit_reason(job.reason.strip()) is not None


def wanted(job: Job) -> str:
    """Return what a job needs most, in words: its GPUs, or its CPUs."""
    if job.gpus:
        kind = f"{job.gpu_type} " if job.gpu_type else ""
        return f"{job.gpus} {kind}GPU{'s' if job.gpus > 1 else ''}"
    return f"{job.cpus} CPU{'s' if job.cpus != 1 else ''}"


def places(job: Job, jobs: Iterable[Job]) -> tuple[Place, ...]:
    """Return a pending job's place in the line of each of its partitions.

    A line is all pending jobs of the partition that nobody holds (priority 0), highest priority
    first and older ids first among equals; the waiting rest of an array counts as one. A held
    job stands in no line.
    """
    return places_of((job,), jobs).get(job.display_id, ())


def places_of(wanted: Iterable[Job], jobs: Iterable[Job]) -> dict[str, tuple[Place, ...]]:
    """Return the :func:`places` of several jobs by ``display_id``, in one pass over *jobs*.

    A job that stands in no line has no entry.
    """
    standing = [job for job in wanted if job.state.is_pending and job.priority > 0]
    lines: dict[str, list[tuple[int, int]]] = {
        partition: [] for job in standing for partition in job.partitions
    }
    if not lines:
        return {}
    for job in jobs:
        if job.priority > 0 and job.state.is_pending:
            for partition in job.partitions:
                if partition in lines:
                    lines[partition].append((-job.priority, job.job_id))
    for line in lines.values():
        line.sort()
    among = {partition: {job_id for _, job_id in line} for partition, line in lines.items()}
    return {
        job.display_id: tuple(
            Place(
                partition,
                bisect_left(lines[partition], (-job.priority, job.job_id)) + 1,
                len(lines[partition]) + (job.job_id not in among[partition]),
            )
            for partition in job.partitions
        )
        for job in standing
    }


def dependency_words(text: str) -> tuple[str, ...]:
    """Return each part of Slurm's dependency text in words; what is unknown stays as it is."""
    found = []
    for part in re.split(r"[,?]", text):
        match = _DEPENDENCY.fullmatch(part.strip())
        if part.strip().startswith("singleton"):
            found.append("it starts once its owner's earlier jobs of the same name have ended")
        elif match and match[1] in _AFTER:
            later = f" {match[3]} minutes ago" if match[3] else ""
            state = f" ({match[4]})" if match[4] else ""
            found.append(f"it starts once {_AFTER[match[1]].format(id=match[2])}{later}{state}")
        elif part.strip():
            found.append(f"it depends on {part.strip()}")
    return tuple(found)


def _facts(job: Job, snapshot: Snapshot) -> Iterator[str]:
    reason = _UNREADABLE.sub("", job.reason).lower()
    limit = read_limit_reason(job.reason.strip())
    if limit is not None:
        yield from limit_facts(limit, job, snapshot)
    elif reason.startswith("dependency"):
        yield from dependency_words(job.dependency)
    elif reason.startswith("reservation"):
        yield from _reservations(job, snapshot.reservations)
    elif reason.startswith("partition"):
        yield from _partitions(job, snapshot)
    elif reason.startswith(("resources", "priority", "reqnode", "nodes", "nodedown")):
        yield from _free(job, snapshot)
        yield from _out_of_order(job, snapshot.nodes)


def _partitions(job: Job, snapshot: Snapshot) -> Iterator[str]:
    for partition in snapshot.partitions:
        if partition.name not in job.partitions:
            continue
        if partition.state != "UP":
            yield f"partition {partition.name} is {partition.state.lower()}"
        if partition.max_time_seconds is not None and job.time_limit_seconds is not None:
            yield (
                f"partition {partition.name} allows {format_duration(partition.max_time_seconds)}"
                f", this job asks for {format_duration(job.time_limit_seconds)}"
            )
        if partition.max_nodes is not None:
            yield (
                f"partition {partition.name} gives one job {partition.max_nodes} nodes at most, "
                f"this job asks for {job.nodes}"
            )


def _fits(job: Job, node: Node) -> bool:
    """Whether a node is of the job's partitions and has the kind of GPU that it asks for."""
    if not set(job.partitions).intersection(node.partitions):
        return False
    kinds = {gpus.type for gpus in node.gpus if gpus.total}
    return not job.gpus or (job.gpu_type in kinds if job.gpu_type else bool(kinds))


def _free(job: Job, snapshot: Snapshot) -> Iterator[str]:
    """How many of the GPUs that the job could use are free."""
    if not job.gpus:
        return
    counts = [
        (gpus.total, gpus.total - gpus.used)
        for node in snapshot.nodes
        if node.usable and _fits(job, node)
        for gpus in node.gpus
        if job.gpu_type in {"", gpus.type}
    ]
    total, free = sum(count for count, _ in counts), sum(count for _, count in counts)
    kind = f"{job.gpu_type} " if job.gpu_type else ""
    yield f"{free} of {total} {kind}GPUs that it could use are free now; it asks for {job.gpus}"


def _out_of_order(job: Job, nodes: Iterable[Node]) -> Iterator[str]:
    broken = [node for node in nodes if not node.usable and _fits(job, node)]
    for node in broken[:_MOST_NODES_NAMED]:
        state = "+".join([node.state, *sorted(node.flags)]).lower()
        yield f"node {node.name} is {state}" + (f": {node.reason}" if node.reason else "")
    if len(broken) > _MOST_NODES_NAMED:
        yield f"{len(broken) - _MOST_NODES_NAMED} more of its nodes are out of order"


def _reservations(job: Job, reservations: Iterable[Reservation]) -> Iterator[str]:
    for reservation in reservations:
        if reservation.name == job.reservation:
            yield f"reservation {reservation.name} is {reservation.state.lower()}"
