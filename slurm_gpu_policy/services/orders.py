"""What several rules want of one job, put together into one order that can be carried out.

Each rule decides alone and knows nothing of the others, so the actions on one job may overlap.
An action that loses is left out without a word: its rule decides anew in the next tick.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Literal

from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.model.tag import CONTROLLER, change_tag, read_tag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slurm_gpu_policy.model.action import Action
    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.job import Job, PriorityFactors
    from slurm_gpu_policy.model.snapshot import Snapshot


@record
class Order:
    """All that is to be done to one job, in this order: ``first``, ``changes``, ``last``.

    A requeue leaves the job held, so that it does not start before its changes are made; the
    release at the end lets it go.
    """

    job_id: JobId
    job: Job | None
    """The job as it was when this was decided; ``None`` for one that the snapshot lacks."""
    actions: tuple[Action, ...]
    first: Literal["", "hold", "requeue_held"] = ""
    changes: Mapping[str, str] = field(default_factory=dict)
    """As :meth:`SteerPort.modify` has them."""
    last: Literal["", "release", "cancel"] = ""
    words: str = ""
    """Written into the job's output before anything is changed."""

    @property
    def address(self) -> str:
        """What Slurm is to be told to change."""
        return str(self.job_id) if self.job is None else self.job.address

    @property
    def is_delicate(self) -> bool:
        """Whether doing it to a job that has changed since would do harm, or do it twice."""
        return bool(self.last or self.first == "requeue_held")


def put_together(actions: Sequence[Action], snapshot: Snapshot) -> tuple[Order, ...]:
    """Return one order for each job, what comes first in the queue first.

    A cancellation outweighs all else, a requeue all but that, a hold a release. Of two values for
    one field, or for one fact of the mark, the earlier action's counts. Orders that do more than
    change a job's place come before those that do not; then the highest priority that the job
    has, or is to have, comes first.
    """
    jobs = {job.job_id: job for job in snapshot.jobs}
    sites = {one.job_id: one for one in snapshot.priorities}
    by_job: dict[JobId, list[Action]] = {}
    for action in actions:
        by_job.setdefault(action.job_id, []).append(action)
    made = [order_for(jobs.get(job_id), wanted) for job_id, wanted in by_job.items()]
    made.sort(key=lambda order: _place(order, sites.get(order.job_id)))
    return tuple(made)


def order_for(job: Job | None, wanted: Sequence[Action]) -> Order:
    """Return the order for one job.

    Raises:
        ValueError: a fact that the job's mark cannot carry.
    """
    kept = _without_losers(wanted)
    changes: dict[str, str] = {}
    facts: dict[str, str] = {}
    for action in kept:
        changes.update(dict(action.changes))
        facts.update(dict(action.mark))
        if action.site_factor is not None:
            changes["site_factor"] = str(action.site_factor)
    if changes.get("priority") == "0":  # Slurm computes a priority anew with a site factor
        changes.pop("site_factor", None)
    comment = job.admin_comment if job is not None else ""
    before = read_tag(comment, CONTROLLER)
    if any(before.get(key, "") != value for key, value in facts.items()):
        changes["admin_comment"] = change_tag(comment, facts)
    verbs = {action.verb for action in kept}
    first: Literal["", "hold", "requeue_held"] = ""
    last: Literal["", "release", "cancel"] = ""
    if "cancel" in verbs:
        last = "cancel"
    elif "requeue" in verbs:
        first, last = "requeue_held", "release"
    elif "hold" in verbs:
        first = "hold"
    elif "release" in verbs:
        last = "release"
    words = "; ".join(action.reason for action in kept if action.verb == "notify")
    return Order(kept[0].job_id, job, tuple(kept), first, changes, last, words)


def _without_losers(wanted: Sequence[Action]) -> list[Action]:
    verbs = {action.verb for action in wanted}
    for verb in ("cancel", "requeue"):
        if verb in verbs:
            return [next(action for action in wanted if action.verb == verb)]
    kept: list[Action] = []
    taken: dict[tuple[str, str], str] = {}
    for action in wanted:
        if action.verb == "release" and "hold" in verbs:
            continue
        says = _fields(action)
        if any(taken.get(key, value) != value for key, value in says.items()):
            continue
        taken.update(says)
        kept.append(action)
    return kept


def _fields(action: Action) -> dict[tuple[str, str], str]:
    said = {("change", key): value for key, value in action.changes}
    said |= {("mark", key): value for key, value in action.mark}
    if action.site_factor is not None:
        said["change", "site_factor"] = str(action.site_factor)
    return said


def _place(order: Order, now: PriorityFactors | None) -> tuple[bool, int, int]:
    priority = order.job.priority if order.job is not None else 0
    after = priority
    if "site_factor" in order.changes and now is not None:
        after += int(order.changes["site_factor"]) - now.site
    only_place = not (order.first or order.last or order.changes.keys() - {"site_factor"})
    return (only_place, -max(priority, after), order.job_id)
