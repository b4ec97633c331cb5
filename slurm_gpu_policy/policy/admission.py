"""Whether a request may become a job (rules A-1xx, L-2xx), and what it would cost (C-4xx).

:func:`decide` is the whole of it: account and QOS, routing, Slurm's own limits, the site's
limits, and the estimate. It is arithmetic on what was read; the caller reads and acts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from slurm_gpu_policy.model.decision import Decision, Reason
from slurm_gpu_policy.model.tag import read_tag
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.fitting import Need, Route
from slurm_gpu_policy.policy.routing import route
from slurm_gpu_policy.units import format_duration, format_money

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from slurm_gpu_policy.config.schema import Cluster, Limit, Policy
    from slurm_gpu_policy.model.account import Association, Qos
    from slurm_gpu_policy.model.request import Request
    from slurm_gpu_policy.model.snapshot import Snapshot

_ARRAY_PART = r"(\d{1,9})(?:-(\d{1,9})(?::(\d{1,9}))?)?"
_DEFAULT_MAX_ARRAY_SIZE = 1001
"""Slurm's own default (slurm.conf, MaxArraySize); the largest index is one less."""


def needs_jobs(request: Request, policy: Policy) -> bool:
    """Return whether :func:`decide` must know the queue: only a limit on GPUs held at once asks."""
    limits = policy.limits
    chosen = (
        limits.users.get(request.user, limits.everyone),
        limits.workloads.get(request.workload),
        *limits.accounts.values(),
    )
    return any(limit is not None and limit.gpus is not None for limit in chosen)


def decide(request: Request, snapshot: Snapshot, policy: Policy, cluster: Cluster) -> Decision:
    """Return what becomes of a request, with every reason.

    *snapshot* must hold partitions, nodes, QOS, the controller's settings and the user's own
    associations, and the jobs where :func:`needs_jobs` says so.
    """
    refusals: list[Reason] = []
    workload = policy.workloads.get(request.workload)
    if workload is None:
        refusals.append(_unknown_workload(request, policy))
        workload = policy.workloads["generic"]
    association = _association(request, snapshot, policy)
    if isinstance(association, Reason):
        refusals.append(association)
        association = None
    account = association.account if association else request.account or ""
    qos = _qos(request, association, workload.qos, policy)
    if isinstance(qos, Reason):
        refusals.append(qos)
        qos = request.qos or ""
    tasks = _array_tasks(request, snapshot)
    if isinstance(tasks, Reason):
        refusals.append(tasks)
        tasks = 1
    need = Need(request, workload, account, qos, tasks)
    found = route(need, snapshot, policy, cluster)
    if not isinstance(found, Route):
        return Decision(
            "refuse", (*refusals, *found), account=account, qos=qos, tasks=tasks,
            gpus=_asked_gpus(request), currency=policy.currency,
        )  # fmt: skip
    refusals.extend(_slurm_limits(need, found, snapshot, association))
    broken = tuple(_site_limits(need, found, snapshot, policy))
    if policy.enforcement == "enforce":
        refusals.extend(broken)
        broken = ()
    reasons = (*broken, *found.reasons, *_cost_reasons(found, policy))
    gpu = found.kind
    return Decision(
        "refuse" if refusals else "admit",
        tuple(refusals) or reasons,
        gpus=found.gpus,
        gpu_type=gpu.name if gpu else "",
        gres_type=gpu.gres_type if gpu else None,
        features=gpu.features if gpu else (),
        gpu_request=cluster.gpu_request,
        nodes=found.nodes,
        cpus=found.cpus,
        partition=found.partition,
        account=account,
        qos=qos,
        time_seconds=found.time_seconds,
        tasks=tasks,
        cost_micros=found.cost_micros,
        currency=policy.currency,
    )


def _asked_gpus(request: Request) -> int:
    return request.gpus or (request.gpus_per_node or 0) * (request.nodes or 1)


def _unknown_workload(request: Request, policy: Policy) -> Reason:
    """Rule A-108."""
    known = ", ".join(sorted(policy.workloads))
    return Reason(
        rules.WORKLOAD,
        f"there is no workload class {request.workload}",
        value=request.workload,
        limit=known,
        remedy=f"use one of: {known}",
    )


def _association(
    request: Request, snapshot: Snapshot, policy: Policy
) -> Association | Reason | None:
    """Rule A-101: the user's place in the account tree; ``None`` where Slurm asks for none."""
    mine = [item for item in snapshot.associations if item.user == request.user]
    accounts = sorted({item.account for item in mine})
    if not mine:
        if not _enforces(snapshot, "associations"):
            return None
        return Reason(
            rules.ACCOUNT,
            f"user {request.user} has no account on this cluster",
            value=request.user,
            remedy="ask the operators to add you to one (sacctmgr add user)",
        )
    if request.account:
        # sacctmgr keeps account names in lower case, and sbatch accepts any.
        wanted = request.account.lower()
        for item in mine:
            if item.account.lower() == wanted:
                return item
        return Reason(
            rules.ACCOUNT,
            f"user {request.user} may not use account {request.account}",
            value=request.account,
            limit=", ".join(accounts),
            remedy=f"use one of your accounts: {', '.join(accounts)}",
        )
    if policy.defaults.account in accounts:
        return next(item for item in mine if item.account == policy.defaults.account)
    return next((item for item in mine if item.is_default), mine[0])


def _enforces(snapshot: Snapshot, what: str) -> bool:
    settings = snapshot.config.settings if snapshot.config else {}
    enforced = settings.get("AccountingStorageEnforce", "").lower().split(",")
    # "limits", "qos" and "safe" imply associations (slurm.conf(5)).
    implied = {"limits", "qos", "safe"} if what == "associations" else set()
    return what in enforced or "all" in enforced or bool(implied.intersection(enforced))


def _qos(
    request: Request, association: Association | None, of_workload: str | None, policy: Policy
) -> str | Reason:
    """Rule A-102: the QOS asked for, if allowed; else the first default that is."""
    allowed = association.qos if association else frozenset()
    if request.qos:
        if association is None or request.qos in allowed:
            return request.qos
        names = ", ".join(sorted(allowed))
        return Reason(
            rules.QOS,
            f"account {association.account} does not let you use QOS {request.qos}",
            value=request.qos,
            limit=names,
            remedy=f"use one of: {names}" if names else "leave --qos out",
        )
    for choice in (of_workload, policy.defaults.qos):
        if choice and choice in allowed:
            return choice
    return association.default_qos if association else ""


def _array_tasks(request: Request, snapshot: Snapshot) -> int | Reason:
    """Rule A-110: how many tasks an ``--array`` has."""
    if not request.array:
        return 1
    count, largest = 0, 0
    for part in request.array.partition("%")[0].split(","):
        match = re.fullmatch(_ARRAY_PART, part.strip(), re.ASCII)
        if match is None or int(match[3] or 1) == 0 or int(match[2] or match[1]) < int(match[1]):
            return Reason(
                rules.ARRAY,
                f"--array={request.array} is not a list of task numbers",
                value=request.array,
                remedy="write it as 0-9, 1,3,5 or 0-99%4",
            )
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        count += (last - first) // step + 1
        largest = max(largest, last)
    settings = snapshot.config.settings if snapshot.config else {}
    size = settings.get("MaxArraySize", "")
    limit = int(size) if size.isdigit() else _DEFAULT_MAX_ARRAY_SIZE
    if largest >= limit:
        return Reason(
            rules.ARRAY,
            f"task number {largest} is more than this cluster's arrays may have",
            value=str(largest),
            limit=str(limit - 1),
            remedy=f"number the tasks up to {limit - 1}, or split the array",
        )
    return count


def _slurm_limits(
    need: Need, found: Route, snapshot: Snapshot, association: Association | None
) -> Iterator[Reason]:
    """Rules A-107, A-109: limits of QOS and association that no waiting can overcome.

    Slurm itself would let such a job wait for ever (unless the QOS has DenyOnLimit).
    """
    if not _enforces(snapshot, "limits"):
        return
    qos = next((item for item in snapshot.qos if item.name == need.qos), None)
    for owner, source in ((f"QOS {need.qos}", qos), (f"account {need.account}", association)):
        if source is None:
            continue
        if (
            source.max_wall_seconds is not None
            and need.request.time_seconds is not None
            and need.request.time_seconds > source.max_wall_seconds
        ):
            limit = format_duration(source.max_wall_seconds)
            yield Reason(
                rules.TIME,
                f"the time limit {format_duration(need.request.time_seconds)} is longer than "
                f"{owner} allows",
                value=format_duration(need.request.time_seconds),
                limit=limit,
                remedy=f"ask for at most --time={limit}",
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


def _site_limits(need: Need, found: Route, snapshot: Snapshot, policy: Policy) -> Iterator[Reason]:
    """Rules L-201 to L-203: the limits of the policy file for user, account and workload."""
    request, limits = need.request, policy.limits
    own = limits.users.get(request.user)
    users = {request.user}
    scopes: list[tuple[str, Limit | None, Iterable[int]]] = [
        (f"user {request.user}", own or limits.everyone, _held(snapshot, users=users)),
        (
            f"account {need.account}",
            limits.accounts.get(need.account),
            _held(snapshot, accounts={need.account}),
        ),
        (
            f"workload class {request.workload}",
            limits.workloads.get(request.workload),
            _held(snapshot, users=users, workload=request.workload),
        ),
    ]
    for owner, limit, held in scopes:
        if limit is None:
            continue
        if limit.gpus_per_job is not None and found.gpus > limit.gpus_per_job:
            yield Reason(
                rules.LIMIT_GPUS_PER_JOB,
                f"a job of {owner} may have {limit.gpus_per_job} GPUs at most, not {found.gpus}",
                value=str(found.gpus),
                limit=str(limit.gpus_per_job),
                remedy=f"ask for at most {limit.gpus_per_job} GPUs",
            )
        if limit.gpus is not None:
            yield from _gpus_at_once(owner, limit.gpus, sum(held), found.gpus)
        time = request.time_seconds or found.time_seconds
        if limit.time is not None and time is not None and time > limit.time:
            yield Reason(
                rules.LIMIT_TIME,
                f"a job of {owner} may run {format_duration(limit.time)} at most, "
                f"not {format_duration(time)}",
                value=format_duration(time),
                limit=format_duration(limit.time),
                remedy=f"ask for at most --time={format_duration(limit.time)}",
            )


def _held(
    snapshot: Snapshot,
    *,
    users: set[str] | None = None,
    accounts: set[str] | None = None,
    workload: str | None = None,
) -> Iterator[int]:
    """Yield the GPUs of each job that holds some now and belongs to the scope."""
    for job in snapshot.jobs:
        if not job.gpus or not job.state.is_active:
            continue
        if users is not None and job.user not in users:
            continue
        if accounts is not None and job.account not in accounts:
            continue
        if workload is None or read_tag(job.comment).get("workload") == workload:
            yield job.gpus


def _gpus_at_once(owner: str, limit: int, held: int, asked: int) -> Iterator[Reason]:
    """Rule L-202."""
    if held + asked <= limit:
        return
    free = max(limit - held, 0)
    yield Reason(
        rules.LIMIT_GPUS,
        f"{owner} holds {held} GPUs now; with {asked} more it would be over its {limit}",
        value=str(held + asked),
        limit=str(limit),
        remedy=f"ask for at most {free} GPUs now, or wait until jobs of {owner} end"
        if free
        else f"wait until jobs of {owner} end",
    )


def _cost_reasons(found: Route, policy: Policy) -> Iterator[Reason]:
    """Rules C-401, C-403: the estimate, or why there is none."""
    if found.kind is None:
        return
    if found.cost_micros is not None:
        amount = f"{format_money(found.cost_micros)} {policy.currency}"
        yield Reason(
            rules.COST_ESTIMATE,
            f"costs up to {amount} if it uses its whole time limit",
            value=amount,
        )
    elif found.kind.price_micros is None:
        yield Reason(
            rules.COST_UNKNOWN, f"the site has set no price for {found.kind.name}: no estimate"
        )
    else:
        yield Reason(rules.COST_UNKNOWN, "no estimate: the job has no time limit")
