"""What Slurm's and the site's limits say of a request (rules A-107, A-109, L-2xx)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.model.decision import Reason
from slurm_gpu_policy.model.request import UNLIMITED
from slurm_gpu_policy.model.tag import workload_of
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.thresholds import line_of
from slurm_gpu_policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from slurm_gpu_policy.config.schema import Limit, Policy
    from slurm_gpu_policy.model.account import Association, Qos
    from slurm_gpu_policy.model.request import Request
    from slurm_gpu_policy.model.snapshot import Snapshot
    from slurm_gpu_policy.policy.fitting import Need, Route

Source = tuple[str, "Association | Qos"]
"""Something that limits, and what to call it."""


def enforces(snapshot: Snapshot, what: str) -> bool:
    """Return whether Slurm enforces *what* (AccountingStorageEnforce, slurm.conf(5))."""
    settings = snapshot.config.settings if snapshot.config else {}
    enforced = settings.get("AccountingStorageEnforce", "").lower().split(",")
    # "limits", "qos" and "safe" imply associations.
    implied = {"limits", "qos", "safe"} if what == "associations" else set()
    return what in enforced or "all" in enforced or bool(implied.intersection(enforced))


def sources(
    snapshot: Snapshot, association: Association | None, qos: str, partition: str = ""
) -> Iterator[Source]:
    """Yield what limits a job: its QOS, the partition's, and its place in the account tree.

    The user's association bound to *partition* stands in for the general one; then the account
    and those above it follow. Nothing is yielded where Slurm enforces no limits.
    """
    if not enforces(snapshot, "limits"):
        return
    by_name = {item.name: item for item in snapshot.qos}
    of_partition = {item.name: item.qos for item in snapshot.partitions}.get(partition, "")
    for name, title in ((qos, "QOS"), (of_partition, f"partition {partition}'s QOS")):
        if name in by_name:
            yield f"{title} {name}", by_name[name]
    if association is None:
        return
    bound = [
        item
        for item in snapshot.associations
        if (item.user, item.account) == (association.user, association.account)
        and item.partition == partition
    ]
    yield f"your account {association.account}", bound[0] if partition and bound else association
    accounts = {item.account: item for item in snapshot.associations if not item.user}
    name = association.account
    while (above := accounts.pop(name, None)) is not None:
        yield f"account {name}", above
        name = above.parent


def longest_seconds(
    request: Request, account: str, limiting: Iterable[Source], snapshot: Snapshot, policy: Policy
) -> int | None:
    """Rule R-305: the longest time that a default may be, for Slurm's and the site's limits."""
    walls = [source.max_wall_seconds for _, source in limiting]
    walls += [limit.time for _, limit in _site_scopes(request, account, snapshot, policy)]
    return min((wall for wall in walls if wall is not None), default=None)


def slurm_limits(need: Need, found: Route, limiting: Iterable[Source]) -> Iterator[Reason]:
    """Rules A-107, A-109: limits that no waiting can overcome.

    Slurm itself would let such a job wait for ever (unless the QOS has DenyOnLimit).
    """
    asked = need.request.time_seconds
    for owner, source in limiting:
        wall = source.max_wall_seconds
        if wall is not None and asked is not None and (asked > wall or asked == UNLIMITED):
            yield Reason(
                rules.TIME,
                f"the time limit {_time_words(asked)} is longer than {owner} allows",
                value=_time_words(asked),
                limit=format_duration(wall),
                remedy=f"ask for at most --time={format_duration(wall)}",
            )
        most = _most_gpus(source, found)
        if most is not None and found.gpus > most:
            yield Reason(
                rules.SLURM_LIMIT,
                f"{owner} never lets one job have {found.gpus} GPUs",
                value=str(found.gpus),
                limit=str(most),
                remedy=f"ask for at most {most} GPUs" if most else "use another QOS or account",
            )


def _time_words(seconds: int) -> str:
    return "unlimited" if seconds == UNLIMITED else format_duration(seconds)


def _most_gpus(source: Association | Qos, found: Route) -> int | None:
    """Return the smallest GPU limit of any kind that bounds a single job."""
    keys = ["gres/gpu"]
    if found.kind and found.kind.gres_type:
        keys.append(f"gres/gpu:{found.kind.gres_type}")
    of_qos = ("max_tres_per_user", "max_tres_per_account")
    tables: list[Mapping[str, int]] = [
        source.max_tres_per_job,
        source.grp_tres,
        *(getattr(source, name, {}) for name in of_qos),
    ]
    return min((table[key] for table in tables for key in keys if key in table), default=None)


def _site_scopes(
    request: Request, account: str, snapshot: Snapshot, policy: Policy
) -> Iterator[tuple[str, Limit]]:
    """Yield the site's limits that hold for a request: the user's, the account's, the class's.

    Those of the accounts above are the account's as well.
    """
    limits = policy.limits
    accounts = {name.lower(): limit for name, limit in limits.accounts.items()}
    found = (
        (f"user {request.user}", limits.users.get(request.user, limits.everyone)),
        *(
            (f"account {name}", accounts.get(name.lower()))
            for name in (line_of(account, snapshot.associations) if accounts else ())
        ),
        (f"workload class {request.workload}", limits.workloads.get(request.workload)),
    )
    yield from ((owner, limit) for owner, limit in found if limit is not None)


def site_limits(need: Need, found: Route, snapshot: Snapshot, policy: Policy) -> Iterator[Reason]:
    """Rules L-201 to L-203, L-206: the policy file's limits for user, account and workload."""
    request = need.request
    for name in line_of(need.account, snapshot.associations):
        if name in policy.accounts and policy.accounts[name].closed:
            yield Reason(
                rules.ACCOUNT_CLOSED,
                f"account {name} is closed",
                value=need.account,
                remedy="use another one of yours (--account)",
            )
    time = UNLIMITED if found.time_seconds is None else found.time_seconds
    for owner, limit in _site_scopes(request, need.account, snapshot, policy):
        if limit.gpus_per_job is not None and found.gpus > limit.gpus_per_job:
            yield Reason(
                rules.LIMIT_GPUS_PER_JOB,
                f"a job of {owner} may have {limit.gpus_per_job} GPUs at most, not {found.gpus}",
                value=str(found.gpus),
                limit=str(limit.gpus_per_job),
                remedy=f"ask for at most {limit.gpus_per_job} GPUs",
            )
        if limit.gpus is not None:
            held = sum(_held(snapshot, owner, request))
            yield from _gpus_at_once(owner, limit.gpus, held, need, found)
        if limit.time is not None and (time > limit.time or time == UNLIMITED):
            yield Reason(
                rules.LIMIT_TIME,
                f"a job of {owner} may run {format_duration(limit.time)} at most, "
                f"not {_time_words(time)}",
                value=_time_words(time),
                limit=format_duration(limit.time),
                remedy=f"ask for at most --time={format_duration(limit.time)}",
            )


def _held(snapshot: Snapshot, owner: str, request: Request) -> Iterator[int]:
    """Yield the GPUs of each job that holds some now and counts for *owner*."""
    accounts: set[str] = set()
    if owner.startswith("account "):
        top = owner.removeprefix("account ")
        known = {item.account for item in snapshot.associations}
        accounts = {name for name in known if top in line_of(name, snapshot.associations)} | {top}
    for job in snapshot.jobs:
        if not job.gpus or not job.state.is_active:
            continue
        if accounts:
            counts = job.account in accounts
        elif owner.startswith("workload "):
            workload = workload_of(job.comment)
            counts = job.user == request.user and workload == request.workload
        else:
            counts = job.user == request.user
        if counts:
            yield job.gpus


def _gpus_at_once(owner: str, limit: int, held: int, need: Need, found: Route) -> Iterator[Reason]:
    """Rule L-202; of an array as many tasks count as may run at the same time."""
    asked = found.gpus * need.at_once
    if not asked or held + asked <= limit:
        return
    free = max(limit - held, 0)
    fitting = free // found.gpus
    if fitting and need.at_once > 1:
        base = (need.request.array or "").partition("%")[0]
        remedy = f"let fewer tasks run at once: --array={base}%{fitting}"
    elif free:
        remedy = f"ask for at most {free} GPUs now, or wait until jobs of {owner} end"
    else:
        remedy = f"wait until jobs of {owner} end"
    yield Reason(
        rules.LIMIT_GPUS,
        f"{owner} holds {held} GPUs now; with {asked} more it would be over its {limit}",
        value=str(held + asked),
        limit=str(limit),
        remedy=remedy,
    )
