"""Where everybody stands: fair shares and priorities as Slurm computes them, computed by us.

Nothing here is taken from what Slurm computed: not from ``sshare``, and from ``sprio`` only what
stands nowhere else and is no result: the site factor, and that a priority was set by hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from slurm_gpu_policy.errors import SlurmRefused
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.model.snapshot import Part
from slurm_gpu_policy.policy.fair_share_classic import classic_fair_share
from slurm_gpu_policy.policy.fair_tree import Member, fair_tree
from slurm_gpu_policy.policy.priority import Claim, Place, age_start, shown_priority, terms
from slurm_gpu_policy.policy.priority_settings import calculation, read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from slurm_gpu_policy.model.account import Association
    from slurm_gpu_policy.model.cluster import Partition
    from slurm_gpu_policy.model.job import Job, PriorityFactors
    from slurm_gpu_policy.model.snapshot import Snapshot
    from slurm_gpu_policy.policy.fair_tree import Standing
    from slurm_gpu_policy.policy.priority import Settings, Terms

FAIR_SHARE_PARTS = (Part.USAGE, Part.SHARES, Part.CONFIG)
PRIORITY_PARTS = (
    *FAIR_SHARE_PARTS,
    Part.JOBS,
    Part.NODES,
    Part.PARTITIONS,
    Part.QOS,
    Part.PRIORITIES,
)
_CLEARED = -(2**31)
"""slurm.h NICE_OFFSET, negative."""


class StandingPort(Protocol):
    """What this use case needs of Slurm."""

    def read(self, *parts: Part, user: str | None = None, fresh: bool = False) -> Snapshot:
        """See :class:`slurm_gpu_policy.services.ports.ReadPort`."""
        ...


@record
class Ranked:
    """A pending job in one partition and QOS it may start in, with what its priority is made of.

    ``priority`` is what ``sprio`` shows, which may be a point beside the job's own
    (``terms.priority``): sprio adds the terms again, in another order.
    """

    job: Job
    partition: str
    qos: str
    priority: int
    terms: Terms


def read_fair_shares(slurm: StandingPort) -> tuple[Standing, ...]:
    """Read Slurm and return the standing of every association.

    Raises:
        SlurmRefused: Slurm hides other people's usage from the caller (PrivateData).
    """
    return fair_shares(slurm.read(*FAIR_SHARE_PARTS))


def read_priorities(slurm: StandingPort) -> tuple[Ranked, ...]:
    """Read Slurm and return the pending jobs' places, the highest priority first.

    Raises:
        SlurmRefused: as :func:`read_fair_shares`.
    """
    found = priorities(slurm.read(*PRIORITY_PARTS, fresh=True))
    return tuple(sorted(found, key=lambda one: (-one.priority, one.job.job_id)))


def fair_shares(snapshot: Snapshot) -> tuple[Standing, ...]:
    """Return the standing of every association, in the controller's order.

    Needs :data:`FAIR_SHARE_PARTS`. Usage is that of the snapshot's moment, so the result is what
    Slurm's next calculation would say now; right after one, what it did say.

    Raises:
        SlurmRefused: the snapshot has only a part of the tree, because Slurm hides the rest.
    """
    settings = read_settings(_settings(snapshot))
    found = members(snapshot)
    if settings.fair_tree:
        return fair_tree(found)
    return classic_fair_share(
        found,
        dampening=settings.dampening,
        depth_oblivious="DEPTH_OBLIVIOUS" in settings.flags,
    )


def members(snapshot: Snapshot) -> list[Member]:
    """Return the associations as the arithmetic has them (policy/share_tree.py).

    Raises:
        SlurmRefused: as :func:`fair_shares`.
    """
    found = [
        Member(
            account=one.account,
            user=one.user,
            partition=one.partition,
            parent=one.parent,
            shares=one.raw_shares,
            usage=one.usage or 0.0,
        )
        for one in snapshot.associations
    ]
    _need_whole_tree(found)
    return found


def priorities(snapshot: Snapshot, at: int | None = None) -> tuple[Ranked, ...]:
    """Return every place of every pending job that Slurm ranks, in the order of the jobs.

    Needs :data:`PRIORITY_PARTS`. Held jobs and those not yet eligible have no priority to
    explain. Ages are those *at* that time (Unix seconds): by default of Slurm's last calculation
    where it is known, or else of the snapshot.
    """
    standings = Standings(snapshot)
    return tuple(one for job in standings.ranked_jobs() for one in standings.of(job, at))


def is_ranked(job: Job, now: int, flags: frozenset[str] = frozenset()) -> bool:
    """Return whether Slurm shows a priority of *job*: pending, not held, begun to wait.

    With ACCRUE_ALWAYS among the PriorityFlags all begin to wait when they are submitted.
    """
    since = job.submit_time if "ACCRUE_ALWAYS" in flags else job.eligible_time
    return job.state.is_pending and job.priority > 0 and since is not None and since <= now


def calculation_settings(snapshot: Snapshot) -> Settings:
    """Return what the cluster says once for all jobs (Part.CONFIG, NODES, USAGE, QOS …)."""
    return calculation(
        read_settings(_settings(snapshot)),
        cluster_cpus=sum(node.cpus for node in snapshot.nodes),
        nodes=len(snapshot.nodes),
        max_association_priority=max((one.priority for one in snapshot.associations), default=0),
        max_qos_priority=max((one.priority for one in snapshot.qos), default=0),
        max_partition_factor=max(
            (one.priority_job_factor for one in snapshot.partitions), default=1
        ),
    )


class Standings:
    """What Slurm makes of the jobs of one snapshot, and would make of a job that is changed.

    Needs :data:`PRIORITY_PARTS`.

    Raises:
        SlurmRefused: as :func:`fair_shares`.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.settings = calculation_settings(snapshot)
        self.shares = fair_shares(snapshot)
        self.time = snapshot.calculated_at or snapshot.time
        """When ages count as they are now (Unix seconds)."""
        self._snapshot = snapshot
        self._shares = {
            (one.member.account, one.member.user, one.member.partition): one.fair_share or 0.0
            for one in self.shares
        }
        self._associations: Mapping[tuple[str, str, str], Association] = {
            (one.account, one.user, one.partition): one for one in snapshot.associations
        }
        self._partitions = {one.name: one for one in snapshot.partitions}
        self._qos = {one.name: one.priority for one in snapshot.qos}
        self._rows: dict[int, PriorityFactors] = {one.job_id: one for one in snapshot.priorities}
        self._places: dict[tuple[str, str, str, str], Place] = {}

    def ranked_jobs(self) -> Iterator[Job]:
        """Yield the jobs that Slurm ranks."""
        for job in self._snapshot.jobs:
            if is_ranked(job, self._snapshot.time, self.settings.flags):
                yield job

    def of(self, job: Job, at: int | None = None) -> tuple[Ranked, ...]:
        """Return every place that *job*, which need not be as Slurm has it, has *at* a time."""
        return tuple(
            Ranked(job, claim.place.partition, claim.place.qos, shown_priority(made), made)
            for claim in self.claims(job)
            for made in [terms(claim, self.settings, at or self.time)]
        )

    def claims(self, job: Job) -> Iterator[Claim]:
        """Yield what *job* brings in each place it may start in."""
        row = self._rows.get(job.job_id)
        for name in job.partitions:
            partition = self._partitions.get(name)
            if partition is None:  # deleted since
                continue
            for qos in job.qos.split(","):
                yield self._claim(job, partition, self._place(job, partition, qos), row)

    def _place(self, job: Job, partition: Partition, qos: str) -> Place:
        key = (job.account, job.user, partition.name, qos)
        place = self._places.get(key)
        if place is None:
            whose = key[:3] if key[:3] in self._associations else (job.account, job.user, "")
            association = self._associations.get(whose)
            place = self._places[key] = Place(
                partition=partition.name,
                qos=qos,
                fair_share=self._shares.get(whose, 0.0),
                association_priority=association.priority if association else 0,
                qos_priority=self._qos.get(qos, 0),
                partition_factor=partition.priority_job_factor,
                partition_tres=partition.tres,
            )
        return place

    def _claim(
        self, job: Job, partition: Partition, place: Place, row: PriorityFactors | None
    ) -> Claim:
        limit = job.time_limit_seconds
        if limit is None:
            limit = partition.max_time_seconds
        return Claim(
            place=place,
            accrue_time=age_start(self.settings.flags, job.submit_time or 0, job.accrue_time),
            min_nodes=job.tres.get("node", job.nodes),
            cpus=job.cpus,
            time_limit_minutes=None if limit is None else limit // 60,
            tres=job.tres,
            site=row.site if row else 0,
            nice=job.nice,
            direct_priority=job.priority if row and is_set_by_hand(row) else None,
            one_of_several=len(job.partitions) > 1 or "," in job.qos,
        )


def is_set_by_hand(row: PriorityFactors) -> bool:
    """Return whether a priority has no terms: Slurm clears them when somebody sets it.

    Before 23.11 a cleared nice shows as Slurm keeps 0, less its offset; and of a job that lists
    several partitions sprio then says each partition's own points for its priority.
    """
    if row.nice == _CLEARED:
        return True
    points = (row.age, row.association, row.fair_share, row.job_size, row.partition_factor)
    return not any((*points, row.qos_factor, row.nice, row.site, *row.tres.values()))


def _settings(snapshot: Snapshot) -> Mapping[str, str]:
    return snapshot.config.settings if snapshot.config else {}


def _need_whole_tree(found: Sequence[Member]) -> None:
    accounts = {one.account for one in found if not one.user}
    if "root" in accounts and all(
        (one.account in accounts) if one.user else (not one.parent or one.parent in accounts)
        for one in found
    ):
        return
    msg = (
        "Slurm shows you a part of the account tree only (PrivateData in slurm.conf), and fair "
        "share depends on all of it: ask an operator, or see your own figures with `sshare`"
    )
    raise SlurmRefused(msg)


def below(found: Sequence[Standing], account: str) -> tuple[Standing, ...]:
    """Return from *found* that account, its users, and all below it; nothing if there is none."""
    parents = {one.member.account: one.member.parent for one in found if not one.member.user}

    def is_below(name: str) -> bool:
        for _ in parents:
            if name == account:
                return True
            name = parents.get(name, "")
        return False

    inside = {name for name in parents if is_below(name)}
    return tuple(one for one in found if one.member.account in inside)


def of_jobs(
    found: Sequence[Ranked], names: Sequence[str]
) -> tuple[tuple[Ranked, ...], tuple[str, ...]]:
    """Return the rows of the jobs that *names* say, and those *names* that say none of them."""
    chosen: dict[int, Ranked] = {}
    unknown = []
    for name in names:
        mine = [place for place, one in enumerate(found) if _is_called(one.job, name)]
        if not mine:
            unknown.append(name)
        chosen.update((place, found[place]) for place in mine)
    return tuple(chosen[place] for place in sorted(chosen)), tuple(unknown)


def _is_called(job: Job, name: str) -> bool:
    return name in {job.display_id, str(job.job_id), str(job.array_job_id), str(job.het_job_id)}
