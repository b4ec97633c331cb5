"""Slurm's many limit reasons (``AssocGrpGRESMinutes``, ``QOSMaxCpuPerUserLimit``) in plain words.

They are a family: owner, kind of limit, resource, measure and scope make up each name, so they
are read as such instead of being listed (the full list: slurm, src/common/job_state_reason.c).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from slurm_gpu_policy.model.account import Association, Qos
    from slurm_gpu_policy.model.job import Job
    from slurm_gpu_policy.model.snapshot import Snapshot

_NAME = re.compile(
    r"(?P<owner>Assoc|QOS)?(?P<kind>Grp|Max|Min)"
    r"(?P<what>Cpu|Mem(?:ory)?|Node|GRES|License|BB|Energy|Billing|Unknown"
    r"|SubmitJobs?|Jobs|Wall(?:Duration)?)"
    r"(?P<measure>RunMin(?:ute)?s|Min(?:ute)?s)?(?:Per(?P<scope>Job|Node|User|Account))?"
    r"(?:Limit|NotSatisfied)?",
    re.IGNORECASE,
)
# what -> (in the plural, as a unit of time, TRES names that begin so)
_RESOURCES = {
    "cpu": ("CPUs", "CPU-minutes", "cpu"),
    "mem": ("memory", "memory-minutes", "mem"),
    "memory": ("memory", "memory-minutes", "mem"),
    "node": ("nodes", "node-minutes", "node"),
    "gres": ("GPUs", "GPU-minutes", "gres/"),
    "license": ("licenses", "license-minutes", "license/"),
    "bb": ("burst buffer space", "burst-buffer-minutes", "bb/"),
    "energy": ("energy", "energy-minutes", "energy"),
    "billing": ("billing units", "billing-minutes", "billing"),
    "unknown": ("a resource", "minutes of a resource", ""),
    "jobs": ("jobs running at once", "", ""),
    "submitjob": ("jobs queued and running together", "", ""),
    "submitjobs": ("jobs queued and running together", "", ""),
    "wall": ("wall-clock time", "", ""),
    "wallduration": ("wall-clock time", "", ""),
}


@record
class LimitReason:
    """A limit reason taken apart; texts are lower case, ``""`` where the name says nothing."""

    owner: str
    """``assoc`` or ``qos``."""
    kind: str
    """``grp``, ``max`` or ``min``."""
    what: str
    measure: str
    scope: str


def read_limit_reason(reason: str) -> LimitReason | None:
    """Return the parts of a limit reason, ``None`` for any other reason."""
    match = _NAME.fullmatch(reason)
    if match is None:
        return None
    part = {name: (text or "").lower() for name, text in match.groupdict().items()}
    part["measure"] = part["measure"].replace("mins", "minutes")
    owner = part["owner"] or "qos"  # MaxGRESPerAccount and its like are the QOS's
    if not part["owner"] and part["scope"] != "account":
        return None  # MaxMemPerLimit, MaxNodePer… without owner: not of this family
    return LimitReason(owner, part["kind"], part["what"], part["measure"], part["scope"])


def limit_words(limit: LimitReason, job: Job) -> tuple[str, str]:
    """Return (why it waits, what its user can do) for a limit reason."""
    plural, minutes, _keys = _RESOURCES[limit.what]
    of_account = limit.owner == "assoc"
    names = {
        "owner": f"account {job.account}" if of_account else f"QOS {job.qos}",
        "other": "another account (-A)" if of_account else "another QOS (-q)",
        "plural": plural,
        "minutes": minutes,
        "account": job.account,
        "user": job.user,
        "job_id": str(job.job_id),
    }
    text, advice = _WORDS[_shape(limit)]
    return text.format_map(names), advice.format_map(names)


def _shape(limit: LimitReason) -> str:
    """Return the key of :data:`_WORDS` for a limit."""
    of_all = limit.kind == "grp"
    if limit.kind == "min":
        return "least"
    if limit.what.startswith("wall"):
        return "wall budget" if of_all else "wall"
    if limit.what.startswith(("jobs", "submit")):
        return "jobs of account" if limit.scope == "account" else f"jobs of {_WHO[of_all]}"
    if limit.measure:
        in_all = "budget" if of_all else "minutes of job"
        return "minutes to run" if limit.measure == "runminutes" else in_all
    return "held by all" if of_all else _HELD.get(limit.scope, "of job")


_WHO = ("user", "all")
_HELD = {"user": "held by user", "account": "held by account", "node": "of node"}
_NEVER = "it will not start as it is: "
# shape -> (why, what to do)
_WORDS = {
    "least": (
        "it asks for less than the least {owner} takes ({plural})",
        _NEVER + "ask for more, or use {other}",
    ),
    "wall": (
        "its time limit is longer than {owner} allows",
        "shorten it (scontrol update jobid={job_id} timelimit=…), or use {other}",
    ),
    "wall budget": (
        "the budget of wall-clock time of {owner} is used up",
        "ask for a shorter --time, use {other}, or ask the operators about the budget",
    ),
    "jobs of all": (
        "{owner} is at its limit of {plural}",
        "it goes on when other jobs of {owner} end; or use {other}",
    ),
    "jobs of user": (
        "user {user} is at the limit of {plural} that {owner} lets one user have",
        "it goes on when other jobs of {user} in {owner} end; or use {other}",
    ),
    "jobs of account": (
        "account {account} is at the limit of {plural} that {owner} lets one account have",
        "it goes on when other jobs of account {account} end; or use {other}",
    ),
    "minutes to run": (
        "the running jobs of {owner} have too many {minutes} before them for this one to be added",
        "ask for a shorter --time, or wait until those jobs are further on",
    ),
    "budget": (
        "the budget of {minutes} of {owner} does not cover this job to its time limit",
        "ask for a shorter --time or for less, use {other}, or ask the operators about the budget",
    ),
    "minutes of job": (
        "it asks for more {minutes} ({plural} times time limit) than {owner} gives one job",
        _NEVER + "shorten its time limit, ask for less, or use {other}",
    ),
    "held by all": (
        "{owner} is at its limit of {plural} in use at once",
        "it starts when other jobs of {owner} end; or use {other}",
    ),
    "held by user": (
        "user {user} is at the limit of {plural} that {owner} lets one user hold at once",
        "it starts when other jobs of {user} in {owner} end; or use {other}",
    ),
    "held by account": (
        "account {account} is at the limit of {plural} that {owner} lets one account hold at once",
        "it starts when other jobs of account {account} end; or use {other}",
    ),
    "of node": (
        "it asks for more {plural} on one node than {owner} gives a job",
        _NEVER + "ask for less on each node, or use {other}",
    ),
    "of job": (
        "it asks for more {plural} than {owner} gives one job",
        _NEVER + "ask for less, or use {other}",
    ),
}


def limit_facts(limit: LimitReason, job: Job, snapshot: Snapshot) -> Iterator[str]:
    """Yield the limits that may be meant, with their values and what is held against them."""
    if limit.owner == "assoc":
        chain = tuple(_associations(job, snapshot))
        for association in chain:
            yield from _of_association(limit, job, association, snapshot)
        return
    names = [job.qos, *(p.qos for p in snapshot.partitions if p.name in job.partitions)]
    for qos in snapshot.qos:
        if qos.name in names:
            yield from _of_qos(limit, job, qos, snapshot)


def _associations(job: Job, snapshot: Snapshot) -> Iterator[Association]:
    """Yield the user's own place in the account tree, then each account above it."""
    by_key = {(item.account, item.user): item for item in snapshot.associations}
    if own := by_key.get((job.account, job.user)):
        yield own
    name, seen = job.account, set[str]()
    while name not in seen and (account := by_key.get((name, ""))):
        yield account
        seen.add(name)
        name = account.parent


def _of_association(
    limit: LimitReason, job: Job, owner: Association, snapshot: Snapshot
) -> Iterator[str]:
    who = f"account {owner.account}"
    if owner.user:
        who = f"user {owner.user} in {who}"
    accounts = _below(owner.account, snapshot)
    mine = [
        item for item in snapshot.jobs if item.account in accounts and owner.user in {"", item.user}
    ]
    if limit.what == "wallduration":
        yield from _wall(who, owner.max_wall_seconds, job)
    elif limit.what == "jobs" and limit.kind == "max":
        yield from _jobs(who, owner.max_jobs, sum(item.state.is_active for item in mine), "running")
    elif limit.what.startswith("submit") and limit.kind == "max":
        count = sum(not item.state.is_over for item in mine)
        yield from _jobs(who, owner.max_submit_jobs, count, "queued and running")
    elif limit.kind == "grp" and limit.measure == "minutes":
        yield from _budgets(who, owner.grp_tres_mins, limit)
    elif limit.kind == "grp" and not limit.measure:
        yield from _held(who, owner.grp_tres, limit, job, mine)
    elif limit.scope == "job" and not limit.measure:
        yield from _asked(who, owner.max_tres_per_job, limit, job)


def _of_qos(limit: LimitReason, job: Job, owner: Qos, snapshot: Snapshot) -> Iterator[str]:
    who = f"QOS {owner.name}"
    in_qos = [item for item in snapshot.jobs if item.qos == owner.name]
    mine = [item for item in in_qos if item.user == job.user]
    ours = [item for item in in_qos if item.account == job.account]
    if limit.what == "wallduration":
        yield from _wall(who, owner.max_wall_seconds, job)
    elif limit.what == "jobs" and limit.scope == "user":
        count = sum(item.state.is_active for item in mine)
        yield from _jobs(f"a user in {who}", owner.max_jobs_per_user, count, "running")
    elif limit.what.startswith("submit") and limit.scope == "user":
        most, count = owner.max_submit_jobs_per_user, sum(not item.state.is_over for item in mine)
        yield from _jobs(f"a user in {who}", most, count, "queued and running")
    elif limit.kind == "grp" and limit.measure == "minutes":
        yield from _budgets(who, owner.grp_tres_mins, limit)
    elif limit.kind == "grp" and not limit.measure:
        yield from _held(who, owner.grp_tres, limit, job, in_qos)
    elif limit.scope == "user":
        yield from _held(f"a user in {who}", owner.max_tres_per_user, limit, job, mine)
    elif limit.scope == "account":
        yield from _held(f"an account in {who}", owner.max_tres_per_account, limit, job, ours)
    elif limit.scope == "job" and not limit.measure:
        yield from _asked(who, owner.max_tres_per_job, limit, job)


def _below(account: str, snapshot: Snapshot) -> set[str]:
    """Return an account with all accounts under it."""
    found = {account}
    while more := {
        item.account
        for item in snapshot.associations
        if not item.user and item.parent in found and item.account not in found
    }:
        found |= more
    return found


def _wall(who: str, most: int | None, job: Job) -> Iterator[str]:
    if most is not None:
        asked = job.time_limit_seconds
        text = f"; this job asks for {format_duration(asked)}" if asked is not None else ""
        yield f"{who} allows a job {format_duration(most)} at most{text}"


def _jobs(who: str, most: int | None, count: int, how: str) -> Iterator[str]:
    if most is not None:
        yield f"{who} may have {most} jobs {how}, and has {count}"


def _budgets(who: str, limits: Mapping[str, int], limit: LimitReason) -> Iterator[str]:
    for name, most in _meant(limits, limit):
        yield f"{who} has a budget of {most} {name}-minutes"


def _held(
    who: str, limits: Mapping[str, int], limit: LimitReason, job: Job, mine: list[Job]
) -> Iterator[str]:
    active = [item for item in mine if item.state.is_active and item.job_id != job.job_id]
    for name, most in _meant(limits, limit):
        held = sum(_amount(name, item) or 0 for item in active)
        asked = _amount(name, job)
        text = "" if asked is None else f"; {held} held now, this job asks for {asked}"
        yield f"{who} may hold {most} {name} at once{text}"


def _asked(who: str, limits: Mapping[str, int], limit: LimitReason, job: Job) -> Iterator[str]:
    for name, most in _meant(limits, limit):
        asked = _amount(name, job)
        text = "" if asked is None else f"; this job asks for {asked}"
        yield f"{who} gives one job {most} {name} at most{text}"


def _meant(limits: Mapping[str, int], limit: LimitReason) -> Iterator[tuple[str, int]]:
    start = _RESOURCES[limit.what][2]
    return (
        (name, most) for name, most in sorted(limits.items()) if start and name.startswith(start)
    )


def _amount(name: str, job: Job) -> int | None:
    """Return how much of a TRES a job has or asks for; ``None`` where a job does not say."""
    if name == "gres/gpu":
        return job.gpus
    if name.startswith("gres/gpu:"):
        return job.gpus if job.gpu_type == name.removeprefix("gres/gpu:") else 0
    amounts = {"cpu": job.cpus, "node": job.nodes, "mem": job.memory_mb}
    return amounts.get(name)
