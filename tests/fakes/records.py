"""What the controller remembers, in memory, failing when a test says so."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

from slurm_gpu_policy.errors import RecordsUnavailable
from slurm_gpu_policy.model.action import AuditEntry, Lease


class FakeRecords:
    """Implements :class:`slurm_gpu_policy.services.ports.RecordsPort`.

    ``fail_next(N)`` and ``failing`` make calls fail before anything is done; ``on_call`` is called
    with the method's name as ``("take", "before")`` and ``("take", "after")``, and may raise:
    a raise *after* is an answer that was lost.
    """

    def __init__(self) -> None:
        self.failing = ""
        self.calls: list[str] = []
        self.on_call = lambda _method, _moment: None
        self._failures = 0
        self._lease = Lease()
        self._entries: list[AuditEntry] = []
        self._votes: list = []

    def fail_next(self, count: int = 1) -> None:
        self._failures = count

    @contextmanager
    def _call(self, method: str):
        self.calls.append(method)
        self.on_call(method, "before")
        if self._failures or self.failing:
            self._failures = max(self._failures - 1, 0)
            raise RecordsUnavailable(self.failing or "the database is away, as the test says")
        yield
        self.on_call(method, "after")

    def lease(self):
        with self._call("lease"):
            return self._lease

    def take(self, holder, seen):
        with self._call("take"):
            taken = None
            if self._lease == seen:
                taken = self._lease = Lease(holder, seen.renewals + 1)
        return taken

    def resign(self, holder):
        with self._call("resign"):
            if self._lease.holder == holder:
                self._lease = replace(self._lease, holder="")

    def begin(self, actor, now, wanted):
        with self._call("begin"):
            first = len(self._entries) + 1
            self._entries += [
                AuditEntry(first + index, now, actor, action, level)
                for index, (action, level) in enumerate(wanted)
            ]
            return tuple(range(first, len(self._entries) + 1))

    def finish(self, now, outcomes):
        with self._call("finish"):
            for index, entry in enumerate(self._entries):
                if entry.entry_id in outcomes and not entry.outcome:
                    outcome, words = outcomes[entry.entry_id]
                    self._entries[index] = replace(
                        entry, outcome=outcome, words=words, finished=now
                    )

    def unfinished(self):
        with self._call("unfinished"):
            return tuple(entry for entry in self._entries if not entry.outcome)

    def entries(self, *, job_id=None, since=None, limit=1000):
        with self._call("entries"):
            found = [
                entry
                for entry in self._entries
                if (job_id is None or entry.action.job_id == job_id)
                and (since is None or entry.time >= since)
            ]
        return tuple(found[-limit:] if limit > 0 else ())

    def vote(self, vote):
        with self._call("vote"):
            self._votes.append(vote)

    def votes(self, job_ids=()):
        with self._call("votes"):
            latest = {}
            for vote in self._votes:
                key = (vote.job_id, vote.submit_time, vote.approver)
                latest.pop(key, None)
                latest[key] = vote
        wanted = set(job_ids)
        return tuple(vote for vote in latest.values() if not wanted or vote.job_id in wanted)
