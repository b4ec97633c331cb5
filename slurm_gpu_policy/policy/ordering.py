"""Who goes first, as site factors (rules P-601 to P-605).

Two ways lead from an order to site factors. Where Slurm's own order stays (``slurm``, and within
the classes of ``priority``), the site factor is the sum of the terms, and of the class's band.
Where the site has an order of its own (``fcfs``, ``sjf``, ``fair_share``), the head of the line
gets labels that outweigh all that Slurm adds (policy/line.py). Either way a job whose site factor
is right is not touched, and a decision on an unchanged queue changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.model.action import Action
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.holes import fills
from slurm_gpu_policy.policy.line import MOST_NICE, MOST_SITE, labels, room_above
from slurm_gpu_policy.policy.pending import controller_mark, points
from slurm_gpu_policy.policy.priority_class import RANKS, priority_class
from slurm_gpu_policy.policy.rules import level_of
from slurm_gpu_policy.policy.run_times import NONE_YET, RunTimes
from slurm_gpu_policy.policy.scoring import (
    Contender,
    base_spread,
    contenders,
    gpus_ahead,
    in_order,
    scores,
    share_factors,
)
from slurm_gpu_policy.policy.terms import (
    NOTHING_MEASURED,
    TERM_RULES,
    TERMS,
    Measured,
    Surroundings,
    Term,
    terms,
)
from slurm_gpu_policy.units import counted, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from slurm_gpu_policy.config.ordering import Ordering
    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.job import Job
    from slurm_gpu_policy.model.snapshot import Snapshot

RULES: Final[Mapping[str, str]] = {
    "slurm": rules.ORDER_SLURM,
    "priority": rules.ORDER_PRIORITY,
    "fcfs": rules.ORDER_FCFS,
    "sjf": rules.ORDER_SJF,
    "fair_share": rules.ORDER_FAIR_SHARE,
}
_RANKED: Final = frozenset({"fcfs", "sjf", "fair_share"})
_LEVELS: Final = ("observe", "advise", "enforce")
MOST_KEPT: Final = 1_000_000
"""Points of age that a job can keep over a retry."""
KEPT_RULE: Final = rules.RETRY_PLACE
_KEPT_WORDS: Final = "it had waited for its place before it was started again"


@record
class Standing:
    """Where a pending job stands in the site's order, and why."""

    rule: str
    place: int
    """1 is the first."""
    waiting: int
    """How many jobs compete."""
    words: str
    """What its place comes from, without the terms."""
    terms: tuple[Term, ...]
    present_site: int
    wanted_site: int


@record
class _Line:
    """All jobs that compete, first to last, with the site factors they should have."""

    waiting: tuple[Contender, ...]
    around: Surroundings
    sites: Mapping[JobId, int]
    """A job that is absent should have none."""
    leaders: Mapping[JobId, Job]
    """The first parts of heterogeneous jobs: the other parts go with them."""

    def leader(self, job: Job) -> Job:
        """Return the part that decides for *job*: itself, as a rule."""
        return self.leaders.get(job.het_job_id or job.job_id, job)


def site_factors(
    snapshot: Snapshot,
    policy: Policy,
    known: RunTimes = NONE_YET,
    measured: Measured = NOTHING_MEASURED,
) -> tuple[Action, ...]:
    """Return the site factors that have to change, the head of the line first.

    Needs jobs, nodes, associations with their shares, priorities and the controller's settings.
    Where the policy file has no ``ordering``, only what a retry keeps (T-804) is given back.
    """
    ordering = policy.ordering
    if ordering is None:
        return tuple(_kept_places(snapshot))
    line = _lined_up(snapshot, policy, _surroundings(snapshot, ordering, known, measured))
    rule = RULES[ordering.kind]
    words = _Words(line, snapshot)
    return tuple(
        Action(
            verb="site_factor",
            job_id=one.job.job_id,
            display_id=one.job.display_id,
            rule=rule,
            reason=words.sentence(one.job, place),
            before=f"site factor {one.site}",
            after=f"site factor {wanted}",
            user=one.job.user,
            site_factor=wanted,
        )
        for place, one in enumerate(line.waiting, 1)
        if (wanted := line.sites.get(one.job.job_id, 0)) != one.site
    )


def standing(
    job_id: JobId,
    snapshot: Snapshot,
    policy: Policy,
    known: RunTimes = NONE_YET,
    measured: Measured = NOTHING_MEASURED,
) -> Standing | None:
    """Return where a job stands; ``None`` where it does not compete, or nothing is ordered."""
    ordering = policy.ordering
    if ordering is None:
        return None
    line = _lined_up(snapshot, policy, _surroundings(snapshot, ordering, known, measured))
    for place, one in enumerate(line.waiting, 1):
        if one.job.job_id == job_id:
            return Standing(
                rule=RULES[ordering.kind],
                place=place,
                waiting=len(line.waiting),
                words=_Words(line, snapshot).place(one.job, place),
                terms=_terms(line.leader(one.job), line.around),
                present_site=one.site,
                wanted_site=line.sites.get(job_id, 0),
            )
    return None


def _kept_places(snapshot: Snapshot) -> Iterator[Action]:
    """Rule T-804 where nothing else is ordered; a site factor that somebody has set stays."""
    for one in contenders(snapshot):
        job, kept = one.job, _kept(one.job)
        if kept and not one.site:
            yield Action(
                verb="site_factor",
                job_id=job.job_id,
                display_id=job.display_id,
                rule=KEPT_RULE,
                reason=f"{_KEPT_WORDS}: {kept} points of age",
                before="site factor 0",
                after=f"site factor {kept}",
                user=job.user,
                site_factor=kept,
            )


def _kept(job: Job) -> int:
    """Return the points of age that *job* had before it was started again."""
    if not job.restarts:
        return 0
    return min(points(controller_mark(job), "kept") or 0, MOST_KEPT)


def _surroundings(
    snapshot: Snapshot, ordering: Ordering, known: RunTimes, measured: Measured
) -> Surroundings:
    parents = {item.account: item.parent for item in snapshot.associations if not item.user}
    return Surroundings(snapshot.time, ordering, known, measured, parents)


def _lined_up(snapshot: Snapshot, policy: Policy, around: Surroundings) -> _Line:
    ordering = around.ordering
    waiting = contenders(snapshot)
    leaders = {one.job.job_id: one.job for one in waiting if one.job.job_id == one.job.het_job_id}
    if ordering.terms.entry_penalty.weight:
        ahead = gpus_ahead(snapshot.jobs, [one.job for one in waiting])
        around = replace(around, ahead=ahead)
    totals = _totals(waiting, leaders, around, policy)
    line = in_order(waiting, scores(waiting, totals, around, snapshot))
    if ordering.terms.fragmentation.weight:
        first = line if ordering.kind in _RANKED else _without_drift(waiting, ordering)
        filled = fills((one.job for one in first), snapshot.nodes)
        around = replace(around, fills=filled)
        some = [one for one in line if one.job.job_id in filled]
        totals = {**totals, **_totals(some, leaders, around, policy)}
        line = in_order(waiting, scores(waiting, totals, around, snapshot))
    spread = base_spread(snapshot)
    if ordering.kind in _RANKED:
        sites = _labelled(line, ordering.depth, spread)
    else:
        sites = _added(line, totals, leaders, ordering, spread)
    return _Line(tuple(line), around, sites, leaders)


def _without_drift(waiting: list[Contender], ordering: Ordering) -> list[Contender]:
    """Return the jobs by class and first submission: what Slurm adds moves all the time."""
    classed = ordering.kind == "priority"
    return in_order(
        waiting,
        {
            one.job.job_id: RANKS[priority_class(one.job, ordering.classes)[0]] if classed else 0
            for one in waiting
        },
    )


def _totals(
    waiting: list[Contender], leaders: Mapping[JobId, Job], around: Surroundings, policy: Policy
) -> dict[JobId, int]:
    """Return the points of each job's terms together; jobs without any are left out.

    A term whose rule goes less far than the ordering's counts nothing: with ``P-615: observe`` it
    is shown and no more.
    """
    level = _LEVELS.index(level_of(RULES[around.ordering.kind], policy))
    counts = {
        rule: _LEVELS.index(level_of(rule, policy)) >= level for rule in (*TERM_RULES, KEPT_RULE)
    }
    totals = {}
    for one in waiting:
        job = leaders.get(one.job.het_job_id, one.job) if one.job.het_job_id else one.job
        total = sum(term.points for term in _terms(job, around) if counts[term.rule])
        if total:
            totals[one.job.job_id] = total
    return totals


def _terms(job: Job, around: Surroundings) -> tuple[Term, ...]:
    """Return the terms of a job; where Slurm's own age counts, also what a retry kept of it."""
    found = terms(job, around)
    if around.ordering.kind not in _RANKED and (kept := _kept(job)):
        found = (*found, Term(KEPT_RULE, "kept place", kept, MOST_KEPT, _KEPT_WORDS))
    return found


def _labelled(line: list[Contender], depth: int, spread: int) -> dict[JobId, int]:
    """Return site factors that put the head of the line in its order; the rest is left out.

    A label makes up for nice, which has counted in the score. Slurm's limits leave no room for
    that where nice is huge: such a job stands where its user, or an operator, has put it. The
    parts of a heterogeneous job have one site factor, for scontrol sets that of all of them.
    """
    groups: dict[JobId, list[Contender]] = {}
    for one in line:
        groups.setdefault(one.job.het_job_id or one.job.job_id, []).append(one)
    room = room_above(spread, spread)
    able = [parts for parts in groups.values() if abs(parts[0].job.nice) <= MOST_NICE]
    head = able[: min(depth, room.places)]
    present = [one.site - one.job.nice if one.site else None for one, *_ in head]
    return {
        part.job.job_id: label + parts[0].job.nice
        for parts, label in zip(head, labels(present, room), strict=True)
        for part in parts
    }


def _added(
    line: list[Contender],
    totals: Mapping[JobId, int],
    leaders: Mapping[JobId, Job],
    ordering: Ordering,
    spread: int,
) -> dict[JobId, int]:
    """Return the sums of the terms; with classes, each in a band wider than all within it."""
    sums = {one.job.job_id: totals.get(one.job.job_id, 0) for one in line}
    if ordering.kind == "priority":
        most = sum(getattr(ordering.terms, name).weight for name in TERMS)
        wanted = spread + 2 * most + MOST_KEPT + 1
        band = min(wanted, (MOST_SITE - 2 * most - MOST_KEPT) // len(RANKS))
        for one in line:
            job = leaders.get(one.job.het_job_id, one.job) if one.job.het_job_id else one.job
            name, _ = priority_class(job, ordering.classes)
            sums[one.job.job_id] += RANKS[name] * band + most
    return sums


class _Words:
    """Sentences on a job's place, for its owner."""

    def __init__(self, line: _Line, snapshot: Snapshot) -> None:
        self._line = line
        self._ordering = line.around.ordering
        self._share = share_factors(snapshot) if self._ordering.kind == "fair_share" else None

    def place(self, job: Job, place: int) -> str:
        """Return what the job's place comes from, without the terms."""
        ordering = self._ordering
        if ordering.kind == "slurm":
            return "Slurm's own order"
        if ordering.kind == "priority":
            name, why = priority_class(self._line.leader(job), ordering.classes)
            return f"priority class {name}: {why}"
        if abs(job.nice) > MOST_NICE:
            return f"where its nice of {job.nice} puts it"
        if job.job_id not in self._line.sites:
            return "behind those that have a place in the line, in Slurm's own order"
        why = "first come, first served"
        if ordering.kind == "sjf":
            found = self._line.around.run_time(job)
            long = "no time limit" if found.seconds is None else format_duration(found.seconds)
            why = f"shortest job first, {long} ({found.words})"
        elif self._share is not None:
            why = f"fair share {self._share(job):.2f}, taking turns with other users"
        return f"place {place} of {counted(len(self._line.waiting), 'job')}: {why}"

    def sentence(self, job: Job, place: int) -> str:
        """Return what the job's place comes from, and the terms that give or take points."""
        given = (
            f"{term.name} {term.points:+d} ({term.reason})"
            for term in _terms(self._line.leader(job), self._line.around)
            if term.points
        )
        return "; ".join((self.place(job, place), *given))
