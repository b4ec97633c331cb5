"""Lending idle GPUs and getting them back, by moving pending jobs between two QOS (Q-7xx).

A pending job that fits into what is left of its account's guarantee is in the guaranteed QOS, any
other in the over-quota QOS: it runs on idle GPUs, and a guaranteed job preempts it once it has
run for ``min_run_time``. Slurm does the preempting (preempt/qos); this only decides who is which,
and never touches a job that runs.

The rule against ping-pong:

1. A job has a claim on the guarantee while it waits in the guaranteed QOS or runs in any but the
   over-quota QOS. Jobs that wait in the guaranteed QOS keep their claim, the first submitted
   first; only those that no longer fit beside the other claims lose it.
2. With those kept, jobs that wait elsewhere are promoted, the first submitted first, if they fit
   *entirely* beside the claims and all that the account runs over quota: an account that holds
   its guarantee in any way has it, and its waiting jobs do not preempt its running ones.
3. Between two moves of one job lies ``settle_time``; putting a new job into its place is not
   counted, so that it does not wait for its guarantee because it came a moment too early.

Why it comes to rest. While no job arrives, starts or ends, what runs counts the same for ever.
After at most ``settle_time`` every job that lacks room has lost its claim (1), so the claims are
feasible (policy/guarantees.py) and stay so: part of a feasible set is feasible, so no claim is
lost any more, and (2) adds only what keeps it feasible. From then on there are only promotions,
each job's last move; there are no more of them than jobs. After that, it takes an arrival, a
start or an end for anything to move.

Why an account gets its GPUs. While it holds less than its guarantee, the first submitted of its
jobs that fits is promoted, after ``settle_time`` at the latest.

Why preemptions are few. A guaranteed job is never preempted, so each preemption is of a job over
quota that has had its ``min_run_time``: G GPUs see at most G x T / ``min_run_time`` in a time T.
They are for guaranteed jobs only, whose GPUs together are at most the guarantees; if these are no
more than the cluster has, each such job starts within ``min_run_time`` of its promotion, because
by then all that is not guaranteed can be preempted.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from slurm_gpu_policy.model.action import Action
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.guarantees import Guarantees
from slurm_gpu_policy.policy.ledger.qos_rights import QosRights
from slurm_gpu_policy.policy.pending import (
    age_order,
    controller_mark,
    is_eligible,
    is_held,
    points,
    task_count,
)
from slurm_gpu_policy.units import counted, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from slurm_gpu_policy.config.over_quota import OverQuota
    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.job import Job
    from slurm_gpu_policy.model.snapshot import Snapshot

_MARKABLE = r"[A-Za-z0-9_.:-]+"
"""What a job's mark can carry."""


def moves(snapshot: Snapshot, policy: Policy) -> tuple[Action, ...]:
    """Return which pending jobs change their QOS.

    Needs jobs, associations and partitions. A job whose user chose another QOS than the two, or
    than the default one of their association, is left alone; so is one that waits in the
    over-quota QOS by its user's own choice.
    """
    if policy.over_quota is None:
        return ()
    return tuple(_Round(snapshot, policy, policy.over_quota).moves())


@record
class _Unit:
    """What moves together: a job, a heterogeneous one, all that waits of an array."""

    movers: tuple[Job, ...]
    """The records to change; of a heterogeneous job one change is that of all."""
    loads: tuple[tuple[str, int], ...]
    """Accounts, and the GPUs of one task on each: several only for a heterogeneous job's parts."""
    at_once: int
    """Tasks that may yet run at the same time, besides those that have a claim already."""
    next: int
    """Tasks that could start now: besides all that run."""

    @property
    def job(self) -> Job:
        """What stands for the whole."""
        return self.movers[0]

    @property
    def accounts(self) -> tuple[str, ...]:
        """Whose guarantee it is."""
        return tuple(account for account, _ in self.loads)

    @property
    def gpus(self) -> int:
        """GPUs of one task, with all its parts."""
        return sum(gpus for _, gpus in self.loads)

    @property
    def qos(self) -> str:
        """The QOS of all; ``""`` where they differ."""
        return self.job.qos if len({job.qos for job in self.movers}) == 1 else ""

    def to_change(self, movers: Sequence[Job]) -> Sequence[Job]:
        """Return which of *movers* Slurm has to be told of."""
        return movers if self.job.het_job_id is None else movers[:1]

    @property
    def is_array(self) -> bool:
        """Whether it is an array."""
        return self.job.array_job_id is not None


class _Round:
    """One decision."""

    def __init__(self, snapshot: Snapshot, policy: Policy, section: OverQuota) -> None:
        self._now = snapshot.time
        self._section = section
        self._within = section.guaranteed_qos.lower()
        self._beyond = section.over_quota_qos.lower()
        self._claims = Guarantees(policy, snapshot.associations)
        self._held = Guarantees(policy, snapshot.associations)
        """The claims, and what runs over quota."""
        self._rights = QosRights(snapshot)
        for job in snapshot.jobs:
            if job.state.is_active:
                self._held.take(job.account, job.gpus)
                if job.qos != self._beyond:
                    self._claims.take(job.account, job.gpus)
        self._units = [
            unit for unit in _units(self._ours(snapshot.jobs), self._beyond) if unit.gpus
        ]

    def moves(self) -> Iterator[Action]:
        """Yield the moves; each step counts what the one before has kept."""
        under = [unit for unit in self._units if self._is_under(unit)]
        ready = [unit for unit in under if is_eligible(unit.job, self._now)]
        yield from self._keep(unit for unit in ready if unit.qos == self._within)
        yield from self._promote(unit for unit in ready if unit.qos != self._within)
        later = [unit for unit in under if not is_eligible(unit.job, self._now)]
        yield from self._keep(unit for unit in later if unit.qos != self._beyond)
        for unit in self._units:
            if not self._is_under(unit):
                for job in unit.to_change(unit.movers):
                    yield from self._bring_home(job)

    def _is_under(self, unit: _Unit) -> bool:
        """Whether any account that the unit is on, or one above it, has a guarantee."""
        return any(map(self._claims.way, unit.accounts))

    def _keep(self, units: Iterable[_Unit]) -> Iterator[Action]:
        """Rule Q-702: jobs that have a claim keep it if it fits."""
        for unit in units:
            if not _room_for(unit, unit.at_once, self._claims):
                beyond = self._move(unit, self._beyond, self._no_room(unit))
                if beyond:
                    yield from beyond
                    continue
            self._take(unit)

    def _promote(self, units: Iterable[_Unit]) -> Iterator[Action]:
        """Rule Q-701: jobs that fit entirely get a claim; new ones that do not are over quota."""
        for unit in units:
            fits = _room_for(unit, unit.at_once, self._claims)
            room = _room_for(unit, unit.next, self._held)
            if fits and room and unit.next:
                within = self._move(unit, self._within, self._room(unit, fits))
                if within:
                    self._take(unit)
                    yield from within
            elif unit.qos != self._beyond:
                yield from self._move(unit, self._beyond, self._no_room(unit))

    def _take(self, unit: _Unit) -> None:
        for account, gpus in unit.loads:
            self._claims.take(account, gpus * unit.at_once)
            self._held.take(account, gpus * unit.next)

    def _bring_home(self, job: Job) -> Iterator[Action]:
        """Rule Q-703: a job under no guarantee any more goes back to the QOS it came with."""
        home = controller_mark(job).get("home", "")
        if not home or home == job.qos or not self._may_move(job, home):
            return
        yield Action(
            "modify", job.job_id, job.display_id, rules.QUOTA_LEFT,
            f"account {job.account} has no guaranteed GPUs: back to QOS {home}",
            before=f"qos {job.qos}", after=f"qos {home}", user=job.user,
            changes=(("qos", home),), mark=(("home", ""), ("moved", "")),
        )  # fmt: skip

    def _move(self, unit: _Unit, qos: str, reason: str) -> tuple[Action, ...]:
        """Return the moves to *qos*, if all records of the unit may move now."""
        movers = [job for job in unit.movers if job.qos != qos]
        if not all(self._may_move(job, qos) for job in movers):
            return ()
        rule = rules.QUOTA_WITHIN if qos == self._within else rules.QUOTA_BEYOND
        return tuple(
            Action(
                verb="modify",
                job_id=job.job_id,
                display_id=job.display_id,
                rule=rule,
                reason=reason,
                before=f"qos {job.qos}",
                after=f"qos {qos}",
                user=job.user,
                changes=(("qos", qos),),
                mark=(self._mark(job),),
            )
            for job in unit.to_change(movers)
        )

    def _mark(self, job: Job) -> tuple[str, str]:
        """Return what the move leaves: the first placing is not counted, so it has no time."""
        if "home" in controller_mark(job):
            return ("moved", str(self._now))
        return ("home", job.qos if re.fullmatch(_MARKABLE, job.qos) else self._within)

    def _may_move(self, job: Job, qos: str) -> bool:
        """Whether the job has settled, and Slurm would take it in that QOS."""
        moved = points(controller_mark(job), "moved")
        if moved is not None and 0 <= self._now - moved < self._section.settle_time:
            return False
        return self._rights.allow(job, qos)

    def _ours(self, jobs: Sequence[Job]) -> Iterator[Job]:
        """Yield what runs, and what waits in a QOS that is not its user's own wish.

        A heterogeneous job is ours with any of its parts, and an array's tasks each for itself.
        """
        groups = {job.het_job_id for job in jobs if job.het_job_id and self._is_ours(job)}
        for job in jobs:
            if job.state.is_active or job.het_job_id in groups or self._is_ours(job):
                yield job

    def _is_ours(self, job: Job) -> bool:
        """Whether the job's QOS is not its user's own wish."""
        if job.qos == self._within:
            return True
        if job.qos == self._beyond and "home" in controller_mark(job):
            return True
        association = self._rights.association(job)
        return association is not None and job.qos == association.default_qos

    def _room(self, unit: _Unit, account: str) -> str:
        return (
            f"its {counted(unit.gpus * unit.at_once, 'GPU')} fit into the "
            f"{self._claims.gpus[account]} that account {account} is guaranteed: "
            "it cannot be preempted"
        )

    def _no_room(self, unit: _Unit) -> str:
        after = f"yields after {format_duration(self._section.min_run_time)} at the earliest"
        if len(unit.accounts) > 1:
            return (
                f"its parts are on the accounts {', '.join(unit.accounts)}, and no guarantee is "
                f"for several: it may run on idle GPUs, and {after}"
            )
        account, *_ = self._claims.way(unit.accounts[0])
        remedy = "; with fewer tasks at once (--array=…%N) it may fit" if unit.is_array else ""
        return (
            f"its {counted(unit.gpus * unit.at_once, 'GPU')} do not fit into what is left of the "
            f"{self._claims.gpus[account]} that account {account} is guaranteed: it may run on "
            f"idle GPUs, and {after}{remedy}"
        )


def _room_for(unit: _Unit, tasks: int, load: Guarantees) -> str:
    """Return the account whose guarantee so many tasks would fit into; ``""`` for none."""
    if len(unit.loads) > 1:
        return ""
    ((account, gpus),) = unit.loads
    return load.room_for(account, gpus * tasks)


def _units(jobs: Iterable[Job], beyond: str) -> list[_Unit]:
    """Return what may be moved, the first submitted first.

    Of an array as many tasks claim GPUs as its own limit lets run: the places of those that run
    over quota go to tasks that wait. All that waits of an array is in one QOS, for squeue shows
    it as one record even where it is not. Its owner can change tasks one by one: each counts with
    the GPUs of the largest, and those on another account are apart.
    """
    running: dict[JobId, list[Job]] = {}
    waiting: dict[tuple[JobId, str], list[Job]] = {}
    for job in jobs:
        if job.state.is_active and job.array_job_id is not None:
            running.setdefault(job.array_job_id, []).append(job)
        if job.state.is_pending and not is_held(job):
            whole = job.het_job_id or job.array_job_id or job.job_id
            account = "" if job.het_job_id else job.account
            waiting.setdefault((whole, account), []).append(job)
    units = []
    for (whole, account), found in waiting.items():
        records = sorted(found, key=lambda job: job.job_id)
        first = records[0]
        if first.het_job_id is not None:
            count, movers = 1, records
            by_account: dict[str, int] = {}
            for job in records:
                by_account[job.account] = by_account.get(job.account, 0) + job.gpus
            loads = {name: gpus for name, gpus in by_account.items() if gpus} or {first.account: 0}
        else:
            count, movers = sum(map(task_count, records)), records
            loads = {account: max(job.gpus for job in records)}
        limits = [job.array_task.partition("%")[2] for job in records]
        most = max((int(limit) for limit in limits if limit.isdigit()), default=None)
        at_once = following = count
        if most is not None:
            active = running.get(whole, [])
            within = sum(job.qos != beyond for job in active)
            at_once = min(count, max(0, most - within))
            following = min(count, max(0, most - len(active)))
        units.append(_Unit(tuple(movers), tuple(loads.items()), at_once, following))
    return sorted(units, key=lambda unit: age_order(unit.job))
