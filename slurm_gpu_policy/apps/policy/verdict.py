"""What ``gpu-policy approve`` and ``deny`` have in common."""

from __future__ import annotations

from typing import Any

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.terminal.text import print_json, say
from slurm_gpu_policy.units import counted


def cast_vote(request: str, job: str, reason: str, *, as_json: bool) -> None:
    """Send an approver's vote to the controller, and say what came of it."""
    policy = bootstrap.load_policy()
    answer = bootstrap.ask_controller(policy, {"request": request, "job": job, "reason": reason})
    if as_json:
        print_json(answer)
    else:
        say(vote_words(answer))


def vote_words(answer: dict[str, Any]) -> str:
    """Return what became of a job, in a sentence."""
    job, asks = answer["job_id"], answer["asks_for"]
    if answer["level"] != "enforce":
        return f"your word on job {job} is kept; the site enforces no approvals (V-901)"
    if answer["state"] == "approved":
        return f"job {job} ({asks}) is approved and let go"
    if answer["state"] == "denied":
        return f"job {job} ({asks}) is denied"
    needed = counted(answer["approvals_needed"], "approval")
    return f"job {job} ({asks}) has {answer['approvals']} of {needed}"
