"""What ``gpu-policy explain --json`` prints."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.apps.policy.priority import ranked_json
from slurm_gpu_policy.apps.policy.queue import entry_json
from slurm_gpu_policy.services.queue import Entry
from slurm_gpu_policy.terminal.text import iso

if TYPE_CHECKING:
    from slurm_gpu_policy.model.job import AccountingRecord, Job, JobDetail
    from slurm_gpu_policy.policy.attempts import Attempts
    from slurm_gpu_policy.policy.explaining.approval_words import Approval
    from slurm_gpu_policy.services.explain import Explanation
    from slurm_gpu_policy.services.prospects import Ahead, Prospects

_MEMORY = re.compile(r"(?:^|,)mem=(\d+(?:\.\d+)?)([KMGTP]?)", re.ASCII)
_MEBIBYTES = {"K": 1 / 1024, "": 1.0, "M": 1.0, "G": 1024.0, "T": 1024.0**2, "P": 1024.0**3}


def explanation_json(found: Explanation, votes: list[dict[str, Any]] | None) -> dict[str, Any]:
    """Return the documented JSON object; scripts rely on it. *votes* are the controller's."""
    if found.job is None:
        return _record_json(found)
    job, detail = found.job, found.detail
    held = detail.allocations if detail else ()
    started = None if job.state.is_pending else job.start_time
    return {
        **entry_json(Entry(job, found.words, held)),
        "estimated_start": iso(found.estimated_start),
        "source": "memory",
        "advice": found.words.advice,
        "facts": list(found.words.facts),
        "qos": job.qos,
        "cpus": job.cpus,
        "memory_mb": asked_memory_mb(job, detail),
        "time_limit_seconds": job.time_limit_seconds,
        "elapsed_seconds": job.elapsed_seconds,
        "priority": job.priority,
        "places": [
            {"partition": place.partition, "place": place.place, "of": place.of}
            for place in found.places
        ],
        "eligible_time": iso(job.eligible_time),
        "start_time": iso(started),
        "end_time": iso(job.end_time if job.state.is_over else None),
        "exit_code": detail.exit_code if detail and job.state.is_over else None,
        "exit_signal": detail.exit_signal if detail and job.state.is_over else None,
        "ending": found.ending,
        "restarts": detail.restarts if detail else None,
        "dependency": job.dependency,
        "reservation": job.reservation,
        "work_dir": detail.work_dir if detail else None,
        "std_out": detail.std_out if detail else None,
        "std_err": detail.std_err if detail else None,
        "tasks": [
            {"job_id": one.job_id, "display_id": one.display_id, "state": one.state.value}
            for one in found.group
        ],
        "runs": [],
        **_prospects_json(found.prospects),
        "estimated_start_source": found.start_source,
        "approval": None if found.approval is None else _approval_json(found.approval, votes),
        **_attempts_json(found.attempts),
    }


def _record_json(found: Explanation) -> dict[str, Any]:
    record = found.records[-1]
    gpus, gpu_type = record_gpus(record)
    return {
        "job_id": record.job_id,
        "display_id": record.display_id,
        "name": record.name,
        "user": record.user,
        "account": record.account,
        "partition": record.partition,
        "state": record.state.value,
        "reason": "",
        "reason_text": "",
        "gpus": gpus,
        "gpu_type": gpu_type,
        "nodes": [],
        "gpu_indexes": {},
        "submit_time": iso(record.submit_time),
        "estimated_start": None,
        "source": "accounting",
        "advice": "",
        "facts": [],
        "qos": record.qos,
        "cpus": record.allocated_tres.get("cpu"),
        "memory_mb": record.allocated_tres.get("mem"),
        "time_limit_seconds": record.time_limit_seconds,
        "elapsed_seconds": record.elapsed_seconds,
        "priority": None,
        "places": [],
        "eligible_time": iso(record.eligible_time),
        "start_time": iso(record.start_time),
        "end_time": iso(record.end_time),
        "exit_code": record.exit_code,
        "exit_signal": record.exit_signal,
        "ending": found.ending,
        "restarts": record.restarts,
        "dependency": "",
        "reservation": "",
        "work_dir": None,
        "std_out": None,
        "std_err": None,
        "tasks": [],
        "runs": [
            {
                "job_id": one.job_id,
                "display_id": one.display_id,
                "state": one.state.value,
                "start_time": iso(one.start_time),
                "end_time": iso(one.end_time),
                "elapsed_seconds": one.elapsed_seconds,
                "exit_code": one.exit_code,
                "exit_signal": one.exit_signal,
                "node_list": one.node_list,
            }
            for one in found.records
        ],
        **_prospects_json(found.prospects),
        "estimated_start_source": None,
        "approval": None,
        **_attempts_json(found.attempts),
    }


def _prospects_json(found: Prospects) -> dict[str, Any]:
    return {
        "priority_terms": [ranked_json(one) for one in found.ranked],
        "priority_words": [one.text for one in found.terms],
        "priority_missing": found.missing,
        "ahead": None if found.ahead is None else _ahead_json(found.ahead),
        "changes": [
            {
                "what": one.what,
                "gain_points": one.gain_points,
                "place": one.place.place,
                "partition": one.place.partition,
                "note": one.note,
                "how": one.how,
            }
            for one in found.changes
        ],
    }


def _ahead_json(ahead: Ahead) -> dict[str, Any]:
    return {
        "job_id": ahead.job.job_id,
        "display_id": ahead.job.display_id,
        "user": ahead.job.user,
        "account": ahead.job.account,
        "partition": ahead.partition,
        "priority": ahead.priority,
        "difference": ahead.difference,
        "decided_by": ahead.decided_by,
        "text": ahead.text,
        "count": ahead.count,
        "gpus": ahead.gpus,
    }


def _approval_json(approval: Approval, votes: list[dict[str, Any]] | None) -> dict[str, Any]:
    return {
        "state": approval.state,
        "rule": approval.rule,
        "asks_for": approval.asks_for,
        "approvals_needed": approval.needed,
        "approvers": approval.approvers,
        "expires": iso(approval.expires),
        "votes": None if votes is None else [{**one, "time": iso(one["time"])} for one in votes],
    }


def _attempts_json(found: Attempts) -> dict[str, Any]:
    return {
        "attempts": [
            {
                "number": one.number,
                "start_time": iso(one.start_time),
                "end_time": iso(one.end_time),
                "nodes": one.nodes,
                "state": one.state.value,
                "words": one.words,
            }
            for one in found.runs
        ],
        "retries": {
            "made": found.made,
            "allowed": found.allowed,
            "next_time": iso(found.next_time),
            "words": found.words,
        },
    }


def asked_memory_mb(job: Job, detail: JobDetail | None) -> int | None:
    """Return the memory a job has or asks for in MiB; ``None`` where Slurm does not say."""
    if job.memory_mb:
        return job.memory_mb
    match = _MEMORY.search(detail.requested_tres) if detail else None
    return round(float(match[1]) * _MEBIBYTES[match[2]]) if match else None


def record_gpus(record: AccountingRecord) -> tuple[int, str]:
    """Return the GPUs a run had, and their type where it had one only."""
    kinds = [
        name.removeprefix("gres/gpu:")
        for name, count in record.allocated_tres.items()
        if name.startswith("gres/gpu:") and count
    ]
    counts = [n for name, n in record.allocated_tres.items() if name.startswith("gres/gpu:")]
    total = record.allocated_tres.get("gres/gpu", sum(counts))
    return total, kinds[0] if len(kinds) == 1 else ""
