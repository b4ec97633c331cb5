"""What a waiting job could be instead: changes that its owner can make and Slurm would accept.

Only the possible is named here; whether it gains anything is computed elsewhere, by the same
arithmetic as the job's own priority (services/prospects.py).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy.explaining.room import fits_now, free_on, holds_at_all
from slurm_gpu_policy.policy.limits import enforces, sources
from slurm_gpu_policy.units import counted, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.account import Association, Qos
    from slurm_gpu_policy.model.cluster import Partition
    from slurm_gpu_policy.model.job import Job
    from slurm_gpu_policy.model.snapshot import Snapshot

Kind = Literal["qos", "partition", "nice", "time", "size"]

NEW_JOB: Final = JobId(2**32 - 1)
"""The number of a job that would be submitted anew: behind all of equal priority."""
_SHORTEST_SECONDS: Final = 300
_MOST_GPUS_TRIED: Final = 4096


@record
class Alternative:
    """A job as it could be, what that is called, and how to get there."""

    kind: Kind
    what: str
    job: Job
    how: str
    note: str = ""


def other_qos(job: Job, snapshot: Snapshot, policy: Policy) -> Iterator[Alternative]:
    """Yield the QOS that the job's owner may use and whose limits let such a job run now.

    Needs jobs, partitions, QOS, and the associations of the owner. Those that jobs are
    moved to (rules L-207, Q-7xx) are not the owner's to choose.
    """
    association = _association(job, snapshot)
    if association is None:
        return
    moved = policy.over_quota
    taken = {*job.qos.split(","), policy.submission.over_budget_qos}
    if moved is not None:
        taken |= {moved.guaranteed_qos, moved.over_quota_qos}
    partitions = [one for one in snapshot.partitions if one.name in job.partitions]
    for qos in snapshot.qos:
        if qos.name in taken or qos.name not in association.qos:
            continue
        if not all(_takes_qos(one, qos.name) for one in partitions):
            continue
        changed = replace(job, qos=qos.name)
        if not _within_limits(changed, association, snapshot):
            continue
        yield Alternative(
            "qos",
            f"QOS {qos.name}",
            changed,
            f"scontrol update jobid={job.address} qos={qos.name}",
            _qos_note(qos, snapshot),
        )


def other_partitions(job: Job, snapshot: Snapshot) -> Iterator[Alternative]:
    """Yield the partitions that are open to the job and have nodes that can hold it.

    A partition for some groups only is left out: whose groups those are is not known here.
    """
    association = _association(job, snapshot)
    for partition in snapshot.partitions:
        if partition.name in job.partitions or not _is_open(job, partition):
            continue
        changed = replace(job, partitions=(partition.name,))
        if not holds_at_all(changed, snapshot.nodes):
            continue
        if association is not None and not _within_limits(changed, association, snapshot):
            continue
        yield Alternative(
            "partition",
            f"partition {partition.name}",
            changed,
            f"scontrol update jobid={job.address} partition={partition.name}",
        )


def without_nice(job: Job) -> Iterator[Alternative]:
    """Yield the job without the nice that somebody gave it."""
    if job.nice > 0:
        how = f"scontrol update jobid={job.address} nice=0"
        yield Alternative("nice", "no nice", replace(job, nice=0), how)


def shorter(job: Job, snapshot: Snapshot, before: int | None) -> Iterator[Alternative]:
    """Yield the job with a time limit that ends *before* (Unix seconds) somebody needs its room.

    Only where there is room for it now: that is what Slurm's backfill looks for.
    """
    if before is None or not fits_now(job, snapshot.nodes):
        return
    left = (before - snapshot.time) // 60 * 60
    limit = job.time_limit_seconds
    if left < _SHORTEST_SECONDS or (limit is not None and limit <= left):
        return
    asked = format_duration(left)
    yield Alternative(
        "time",
        f"a time limit of {asked}",
        replace(job, time_limit_seconds=left),
        f"scontrol update jobid={job.address} timelimit={asked}",
        "there is room for it now, and it would end before that is needed for others",
    )


def smaller(job: Job, snapshot: Snapshot) -> Iterator[Alternative]:
    """Yield the job with the most GPUs, fewer than it asks for, that are free for it now.

    CPUs and memory of each node stay. It would have to be submitted anew, so its age and its
    site factor are gone.
    """
    if job.gpus < 2 or fits_now(job, snapshot.nodes):  # noqa: PLR2004 - there is less than two
        return
    each = -(-job.gpus // max(job.nodes, 1))
    counts = {2**power for power in range(job.gpus.bit_length())}
    for free in {min(free_on(job, node), each) for node in snapshot.nodes}:
        counts |= {free, free * job.nodes}
    for gpus in sorted(counts, reverse=True):
        if not 0 < gpus < min(job.gpus, _MOST_GPUS_TRIED):
            continue
        for nodes in range(-(-gpus // each), job.nodes + 1):
            changed = _resized(job, gpus, nodes, snapshot.time)
            if gpus % nodes == 0 and fits_now(changed, snapshot.nodes):
                where = f" on {counted(nodes, 'node')}" if job.nodes > 1 else ""
                yield Alternative(
                    "size",
                    f"{counted(gpus, 'GPU')}{where}",
                    changed,
                    "submit it anew, with as many CPUs and as much memory a node",
                    f"{counted(gpus, 'GPU')} {'is' if gpus == 1 else 'are'} free for it now",
                )
                return


def _resized(job: Job, gpus: int, nodes: int, now: int) -> Job:
    tres = dict(job.tres)
    for name, count in tres.items():
        if name == "gres/gpu" or name.startswith("gres/gpu:"):
            tres[name] = count * gpus // job.gpus
        elif name == "node":
            tres[name] = nodes
        else:
            tres[name] = count * nodes // max(job.nodes, 1)
    return replace(
        job,
        job_id=NEW_JOB,
        gpus=gpus,
        nodes=nodes,
        cpus=job.cpus * nodes // max(job.nodes, 1),
        memory_mb=job.memory_mb * nodes // max(job.nodes, 1),
        tres=tres,
        submit_time=now,
        eligible_time=now,
        accrue_time=now,
    )


def _association(job: Job, snapshot: Snapshot) -> Association | None:
    mine = [
        one
        for one in snapshot.associations
        if (one.account, one.user) == (job.account, job.user)
        and (not one.partition or one.partition in job.partitions)
    ]
    return max(mine, key=lambda one: one.partition, default=None)


def _takes_qos(partition: Partition, qos: str) -> bool:
    if partition.allow_qos and qos not in partition.allow_qos:
        return False
    return qos not in partition.deny_qos


def _is_open(job: Job, partition: Partition) -> bool:
    limit, most = job.time_limit_seconds, partition.max_time_seconds
    return (
        partition.state == "UP"
        and not partition.allow_groups
        and (not partition.allow_accounts or job.account in partition.allow_accounts)
        and job.account not in partition.deny_accounts
        and all(_takes_qos(partition, qos) for qos in job.qos.split(","))
        and (most is None or (limit is not None and limit <= most))
        and (partition.max_nodes is None or job.nodes <= partition.max_nodes)
    )


def _within_limits(job: Job, association: Association, snapshot: Snapshot) -> bool:
    """Whether limits on one job, and a QOS' on its user, let *job* start beside what runs."""
    limit = job.time_limit_seconds
    for partition in job.partitions:
        for _, source in sources(snapshot, association, job.qos, partition):
            wall = source.max_wall_seconds
            if wall is not None and (limit is None or limit > wall):
                return False
            if not _is_under(job, source, snapshot):
                return False
    return True


def _is_under(job: Job, source: Association | Qos, snapshot: Snapshot) -> bool:
    asked = {"gres/gpu": job.gpus, "cpu": job.cpus, "node": job.nodes, **job.tres}
    if job.gpu_type:
        asked.setdefault(f"gres/gpu:{job.gpu_type}", job.gpus)
    for name, count in asked.items():
        if count > source.max_tres_per_job.get(name, count):
            return False
        if count > source.grp_tres.get(name, count):
            return False
        of_user = getattr(source, "max_tres_per_user", {}).get(name)
        if of_user is not None and count + _held(job, name, snapshot) > of_user:
            return False
    return True


def _held(job: Job, name: str, snapshot: Snapshot) -> int:
    """Return what the user's running jobs hold of a TRES in the job's QOS."""
    return sum(
        one.tres.get(name, one.gpus if name == "gres/gpu" else 0)
        for one in snapshot.jobs
        if one.state.is_active and one.user == job.user and one.qos == job.qos
    )


def _qos_note(qos: Qos, snapshot: Snapshot) -> str:
    said = []
    if qos.usage_factor != 1:
        said.append(f"its use counts {qos.usage_factor:g} x")
    if enforces(snapshot, "limits"):
        if qos.max_wall_seconds is not None:
            said.append(f"jobs run {format_duration(qos.max_wall_seconds)} at most")
        most = qos.max_tres_per_user.get("gres/gpu")
        if most is not None:
            said.append(f"its user may have {counted(most, 'GPU')} at once")
    over = [one.name for one in snapshot.qos if qos.name in one.preempts]
    if over:
        said.append(f"jobs of QOS {', '.join(over)} may take its place while it runs")
    return "; ".join(said)
