"""The lines of ``gpu-policy explain`` on a job's place: priority, who is ahead, what would help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.terminal.text import when
from slurm_gpu_policy.units import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_gpu_policy.policy.attempts import Attempts
    from slurm_gpu_policy.services.changes import Change
    from slurm_gpu_policy.services.explain import Explanation
    from slurm_gpu_policy.services.prospects import Ahead, Prospects

_SOON = 50
"""Points by which Slurm may be behind without a word: ages grow between its calculations."""


def prospect_lines(found: Prospects) -> Iterator[tuple[str, list[str]]]:
    """Yield each label with its lines."""
    if not found.ranked:
        return
    if found.ahead is not None:
        yield "ahead", list(_ahead(found.ahead))
    lead, *others = found.ranked
    text = f"{lead.priority:,} in partition {lead.partition} with QOS {lead.qos}, made of:"
    slurms = max(one.priority for one in found.ranked) - lead.job.priority
    gap = f"Slurm's last calculation has {lead.job.priority:,}, the next will say this"
    yield (
        "priority",
        [
            text,
            *(f"  {one.text}" for one in found.terms),
            *(
                f"{one.priority:,} in partition {one.partition} with QOS {one.qos}"
                for one in others
            ),
            gap if abs(slurms) > _SOON else "",
            found.missing,
        ],
    )
    yield "would help", [_change(one) for one in found.changes]


def _ahead(ahead: Ahead) -> Iterator[str]:
    job = ahead.job
    yield f"job {job.display_id} of {job.user} (account {job.account}), {ahead.text}"
    noun = "stands" if ahead.count == 1 else "stand"
    asked = f"; all together they ask for {counted(ahead.gpus, 'GPU')}" if ahead.count > 1 else ""
    yield f"{counted(ahead.count, 'job')} {noun} ahead in partition {ahead.partition}{asked}"


def _change(one: Change) -> str:
    gain = f"{one.gain_points:+,} points" if one.gain_points else "no points"
    place = f", place {one.place.place} in partition {one.place.partition}"
    note = f"; {one.note}" if one.note else ""
    how = f" ({one.how})" if one.how else ""
    return f"{one.what}: {gain}{place}{note}{how}"


def approval_lines(found: Explanation, votes: list[dict[str, Any]] | None) -> Iterator[str]:
    """Yield what a held job's approval lacks, and the votes, where they are known."""
    approval = found.approval
    if approval is None:
        return
    yield f"{approval.asks_for}: {approval.state} (rule {approval.rule})"
    if approval.needed and approval.state == "pending":
        until = f", until {when(approval.expires)}" if approval.expires else ""
        yield f"needs {counted(approval.needed, 'approval')} of {approval.approvers}{until}"
    for vote in votes or ():
        yield f"{vote['approver']}: {vote['verdict']} ({vote['reason']})"


def attempt_lines(found: Attempts) -> Iterator[str]:
    """Yield the attempts in a sentence, and each run."""
    if not found.words:
        return
    later = f"; the next may begin {when(found.next_time)}" if found.next_time else ""
    yield found.words + later
    for one in found.runs:
        ended = f"{one.words} ({when(one.end_time)})" if one.words else one.state.value.lower()
        yield f"{one.number}: started {when(one.start_time)} on {one.nodes or '?'}: {ended}"
