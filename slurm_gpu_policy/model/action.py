"""What a controller wants done to a job, what became of it, and who the controller is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from slurm_gpu_policy.model.record import record

if TYPE_CHECKING:
    from slurm_gpu_policy.model.ids import JobId

Verb = Literal["site_factor", "modify", "hold", "release", "requeue", "cancel", "notify"]
"""``notify`` writes the reason into a running job's output."""
Level = Literal["observe", "advise", "enforce"]


@record
class Action:
    """One change of one job, wanted by one rule.

    ``before`` and ``after`` are what the rule looks at, as short texts (``qos normal``), for the
    audit log and for people. ``reason`` is a sentence for the job's owner.
    """

    verb: Verb
    job_id: JobId
    display_id: str
    rule: str
    reason: str
    before: str
    after: str
    user: str = ""
    """The job's owner."""
    changes: tuple[tuple[str, str], ...] = ()
    """With ``modify`` and ``requeue``: fields of the job, as :meth:`SteerPort.modify` has them."""
    mark: tuple[tuple[str, str], ...] = ()
    """Facts for the controller's mark in the admin comment; an empty value takes one out."""
    site_factor: int | None = None
    """With ``site_factor``: the value to set."""


Outcome = Literal["done", "refused", "failed", "unknown", "skipped"]


@record
class AuditEntry:
    """One line of the audit log: who did what, by which rule, and what came of it.

    An entry is written before its action begins, with ``outcome`` empty, and completed after.
    ``skipped`` is what the level of enforcement or ``--dry-run`` left undone.
    """

    entry_id: int
    time: int
    """Unix seconds when it began."""
    actor: str
    """``gpu-policyd@HOST``, or the user who asked for it."""
    action: Action
    level: Level
    outcome: Outcome | Literal[""] = ""
    words: str = ""
    """Slurm's own words, where it refused."""
    finished: int | None = None


@record
class Vote:
    """One approver's word on one held job; the latest of each approver counts."""

    job_id: JobId
    submit_time: int
    approver: str
    verdict: Literal["approve", "deny"]
    reason: str
    time: int


@record
class Lease:
    """Who leads, and how often that has been taken or renewed in all."""

    holder: str = ""
    renewals: int = 0
