"""What would help a waiting job, with the points it gains and the place it leads to.

A predicted gain is the difference of two priorities by the same arithmetic, before and after.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy.explaining.alternatives import (
    other_partitions,
    other_qos,
    shorter,
    smaller,
    without_nice,
)
from slurm_gpu_policy.policy.explaining.estimating import estimated_start
from slurm_gpu_policy.policy.explaining.limit_reasons import read_limit_reason
from slurm_gpu_policy.policy.explaining.obstacles import blocking
from slurm_gpu_policy.policy.explaining.room import fits_now
from slurm_gpu_policy.policy.explaining.waiting import Place
from slurm_gpu_policy.policy.rules import level_of
from slurm_gpu_policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.job import Job
    from slurm_gpu_policy.model.snapshot import Snapshot
    from slurm_gpu_policy.policy.explaining.alternatives import Alternative
    from slurm_gpu_policy.policy.ordering import Standing as SitesOrder
    from slurm_gpu_policy.services.line import Line
    from slurm_gpu_policy.services.standing import Ranked

_COMPETES: Final = ("priority", "resources", "none", "reqnode", "nodes")
"""How Slurm's reasons begin, in lower case, for which a better place is worth something."""
_OF_PARTITION: Final = ("partition", "accountnotallowed", "qosnotallowed")
_WAITS: Final = ((3600, "wait another hour"), (86400, "wait another day"))
_LARGE: Final = 200_000
"""Nodes times waiting jobs from which on an estimate of who is ahead takes too long."""


@record
class Change:
    """Something that would help: points gained, and the place in the line after it."""

    what: str
    gain_points: int
    place: Place
    note: str = ""
    how: str = ""


class Changes:
    """The changes that would help *lead*'s job; *snapshot* has its owner's associations."""

    def __init__(self, line: Line, lead: Ranked, snapshot: Snapshot) -> None:
        self._line = line
        self._lead = lead
        self._job: Job = lead.job
        self._snapshot = snapshot
        self._here = line.place(lead.job, lead)
        self._ahead = line.ahead_of(lead)

    def all(self, policy: Policy, order: SitesOrder | None) -> Iterator[Change]:
        """Yield those that lead to a better place, or to room that the job has not as it is.

        *order* is the job's place in the site's own order, where it has one.
        """
        job, snapshot = self._job, self._snapshot
        reason = job.reason.strip().lower()
        limited = read_limit_reason(job.reason.strip())
        chosen = () if job.het_job_id else other_qos(job, snapshot, policy)
        if limited is not None:
            if limited.owner == "qos":
                for one in chosen:
                    yield self._change(one, "the limit that it waits for is not there")
        elif reason.startswith(_OF_PARTITION) and not job.het_job_id:
            for one in other_partitions(job, snapshot):
                yield self._change(one, "it takes such a job")
        elif blocking(job, snapshot):  # nobody's place helps against a reservation
            if not job.het_job_id:
                yield from self._apart()
                yield from self._sooner()
        elif reason.startswith(_COMPETES) or not reason:
            yield from self._better(chosen)
            yield from self._next_tick(policy, order)
            if not job.het_job_id:  # its parts are changed together or not at all
                yield from self._otherwise()
            yield from self._waits()

    def _otherwise(self) -> Iterator[Change]:
        yield from self._apart()
        yield from self._same_nodes()
        yield from self._better(without_nice(self._job))
        yield from self._sooner()

    def _sooner(self) -> Iterator[Change]:
        """Yield forms of the job for which there is room now."""
        for one in shorter(self._job, self._snapshot, self._needed_at()):
            yield self._change(one)
        for one in smaller(self._job, self._snapshot):
            yield self._change(one, "its age and site factor begin anew")

    def _change(self, one: Alternative, note: str = "") -> Change:
        after = self._line.best(one.job)
        return Change(
            one.what,
            after.terms.priority - self._lead.terms.priority,
            self._line.place(self._job, after),
            "; ".join(filter(None, (note, one.note))),
            one.how,
        )

    def _better(self, found: Iterable[Alternative]) -> Iterator[Change]:
        for one in found:
            change = self._change(one)
            if change.place.place < self._here.place:
                yield change

    def _nodes(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {one.name: set() for one in self._snapshot.partitions}
        for node in self._snapshot.nodes:
            for name in node.partitions:
                found.setdefault(name, set()).add(node.name)
        return found

    def _others(self, *, apart: bool) -> Iterator[Alternative]:
        """Yield the partitions that have no node of the job's, or that have some."""
        nodes = self._nodes()
        mine = set().union(*(nodes.get(name, ()) for name in self._job.partitions))
        for one in other_partitions(self._job, self._snapshot):
            if mine.isdisjoint(nodes[one.job.partitions[0]]) == apart:
                yield one

    def _apart(self) -> Iterator[Change]:
        """Yield partitions with room on other nodes, and nobody who waits for it."""
        for one in self._others(apart=True):
            change = self._change(one, "there is room for it now, and nobody ahead")
            if change.place.place == 1 and fits_now(one.job, self._snapshot.nodes):
                yield change

    def _same_nodes(self) -> Iterator[Change]:
        """Yield partitions from which it would go before somebody on the same nodes."""
        tiers = {one.name: one.priority_tier for one in self._snapshot.partitions}
        own = max((tiers.get(name, 1) for name in self._job.partitions), default=1)
        for one in self._others(apart=False):
            (name,) = one.job.partitions
            if tiers[name] > own:
                before = f"on the same nodes it goes before partition {self._lead.partition}"
                change = self._change(one, before)
                if self._ahead or change.place.place < change.place.of:
                    yield change
            elif tiers[name] == own and self._ahead:
                change = self._change(one, "on the same nodes")
                last = self._line.of(self._lead.partition)[len(self._ahead) - 1]
                rank = (-self._lead.terms.priority - change.gain_points, self._job.job_id)
                if rank < last:
                    yield change

    def _next_tick(self, policy: Policy, order: SitesOrder | None) -> Iterator[Change]:
        """Yield what the controller is going to do (rules P-601 to P-605)."""
        if order is None or self._lead.terms.direct or level_of(order.rule, policy) != "enforce":
            return
        gain = order.wanted_site - order.present_site
        if gain > 0:
            yield Change(
                "the next tick of gpu-policyd",
                gain,
                Place(self._here.partition, min(order.place, self._here.of), self._here.of),
                f"it gives the job site factor {order.wanted_site:+,}: {order.words} "
                f"(rule {order.rule})",
            )

    def _waits(self) -> Iterator[Change]:
        if not self._ahead or self._lead.terms.direct:
            return
        for seconds, what in _WAITS:
            change = self._wait(seconds, what, "the others' ages grow as well")
            if change.gain_points > 0:
                passes = change.place.place < self._here.place
                yield replace(change, note="") if passes else change
        until = self._until_past(self._ahead[-1])
        if until is not None:
            name = self._ahead[-1].display_id
            note = f"then it has passed job {name}, if nothing else changes"
            yield self._wait(until, f"wait {format_duration(until)}", note)

    def _wait(self, seconds: int, what: str, note: str) -> Change:
        at = self._line.time + seconds
        later = self._line.best(self._job, at, self._lead.partition)
        gain = later.terms.priority - self._lead.terms.priority
        return Change(what, gain, self._line.place(self._job, later, at), note)

    def _until_past(self, other: Job) -> int | None:
        """Return after how many seconds age alone takes the job past *other*, if ever.

        Both ages grow alike until PriorityMaxAge, so the gap closes only from when the other's
        is full until the job's own is, and does not widen before: it can be searched in halves.
        """

        def is_past(seconds: int) -> bool:
            at, partition = self._line.time + seconds, self._lead.partition
            mine = self._line.best(self._job, at, partition).terms.priority
            theirs = self._line.best(other, at, partition).terms.priority
            return (-mine, self._job.job_id) < (-theirs, other.job_id)

        low, high = 0, self._line.standings.settings.max_age_seconds
        if not is_past(high):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if is_past(middle) else (middle, high)
        return high

    def _needed_at(self) -> int | None:
        """Return when the room that the job could use is needed for others (Unix seconds)."""
        now = self._snapshot.time
        times = [one.start_time for one in blocking(self._job, self._snapshot)]
        times += [one.start_time for one in self._ahead]
        later = [one for one in times if one is not None and one > now]
        if not later and self._ahead:
            if len(self._line.jobs) * len(self._snapshot.nodes) > _LARGE:
                return None
            start = estimated_start(self._ahead[0], self._snapshot).start
            return start if start is not None and start > now else None
        return min(later, default=None)
