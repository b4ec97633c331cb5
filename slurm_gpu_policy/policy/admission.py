"""Whether a request may become a job (rules A-1xx, L-2xx, T-802, V-901), and its cost (C-4xx).

:func:`decide` is the whole of it: account and QOS, routing, Slurm's own limits, the site's
limits, who must approve it, and the estimate. It is arithmetic on what was read; the caller reads
and acts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from slurm_gpu_policy.model.decision import Decision, Reason
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.fitting import Need, Route
from slurm_gpu_policy.policy.limits import (
    enforces,
    longest_seconds,
    site_limits,
    slurm_limits,
    sources,
)
from slurm_gpu_policy.policy.prices.estimate import cost_reasons
from slurm_gpu_policy.policy.prices.pricing import has_price, price_book, prices_at
from slurm_gpu_policy.policy.routing import route
from slurm_gpu_policy.policy.thresholds import Size, line_of, needs_approval
from slurm_gpu_policy.units import counted, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_gpu_policy.config.schema import Cluster, Policy
    from slurm_gpu_policy.model.account import Association
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
    limiting = tuple(sources(snapshot, association, qos))
    need = Need(
        request,
        workload,
        account,
        qos,
        tasks,
        at_once=_at_once(request, tasks),
        default_seconds=workload.default_time or policy.defaults.time,
        longest_seconds=longest_seconds(request, account, limiting, snapshot, policy),
        partition_walls=_partition_walls(snapshot),
        book=price_book(policy),
        now=snapshot.time,
    )
    found = route(need, snapshot, policy, cluster)
    if not isinstance(found, Route):
        return Decision(
            "refuse", (*refusals, *found), account=account, qos=qos, tasks=tasks,
            gpus=_asked_gpus(request), currency=policy.currency,
        )  # fmt: skip
    limiting = tuple(sources(snapshot, association, qos, found.partition.partition(",")[0]))
    refusals.extend(slurm_limits(need, found, limiting))
    broken = tuple(site_limits(need, found, snapshot, policy))
    refusals += [each for each in broken if rules.level_of(each.rule, policy) == "enforce"]
    broken = tuple(each for each in broken if each not in refusals)
    retries = _too_many_retries(request, policy)
    if retries is not None and rules.level_of(retries.rule, policy) == "enforce":
        refusals.append(retries)
    approval = needs_approval(_size(need, found, snapshot), policy)
    holds = approval is not None and rules.level_of(approval.rule, policy) == "enforce"
    gpu = found.kind
    reasons = (
        *((approval,) if approval else ()),
        *broken,
        *((retries,) if retries else ()),
        *found.reasons,
        *_time_reasons(need, found),
        *cost_reasons(need, found, policy.currency),
    )
    return Decision(
        "refuse" if refusals else "hold" if holds else "admit",
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
        use=found.use,
    )


def _too_many_retries(request: Request, policy: Policy) -> Reason | None:
    """Rule T-802: more retries than the site lets anybody have."""
    most = policy.retries.most
    if request.retries <= most:
        return None
    return Reason(
        rules.RETRY_CAP,
        f"a job may be tried again {counted(most, 'time')} at most, not {request.retries}",
        value=str(request.retries),
        limit=str(most),
        remedy=f"ask for at most --retries {most}" if most else "leave --retries out",
    )


def _size(need: Need, found: Route, snapshot: Snapshot) -> Size:
    return Size(
        found.gpus,
        found.time_seconds or None,
        need.tasks,
        found.cost_micros,
        line_of(need.account, snapshot.associations),
        need.request.workload,
        has_price(found.use, prices_at(need.book, need.now)),
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
    # A user may have one more for a partition alone; the general one speaks for the account.
    mine.sort(key=lambda item: bool(item.partition))
    accounts = sorted({item.account for item in mine})
    if not mine:
        if not enforces(snapshot, "associations"):
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


def _qos(
    request: Request, association: Association | None, of_workload: str | None, policy: Policy
) -> str | Reason:
    """Rule A-102: the QOS asked for, if allowed; else the first default that is."""
    # sacctmgr keeps QOS names in lower case, and sbatch accepts any.
    allowed = {name.lower(): name for name in (association.qos if association else ())}
    if request.qos:
        if association is None:
            return request.qos
        if request.qos.lower() in allowed:
            return allowed[request.qos.lower()]
        names = ", ".join(sorted(allowed.values()))
        return Reason(
            rules.QOS,
            f"account {association.account} does not let you use QOS {request.qos}",
            value=request.qos,
            limit=names,
            remedy=f"use one of: {names}" if names else "leave --qos out",
        )
    for choice in (of_workload, policy.defaults.qos):
        if choice and choice.lower() in allowed:
            return allowed[choice.lower()]
    return association.default_qos if association else ""


def _array_tasks(request: Request, snapshot: Snapshot) -> int | Reason:
    """Rule A-110: how many tasks an ``--array`` has."""
    if not request.array:
        return 1
    ranges, _, at_once = request.array.partition("%")
    parts = [re.fullmatch(_ARRAY_PART, part.strip(), re.ASCII) for part in ranges.split(",")]
    tasks = [
        range(int(part[1]), int(part[2] or part[1]) + 1, int(part[3] or 1) or 1)
        for part in parts
        if part
    ]
    steps_are_right = all(part and int(part[3] or 1) for part in parts)
    if not steps_are_right or not all(tasks) or ("%" in request.array and not at_once.isdecimal()):
        return Reason(
            rules.ARRAY,
            f"--array={request.array} is not a list of task numbers",
            value=request.array,
            remedy="write it as 0-9, 1,3,5 or 0-99%4",
        )
    largest = max(task[-1] for task in tasks)
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
    return len(tasks[0]) if len(tasks) == 1 else len(set().union(*tasks))


def _at_once(request: Request, tasks: int) -> int:
    """Return how many tasks of an array may run at the same time (``0-99%4``: 4)."""
    most = (request.array or "").partition("%")[2]
    return min(tasks, int(most)) if most.isdecimal() and int(most) else tasks


def _partition_walls(snapshot: Snapshot) -> dict[str, int]:
    """Return the MaxWall that a partition's own QOS puts on it, by partition."""
    if not enforces(snapshot, "limits"):
        return {}
    walls = {item.name: item.max_wall_seconds for item in snapshot.qos}
    return {
        item.name: wall for item in snapshot.partitions if (wall := walls.get(item.qos)) is not None
    }


def _time_reasons(need: Need, found: Route) -> Iterator[Reason]:
    """Rule R-305: say which time limit a request without one got."""
    if need.request.time_seconds is not None or found.time_seconds is None:
        return
    time = format_duration(found.time_seconds)
    yield Reason(rules.ROUTE_TIME, f"without --time it gets {time}", value=time)
