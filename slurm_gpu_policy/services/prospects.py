"""A waiting job's prospects: what its priority is made of, who is ahead, what would help.

Everything is computed from one snapshot by the arithmetic that agrees with Slurm's
(services/standing.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy.explaining.share_words import ShareWords
from slurm_gpu_policy.policy.explaining.term_words import NAMES, decided_by, term_words
from slurm_gpu_policy.policy.ordering import standing
from slurm_gpu_policy.policy.pending import is_held, task_count
from slurm_gpu_policy.policy.priority_settings import read_settings
from slurm_gpu_policy.services.changes import Changes
from slurm_gpu_policy.services.line import Line

if TYPE_CHECKING:
    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.job import Job
    from slurm_gpu_policy.model.snapshot import Snapshot
    from slurm_gpu_policy.policy.explaining.share_words import Whose
    from slurm_gpu_policy.policy.explaining.term_words import TermWords
    from slurm_gpu_policy.policy.explaining.waiting import Place
    from slurm_gpu_policy.policy.ordering import Standing as SitesOrder
    from slurm_gpu_policy.services.changes import Change
    from slurm_gpu_policy.services.standing import Ranked


@record
class Ahead:
    """The job directly ahead in the line of ``partition``, and how many there are in all.

    ``difference`` is in points; ``decided_by`` is the term that gives most of it, as
    ``gpu-policy priority --json`` calls it, ``direct`` where a priority was set by hand, or
    ``job_id`` between equals.
    """

    job: Job
    partition: str
    priority: int
    difference: int
    decided_by: str
    text: str
    count: int
    gpus: int
    """GPUs that all those ahead ask for; the waiting tasks of an array all count."""


@record
class Prospects:
    """What there is to say about a waiting job's priority; ``missing`` says why there is less."""

    ranked: tuple[Ranked, ...] = ()
    """Each partition and QOS it may start in, the best first."""
    terms: tuple[TermWords, ...] = ()
    """Of the first of these."""
    places: tuple[Place, ...] = ()
    ahead: Ahead | None = None
    changes: tuple[Change, ...] = ()
    missing: str = ""


def prospects(job: Job, snapshot: Snapshot, policy: Policy, owners: Snapshot) -> Prospects:
    """Return the prospects of a pending *job* of *snapshot*.

    Needs :data:`~slurm_gpu_policy.services.standing.PRIORITY_PARTS` and reservations; *owners* is
    the same with the associations of the job's owner alone, and what they may use.

    Raises:
        SlurmRefused: Slurm shows a part of the account tree only.
    """
    settings = snapshot.config.settings if snapshot.config else {}
    if not read_settings(settings).multifactor:
        return Prospects(missing="this cluster has no priorities to explain (PriorityType)")
    line = Line(snapshot)
    if job.job_id not in line.jobs:
        why = "it is held" if is_held(job) else "it may not start yet"
        return Prospects(missing=f"{why}, so it has no place in the line")
    ranked = sorted(line.standings.of(job), key=lambda one: -one.terms.priority)
    if not ranked:
        return Prospects(missing="its partition does not exist any more")
    lead = ranked[0]
    order = standing(job.job_id, snapshot, policy)
    best = {one.partition: line.place(job, one) for one in reversed(ranked)}
    return Prospects(
        ranked=tuple(ranked),
        terms=_terms(line, lead, order),
        places=tuple(best[name] for name in job.partitions if name in best),
        ahead=_ahead(line, lead, order),
        changes=tuple(Changes(line, lead, owners).all(policy, order)),
        missing=hidden(snapshot),
    )


def _terms(line: Line, lead: Ranked, order: SitesOrder | None) -> tuple[TermWords, ...]:
    here = (lead.partition, lead.qos)
    standings = line.standings
    claim = next(
        one for one in standings.claims(lead.job) if (one.place.partition, one.place.qos) == here
    )
    more = {
        "fair_share": ShareWords(standings.shares).of(_whose(lead)),
        "site": "" if order is None else _order_words(order),
    }
    return term_words(claim, lead.terms, standings.settings, line.time, more)


def _ahead(line: Line, lead: Ranked, order: SitesOrder | None) -> Ahead | None:
    before = line.ahead_of(lead)
    if not before:
        return None
    other = line.best(before[-1], partition=lead.partition)
    difference = other.terms.priority - lead.terms.priority
    name, gap = decided_by(lead.terms, other.terms) if difference else ("", 0.0)
    text = (
        f"by {difference:,} points" if difference else "with the same priority and a lower number"
    )
    if name == "direct":
        text += ": a priority was set by hand"
    elif name:
        text += f", most of it {NAMES[name]} ({gap:+,.0f})"
        why = ""
        if name == "fair_share":
            why = ShareWords(line.standings.shares).against(_whose(lead), _whose(other))
        elif name == "site" and order is not None:
            why = f"the site's order (rule {order.rule})"
        text += f": {why}" if why else ""
    return Ahead(
        job=other.job,
        partition=lead.partition,
        priority=other.terms.priority,
        difference=difference,
        decided_by=name or "job_id",
        text=text,
        count=len(before),
        gpus=sum(one.gpus * task_count(one) for one in before),
    )


def _whose(found: Ranked) -> Whose:
    return (found.job.account, found.job.user, found.partition)


def _order_words(order: SitesOrder) -> str:
    """Return why the controller gives a site factor: the order, and the terms that count."""
    given = [
        f"{term.name} {term.points:+,} ({term.reason}, rule {term.rule})"
        for term in order.terms
        if term.points
    ]
    said = "; ".join([f"{order.words} (rule {order.rule})", *given])
    if order.wanted_site != order.present_site:
        return f"{said}; it should be {order.wanted_site:+,}"
    return said


def hidden(snapshot: Snapshot) -> str:
    """Say so where the line may be longer than what Slurm shows the caller."""
    private = snapshot.config.settings.get("PrivateData", "") if snapshot.config else ""
    users = {one.user for one in snapshot.jobs}
    if "jobs" in private.split(",") and len(users) == 1:
        return "Slurm hides other people's jobs (PrivateData), so more may stand ahead"
    return ""
