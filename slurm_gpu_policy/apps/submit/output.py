"""What ``gpu-submit`` says: in words for people, in JSON for scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.terminal.text import iso, safe
from slurm_gpu_policy.units import format_duration, format_money

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from slurm_gpu_policy.model.decision import Decision, Reason


def as_json(decision: Decision, job_id: int | None, start: int | None) -> str:
    """Return the one line of JSON for a job (docs/cli.md has its form)."""
    import json  # noqa: PLC0415 - only who asks for JSON pays for it

    document: dict[str, Any] = {
        "job_id": job_id,
        "decision": decision.kind,
        "reasons": [
            {
                "rule": reason.rule,
                "message": reason.message,
                "value": reason.value,
                "limit": reason.limit,
                "remedy": reason.remedy,
            }
            for reason in decision.reasons
        ],
        "gpus": decision.gpus,
        "gpu_type": decision.gpu_type,
        "partition": decision.partition,
        "account": decision.account,
        "estimated_cost": {
            "amount": format_money(decision.cost_micros or 0),
            "currency": decision.currency,
        },
        "estimated_start": iso(start),
        "qos": decision.qos,
        "nodes": decision.nodes,
        "time_limit_seconds": decision.time_seconds,
        "array_tasks": decision.tasks,
    }
    return json.dumps(document)


def place(decision: Decision) -> str:
    """Return where a job goes, in one line: ``4 x h100, partition gpu, account nlp``."""
    what = f"{decision.gpus} x {decision.gpu_type}" if decision.gpus else "no GPU"
    parts = [what]
    if decision.nodes > 1:
        parts[0] += f" on {decision.nodes} nodes"
    if decision.tasks > 1:
        parts[0] += f" in each of {decision.tasks} tasks"
    if decision.cpus:
        parts.append(f"{decision.cpus} CPUs")
    parts.append(f"partition {decision.partition}")
    if decision.account:
        parts.append(f"account {decision.account}")
    if decision.qos:
        parts.append(f"QOS {decision.qos}")
    if decision.time_seconds:
        parts.append(f"up to {format_duration(decision.time_seconds)}")
    if decision.cost_micros is not None:
        parts.append(f"at most {format_money(decision.cost_micros)} {decision.currency}")
    return safe(", ".join(parts))


def reason_lines(reasons: Iterable[Reason]) -> Iterator[str]:
    """Yield each reason with its rule, and below it what would pass."""
    for reason in reasons:
        yield f"  {reason.rule}  {safe(reason.message)}"
        if reason.remedy:
            yield f"         what would pass: {safe(reason.remedy)}"


def explanation(decision: Decision, start: int | None) -> Iterator[str]:
    """Yield the whole decision for ``--explain``."""
    words = {"admit": "admitted", "hold": "held for approval", "refuse": "refused"}
    yield f"decision: {words[decision.kind]}"
    if decision.partition:
        yield f"job:      {place(decision)}"
    if decision.kind == "hold":
        yield "start:    not before it is approved"
    elif decision.kind == "admit":
        yield f"start:    {iso(start) or 'Slurm has no estimate yet'}"
    yield "reasons:"
    yield from reason_lines(decision.reasons)
