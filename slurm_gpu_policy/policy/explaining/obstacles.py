"""What stands in a waiting job's way that Slurm's reason does not tell: in words.

Reservations ahead, partitions that go first on the same nodes, a QOS that yields or is for those
who have spent their budget.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.explaining.budget_words import moved_words
from slurm_gpu_policy.policy.explaining.room import is_of
from slurm_gpu_policy.policy.pending import is_eligible, is_held
from slurm_gpu_policy.units import counted, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.cluster import Reservation
    from slurm_gpu_policy.model.job import Job
    from slurm_gpu_policy.model.snapshot import Snapshot

_MOST_NAMED = 3


def obstacles(job: Job, snapshot: Snapshot, policy: Policy) -> tuple[str, ...]:
    """Return what else keeps *job* waiting, or makes it wait longer.

    Needs jobs, nodes, partitions and reservations. A held job has one obstacle, which is known.
    """
    if is_held(job):
        return ()
    return (
        *_reserved(job, snapshot),
        *_tiers(job, snapshot),
        *_over_quota(job, policy),
        *_over_budget(job, policy),
    )


def blocking(job: Job, snapshot: Snapshot) -> tuple[Reservation, ...]:
    """Return the reservations, the soonest first, into whose time *job* would run on its nodes.

    Only those without which too few of its nodes are left.
    """
    usable = {node.name for node in snapshot.nodes if node.usable and is_of(job, node)}
    limit = job.time_limit_seconds
    end = None if limit is None else snapshot.time + limit
    ahead = [
        one
        for one in snapshot.reservations
        if one.name not in job.reservation.split(",")
        and not usable.isdisjoint(one.nodes)
        and (one.end_time is None or one.end_time > snapshot.time)
        and (end is None or one.start_time is None or one.start_time < end)
    ]
    taken = {name for one in ahead for name in one.nodes}
    if len(usable) < job.nodes or len(usable - taken) >= max(job.nodes, 1):
        return ()
    return tuple(sorted(ahead, key=lambda one: one.start_time or 0))


def _reserved(job: Job, snapshot: Snapshot) -> Iterator[str]:
    for one in blocking(job, snapshot)[:_MOST_NAMED]:
        what = "maintenance" if "MAINT" in one.flags else f"reservation {one.name}"
        named = what if what.startswith("res") else f"{what} (reservation {one.name})"
        if one.start_time is None or one.start_time <= snapshot.time:
            until = ""
            if one.end_time is not None:
                until = f" for another {format_duration(one.end_time - snapshot.time)}"
            yield f"{named} holds nodes that it could use{until}"
        else:
            begins = format_duration(one.start_time - snapshot.time)
            limit = job.time_limit_seconds
            runs = "no time limit" if limit is None else f"a limit of {format_duration(limit)}"
            yield f"{named} begins in {begins} on its nodes, and it has {runs}"


def _tiers(job: Job, snapshot: Snapshot) -> Iterator[str]:
    """Slurm looks at a partition's PriorityTier before any priority (sprio(1), slurm.conf(5))."""
    tiers = {one.name: one.priority_tier for one in snapshot.partitions}
    own = max((tiers.get(name, 1) for name in job.partitions), default=1)
    nodes = {node.name for node in snapshot.nodes if node.usable and is_of(job, node)}
    for partition in snapshot.partitions:
        if partition.priority_tier <= own or nodes.isdisjoint(_nodes(partition.name, snapshot)):
            continue
        waiting = sum(
            partition.name in one.partitions
            and one.state.is_pending
            and not is_held(one)
            and is_eligible(one, snapshot.time)
            for one in snapshot.jobs
        )
        if waiting:
            goes = "goes" if waiting == 1 else "go"
            yield (
                f"{counted(waiting, 'job')} of partition {partition.name} {goes} first on the same "
                f"nodes, whatever their priority (tier {partition.priority_tier}, its own {own})"
            )


def _nodes(partition: str, snapshot: Snapshot) -> Iterator[str]:
    return (node.name for node in snapshot.nodes if partition in node.partitions)


def _over_quota(job: Job, policy: Policy) -> Iterator[str]:
    """Rule Q-702."""
    moved = policy.over_quota
    if moved is not None and job.qos == moved.over_quota_qos:
        yield (
            f"it is beyond what its account is guaranteed, so it is in QOS {job.qos}: it runs on "
            f"what others leave idle, and yields (rule {rules.QUOTA_BEYOND})"
        )


def _over_budget(job: Job, policy: Policy) -> Iterator[str]:
    """Rules L-207, B-007."""
    if words := moved_words(job, policy):
        yield words
