"""Waiting jobs that their budget does not cover: held, or on idle GPUs (rules B-006, B-007).

Whether a job is covered is the ledger's word: its cost is set aside for it, or it is not. What we
did to a job stands in its mark: ``money=held``, or ``money=qos`` with ``money_home``, the QOS that
it came with. Only that is ever undone. Each step leaves a state from which the next tick goes on:

* A hold is one change with its mark, so no hold of ours is without one. The mark stays through
  the release and goes in the tick after: a job that is not held, or that its owner holds, has
  nothing of ours to be undone.
* job_submit.lua holds what it doubts, with ``money=hold``; to Slurm that is its owner's hold. It
  is let go, or made an operator's with ``money=held``.
* A job that waits for an approval stays as it is. When its approval comes, and the budget does
  not cover it, it stays held with ``money=held`` (policy/approval.py).
* Jobs in the over-budget QOS run on idle GPUs and need no cover. One that we moved there comes
  home once what is left covers its cost there; what waits longest comes first, and what comes
  home counts against what is left for the others.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from slurm_gpu_policy.model.action import Action
from slurm_gpu_policy.model.prices import Cost
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.approval import is_held_by_operator
from slurm_gpu_policy.policy.ledger.budget import Funds
from slurm_gpu_policy.policy.ledger.qos_rights import QosRights
from slurm_gpu_policy.policy.pending import (
    age_order,
    controller_mark,
    is_held,
    task_count,
)
from slurm_gpu_policy.policy.prices.pricing import cost
from slurm_gpu_policy.policy.prices.tariffs import price_book
from slurm_gpu_policy.policy.prices.usage_of import use_of_job

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.job import Job
    from slurm_gpu_policy.model.ledger import LedgerState
    from slurm_gpu_policy.model.snapshot import Snapshot

HELD: Final = "held"
ASKED: Final = "hold"
MOVED: Final = "qos"
_MARKABLE: Final = r"[A-Za-z0-9_.:-]+"
_WAITS_FOR_APPROVAL: Final = frozenset({"pending", "denied", "expired"})
_NEVER: Final = "DependencyNeverSatisfied"
_UNLIMITED_SECONDS: Final = 3600
"""Counted for a job without a time limit, as in policy/charging.py."""

Wish = Literal["", "hold", "qos"]
Changes = tuple[tuple[str, str], ...]


def over_budget_qos(policy: Policy) -> str:
    """Return the QOS of those who have spent their budget as Slurm has it; ``""`` for none."""
    return (policy.submission.over_budget_qos or "").lower()


def money_mark(job: Job) -> str:
    """Return what we did to a job for its budget: ``held``, ``qos``, or ``""``."""
    return controller_mark(job).get("money", "") if "money=" in job.admin_comment else ""


def cover(snapshot: Snapshot, policy: Policy, state: LedgerState) -> tuple[Action, ...]:
    """Return what becomes of the waiting jobs, by what the ledger covers.

    Needs jobs, associations and partitions.
    """
    if not state.uncovered and not any("money=" in job.admin_comment for job in snapshot.jobs):
        return ()
    return tuple(_Round(snapshot, policy, state).actions())


@record
class _Whole:
    """A job, or all parts of a heterogeneous one, which go together."""

    parts: tuple[Job, ...]
    words: str | None
    """Why it is not covered; ``None`` for one that is."""

    @property
    def job(self) -> Job:
        """What stands for the whole."""
        return self.parts[0]


class _Round:
    """One decision."""

    def __init__(self, snapshot: Snapshot, policy: Policy, state: LedgerState) -> None:
        self._snapshot = snapshot
        self._now = snapshot.time
        self._soon = snapshot.time + 2 * policy.controller.tick
        self._uncovered = state.uncovered
        self._way = policy.ledger.when_spent
        self._qos = over_budget_qos(policy)
        self._rights = QosRights(snapshot)
        self._book = price_book(policy)
        self._minimum = policy.pricing.minimum_charge if policy.pricing else 0
        self._funds = Funds((view.fund for view in state.views), state.parents)

    def actions(self) -> Iterator[Action]:
        """Yield what is to be done; the oldest job first, as the ledger covers them."""
        for whole in self._wholes():
            if whole.job.state.is_pending:
                yield from self._waiting(whole)
            elif whole.job.state.is_active and money_mark(whole.job) in {HELD, ASKED}:
                yield self._change(whole.job, rules.BUDGET_HOLD, "it was covered", (), _FORGOTTEN)

    def _wholes(self) -> list[_Whole]:
        """Return the jobs that are uncovered, or that we have done something to."""
        groups: dict[JobId, list[Job]] = {}
        for job in self._snapshot.jobs:
            if job.het_job_id is not None:
                groups.setdefault(job.het_job_id, []).append(job)
            elif job.job_id in self._uncovered or money_mark(job):
                groups[job.job_id] = [job]
        found = []
        for jobs in groups.values():
            parts = tuple(sorted(jobs, key=lambda job: job.job_id))
            why = (self._uncovered.get(job.job_id) for job in parts)
            words = next((text for text in why if text is not None), None)
            if words is not None or any(map(money_mark, parts)):
                found.append(_Whole(parts, words))
        return sorted(found, key=lambda whole: age_order(whole.job))

    def _waiting(self, whole: _Whole) -> Iterator[Action]:
        job = whole.job
        wish, ours = self._wish(whole), money_mark(job)
        if ours == ASKED and is_held(job):
            yield from self._asked(whole, wish)
        elif ours == HELD and is_held(job):
            yield from self._held(whole, wish)
        elif ours == MOVED and job.qos == self._qos:
            yield from self._moved(whole)
        elif wish == "hold" and self._may_start(job):
            yield self._hold(whole)
        elif wish == "qos" and job.qos != self._qos and self._may_start(job):
            yield self._move(whole)
        elif ours == HELD and job.qos == self._qos and "money_home" in controller_mark(job):
            yield self._change(job, rules.BUDGET_QOS, "it was held, and may run on idle GPUs now",
                               (), (("money", MOVED),))  # fmt: skip
        elif ours:
            rule = rules.BUDGET_QOS if ours == MOVED else rules.BUDGET_HOLD
            yield self._change(job, rule, "nothing of ours is left to undo", (), _FORGOTTEN)

    def _wish(self, whole: _Whole) -> Wish:
        """Return what the site wants of a job that is not covered."""
        if whole.words is None or self._way == "nothing":
            return ""
        if self._way == "qos" and self._qos and self._rights.allow(whole.job, self._qos):
            return "qos"
        return "hold"

    def _may_start(self, job: Job) -> bool:
        """Whether Slurm could start it before two ticks are over."""
        if is_held(job) or job.reason == _NEVER:
            return False
        return job.eligible_time is None or job.eligible_time <= self._soon

    def _asked(self, whole: _Whole, wish: Wish) -> Iterator[Action]:
        """Rule B-006: see to a job that job_submit.lua held."""
        job = whole.job
        if wish:
            yield self._hold(whole)
        elif controller_mark(job).get("approval", "") in _WAITS_FOR_APPROVAL:
            yield self._change(job, rules.BUDGET_HOLD, "an approval is missing", (), _FORGOTTEN)
        else:
            yield self._release(job, (("money", HELD),))

    def _held(self, whole: _Whole, wish: Wish) -> Iterator[Action]:
        """Rule B-006: see to a job with our mark that is held."""
        job = whole.job
        waits = controller_mark(job).get("approval", "") in _WAITS_FOR_APPROVAL
        if waits or not is_held_by_operator(job):  # the hold is somebody else's
            if wish != "hold":
                yield self._change(job, rules.BUDGET_HOLD, "somebody else holds it", (), _FORGOTTEN)
        elif wish == "qos" and job.qos != self._qos:
            yield self._change(job, rules.BUDGET_QOS, self._why_moved(whole),
                               (("qos", self._qos),), self._home(job))  # fmt: skip
        elif wish != "hold":
            yield self._release(job)

    def _release(self, job: Job, mark: Changes = ()) -> Action:
        """Rule B-006: let a job go."""
        return self._action("release", job, rules.BUDGET_HOLD, "its budget covers it now",
                            before="held", after="released", mark=mark)  # fmt: skip

    def _hold(self, whole: _Whole) -> Action:
        """Rule B-006: keep a job from starting."""
        return self._change(
            whole.job,
            rules.BUDGET_HOLD,
            f"{whole.words}: held until that covers it",
            (("priority", "0"),),
            (("money", HELD),),
            "held",
        )

    def _move(self, whole: _Whole) -> Action:
        """Rule B-007: let a job run on idle GPUs only."""
        job = whole.job
        mark = (("money", MOVED), *self._home(job))
        return self._change(job, rules.BUDGET_QOS, self._why_moved(whole), (("qos", self._qos),),
                            mark, f"qos {self._qos}")  # fmt: skip

    def _moved(self, whole: _Whole) -> Iterator[Action]:
        """Rule B-007: bring a job home that its budget covers there, or that is to be held."""
        job = whole.job
        home = self._home_of(job)
        if not home or is_held(job) or not self._rights.allow(job, home):
            return
        reserve = self._covered_at_home(whole, home)
        if self._way == "qos" and not reserve:
            return
        if self._way == "hold" and not reserve:
            yield self._change(job, rules.BUDGET_HOLD, "its budget does not cover it: held",
                               (("qos", home), ("priority", "0")),
                               (("money", HELD), ("money_home", "")), "held")  # fmt: skip
            return
        yield self._change(job, rules.BUDGET_QOS, f"its budget covers it: back to QOS {home}",
                           (("qos", home),), _FORGOTTEN, f"qos {home}")  # fmt: skip

    def _covered_at_home(self, whole: _Whole, home: str) -> bool:
        """Whether what is left covers a job in its own QOS; then that much less is left."""
        prices: list[tuple[Job, Cost]] = []
        for part in whole.parts:
            start = max(self._now, part.eligible_time or 0)
            end = start + (part.time_limit_seconds or _UNLIMITED_SECONDS)
            use = replace(use_of_job(part), qos=home)
            one = cost(use, start, end, self._book, minimum=self._minimum)
            tasks = task_count(part)
            prices.append((part, Cost(one.micros * tasks, one.gpu_seconds * tasks)))
        lines = [(self._funds.line(part.account, part.user), price) for part, price in prices]
        if any(self._funds.short(line, price, self._now) for line, price in lines):
            return False
        for line, price in lines:
            self._funds.reserve(0, line, price, self._now, rule=rules.BUDGET_RESERVE)
        return True

    def _home_of(self, job: Job) -> str:
        known = controller_mark(job).get("money_home", "")
        association = self._rights.association(job)
        return known or (association.default_qos if association is not None else "")

    def _home(self, job: Job) -> Changes:
        """Return the mark of the QOS that a job came with, where a mark can carry it."""
        return (("money_home", job.qos),) if re.fullmatch(_MARKABLE, job.qos) else ()

    def _why_moved(self, whole: _Whole) -> str:
        return f"{whole.words}: it may run on idle GPUs, in QOS {self._qos}, until that covers it"

    def _change(  # noqa: PLR0913, PLR0917 - an action's fields
        self,
        job: Job,
        rule: str,
        reason: str,
        changes: Changes,
        mark: Changes,
        after: str = "",
    ) -> Action:
        here = controller_mark(job)
        kept = tuple((key, value) for key, value in mark if value or key in here)
        now = "held" if is_held(job) else f"qos {job.qos}"
        return self._action("modify", job, rule, reason, before=now, after=after or now,
                            changes=changes, mark=kept)  # fmt: skip

    def _action(  # noqa: PLR0913 - an action's fields, by name
        self,
        verb: Literal["modify", "release"],
        job: Job,
        rule: str,
        reason: str,
        *,
        before: str,
        after: str,
        changes: Changes = (),
        mark: Changes = (),
    ) -> Action:
        return Action(verb, job.job_id, job.address, rule, reason, before=before, after=after,
                      user=job.user, changes=changes, mark=mark)  # fmt: skip


_FORGOTTEN: Final[Changes] = (("money", ""), ("money_home", ""))


def kept_held(policy: Policy, state: LedgerState) -> Collection[JobId]:
    """Rule B-006: return the jobs that an approval does not let go, for want of cover."""
    enforced = rules.level_of(rules.BUDGET_HOLD, policy) == "enforce"
    return state.uncovered if enforced and policy.ledger.when_spent != "nothing" else ()
