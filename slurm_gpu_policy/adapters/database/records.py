"""Implements :class:`slurm_gpu_policy.services.ports.RecordsPort`.

One database may serve several clusters: every row says which cluster it is about, and each
cluster has a lease of its own.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from slurm_gpu_policy.adapters.database.tables import AUDIT, LEASE, VOTES, storable
from slurm_gpu_policy.model.action import Action, AuditEntry, Lease, Vote
from slurm_gpu_policy.model.ids import JobId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Row, Select

    from slurm_gpu_policy.adapters.database.connection import Database
    from slurm_gpu_policy.model.action import Level, Outcome

_MANY = 1000
"""Ids in one question; a database takes some ten thousands at most."""


class DatabaseRecords:
    """The records of one cluster."""

    def __init__(self, database: Database, cluster: str) -> None:
        self._database = database
        self._cluster = storable(cluster)

    def lease(self) -> Lease:
        """Return the lease as it stands; its holder is ``""`` while nobody has it."""
        question = select(LEASE.c.holder, LEASE.c.renewals).where(LEASE.c.cluster == self._cluster)
        with self._database.reading() as connection:
            row = connection.execute(question).one_or_none()
        return Lease() if row is None else Lease(row.holder, row.renewals)

    def take(self, holder: str, seen: Lease) -> Lease | None:
        """Take or renew the lease if it still stands as *seen*; ``None`` if it does not."""
        taken = Lease(storable(holder), seen.renewals + 1)
        fields = {"holder": taken.holder, "renewals": taken.renewals}
        change = (
            update(LEASE)
            .where(
                LEASE.c.cluster == self._cluster,
                LEASE.c.holder == seen.holder,
                LEASE.c.renewals == seen.renewals,
            )
            .values(fields)
        )
        with self._database.writing() as connection:
            changed = connection.execute(change.returning(LEASE.c.cluster)).first()
            if changed is None and seen == Lease():
                dialect: Any = sqlite if self._database.is_sqlite else postgresql
                row = dialect.insert(LEASE).values(cluster=self._cluster, **fields)
                first = row.on_conflict_do_nothing().returning(LEASE.c.cluster)
                changed = connection.execute(first).first()
        return None if changed is None else taken

    def resign(self, holder: str) -> None:
        """Give the lease back, if *holder* has it."""
        change = (
            update(LEASE)
            .where(LEASE.c.cluster == self._cluster, LEASE.c.holder == storable(holder))
            .values(holder="")
        )
        with self._database.writing() as connection:
            connection.execute(change)

    def begin(
        self, actor: str, now: int, wanted: Sequence[tuple[Action, Level]]
    ) -> tuple[int, ...]:
        """Write an entry for each action about to be done, durably, and return their ids."""
        if not wanted:
            return ()
        common = {"cluster": self._cluster, "actor": storable(actor), "time": now}
        rows = [{**common, "level": level, **_columns(action)} for action, level in wanted]
        question = insert(AUDIT).returning(AUDIT.c.entry_id, sort_by_parameter_order=True)
        with self._database.writing() as connection:
            return tuple(connection.execute(question, rows).scalars())

    def finish(self, now: int, outcomes: Mapping[int, tuple[Outcome, str]]) -> None:
        """Complete entries with their outcome and Slurm's words; a completed one stays as it is."""
        if not outcomes:
            return
        alike: dict[tuple[Outcome, str], list[int]] = {}
        for entry_id, result in outcomes.items():
            alike.setdefault(result, []).append(entry_id)
        with self._database.writing() as connection:
            for (outcome, words), ids in alike.items():
                for start in range(0, len(ids), _MANY):
                    change = update(AUDIT).where(
                        AUDIT.c.entry_id.in_(ids[start : start + _MANY]),
                        AUDIT.c.cluster == self._cluster,
                        AUDIT.c.outcome == "",
                    )
                    completed = {"outcome": outcome, "words": storable(words), "finished": now}
                    connection.execute(change.values(completed))

    def unfinished(self) -> tuple[AuditEntry, ...]:
        """Return the entries without an outcome, oldest first: somebody was interrupted."""
        question = select(AUDIT).where(AUDIT.c.cluster == self._cluster, AUDIT.c.outcome == "")
        return self._read(question.order_by(AUDIT.c.entry_id))

    def entries(
        self, *, job_id: JobId | None = None, since: int | None = None, limit: int = 1000
    ) -> tuple[AuditEntry, ...]:
        """Return the newest *limit* entries that fit, oldest first."""
        question = select(AUDIT).where(AUDIT.c.cluster == self._cluster)
        if job_id is not None:
            question = question.where(AUDIT.c.job_id == job_id)
        if since is not None:
            question = question.where(AUDIT.c.time >= since)
        newest = question.order_by(AUDIT.c.entry_id.desc()).limit(max(limit, 0))
        return self._read(newest)[::-1]

    def vote(self, vote: Vote) -> None:
        """Keep a vote; a later one of the same approver on the same job replaces it."""
        row = {
            "cluster": self._cluster,
            "job_id": vote.job_id,
            "submit_time": vote.submit_time,
            "approver": storable(vote.approver),
            "verdict": vote.verdict,
            "reason": storable(vote.reason),
            "time": vote.time,
        }
        with self._database.writing() as connection:
            connection.execute(insert(VOTES).values(row))

    def votes(self, job_ids: Sequence[JobId] = ()) -> tuple[Vote, ...]:
        """Return the votes on these jobs, or all, oldest first."""
        latest = (
            select(func.max(VOTES.c.vote_id))
            .where(VOTES.c.cluster == self._cluster)
            .group_by(VOTES.c.job_id, VOTES.c.submit_time, VOTES.c.approver)
        )
        if 0 < len(job_ids) <= _MANY:
            latest = latest.where(VOTES.c.job_id.in_(job_ids))
        question = select(VOTES).where(VOTES.c.vote_id.in_(latest)).order_by(VOTES.c.vote_id)
        with self._database.reading() as connection:
            rows = connection.execute(question).all()
        wanted = set(job_ids)
        return tuple(_vote(row) for row in rows if not wanted or row.job_id in wanted)

    def _read(self, question: Select[Any]) -> tuple[AuditEntry, ...]:
        with self._database.reading() as connection:
            rows = connection.execute(question).all()
        return tuple(_entry(row) for row in rows)


def _columns(action: Action) -> dict[str, Any]:
    return {
        "verb": action.verb,
        "job_id": action.job_id,
        "display_id": storable(action.display_id),
        "job_user": storable(action.user),
        "rule": action.rule,
        "reason": storable(action.reason),
        "before": storable(action.before),
        "after": storable(action.after),
        "changes": json.dumps(action.changes),
        "mark": json.dumps(action.mark),
        "site_factor": action.site_factor,
    }


def _entry(row: Row[Any]) -> AuditEntry:
    action = Action(
        verb=row.verb,
        job_id=JobId(row.job_id),
        display_id=row.display_id,
        rule=row.rule,
        reason=row.reason,
        before=row.before,
        after=row.after,
        user=row.job_user,
        changes=_pairs(row.changes),
        mark=_pairs(row.mark),
        site_factor=row.site_factor,
    )
    return AuditEntry(
        entry_id=row.entry_id,
        time=row.time,
        actor=row.actor,
        action=action,
        level=row.level,
        outcome=row.outcome,
        words=row.words,
        finished=row.finished,
    )


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((key, value) for key, value in json.loads(text))


def _vote(row: Row[Any]) -> Vote:
    return Vote(
        job_id=JobId(row.job_id),
        submit_time=row.submit_time,
        approver=row.approver,
        verdict=row.verdict,
        reason=row.reason,
        time=row.time,
    )
