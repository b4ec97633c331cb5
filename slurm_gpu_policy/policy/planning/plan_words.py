"""The steps of a plan in words, one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.units import format_duration

if TYPE_CHECKING:
    from slurm_gpu_policy.model.plan import Change, ObjectId

FIELDS = {
    "description": "description",
    "organization": "organization",
    "parent": "account above",
    "shares": "shares",
    "priority": "priority",
    "default": "default account",
    "qos": "allowed QOS",
    "default_qos": "default QOS",
    "gpus": "GPUs at once",
    "gpus_per_job": "GPUs of one job",
    "gpus_per_user": "GPUs of one user",
    "gpus_per_account": "GPUs of one account",
    "time": "time limit of one job",
    "running_jobs": "running jobs",
    "submitted_jobs": "jobs that wait or run",
    "running_jobs_per_user": "running jobs of one user",
    "submitted_jobs_per_user": "jobs of one user that wait or run",
    "preempts": "preempts",
    "preempt_mode": "when preempted",
    "min_run_time": "run time before preemption",
    "grace_seconds": "seconds to end in",
    "usage_factor": "usage factor",
    "flags": "flags",
}
_TIMES = frozenset({"time", "min_run_time"})
_TEXTS = frozenset({"description", "organization"})
_LISTS = frozenset({"qos", "preempts", "flags"})


def in_words(change: Change) -> str:
    """Return what a step does, such as ``account nlp: shares 10 -> 20``."""
    name = object_words(change.what)
    because = f" ({change.because})" if change.because else ""
    if change.verb == "remove":
        return f"remove {name}{because}"
    if change.verb == "create":
        parts = [f"{FIELDS[one.name]} {_value(one.name, one.after)}" for one in change.fields]
        return f"make {name}" + (f": {', '.join(parts)}" if parts else "") + because
    parts = [
        f"{FIELDS[one.name]} {_value(one.name, one.before)} -> {_value(one.name, one.after)}"
        for one in change.fields
    ]
    return f"{name}: {', '.join(parts)}{because}"


def object_words(what: ObjectId) -> str:
    """Return an object's name for people: ``user u1 in account nlp``."""
    kind, *names = what
    if kind == "qos":
        return f"QOS {names[0]}"
    if kind in {"user", "coordinator"}:
        where = "in account" if kind == "user" else "of account"
        return f"{kind} {names[1]} {where} {names[0]}"
    return f"account {names[0]}" if kind == "account" else f"the database's record of {names[0]}"


def _value(name: str, value: str) -> str:
    if name in _TIMES and value.isdigit():
        return format_duration(int(value))
    if name in _TEXTS:
        return f'"{value}"'
    return value.replace(",", "+") if name in _LISTS else value
