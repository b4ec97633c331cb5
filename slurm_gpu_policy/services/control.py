"""What people ask of the controller: approve, deny, set a class, look what waits, read the log.

Who asks is what the kernel says of the other end of the socket, or MUNGE of somebody on another
machine, never what the request says. Each deed is in the audit log under the person's own name, and
takes effect at once; what is left of it (a release that Slurm did not take) the next tick does,
because the votes still say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from slurm_gpu_policy.errors import NotAllowed, RequestError
from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.snapshot import Part
from slurm_gpu_policy.model.tag import change_tag
from slurm_gpu_policy.policy.approval import vote_key
from slurm_gpu_policy.policy.classes import CLASSES, NO_CLASS, set_class
from slurm_gpu_policy.services.deeds import Deeds
from slurm_gpu_policy.services.explain import parse_job_id
from slurm_gpu_policy.services.ledger.treasury import Treasury
from slurm_gpu_policy.services.voting import Voting

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.action import AuditEntry
    from slurm_gpu_policy.model.caller import Caller
    from slurm_gpu_policy.services.directory import Directory
    from slurm_gpu_policy.services.ports import Clock, RecordsPort, SlurmPort

_MOST_ENTRIES: Final = 10_000


class Control:
    """Answers requests; one object for the life of a controller.

    *policy* returns the policy in force, which a reload changes.
    """

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        *,
        slurm: SlurmPort,
        records: RecordsPort,
        policy: Callable[[], Policy],
        clock: Clock,
        directory: Directory,
        uncovered: Callable[[Policy], Collection[JobId]] = lambda _: (),
    ) -> None:
        """*uncovered* is for :class:`Voting`."""
        self._slurm = slurm
        self._records = records
        self._policy = policy
        self._directory = directory
        self._deeds = Deeds(slurm, records, clock)
        self._voting = Voting(
            slurm=slurm,
            records=records,
            clock=clock,
            directory=directory,
            deeds=self._deeds,
            uncovered=uncovered,
        )
        self._requests: Mapping[str, Callable[[Caller, Mapping[str, Any]], dict[str, Any]]] = {
            "approve": self._approve,
            "deny": self._deny,
            "set_priority": self._set_priority,
            "approvals": self._approvals,
            "audit": self._audit,
        }

    def handle(self, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to one request, as JSON takes it; ``request["request"]`` is its name.

        Raises:
            RequestError: a request that cannot be understood, or that makes no sense.
            NotAllowed: the caller may not; the text says who may.
            SlurmError, RecordsUnavailable: as the ports have it; nothing was done, or the next
                tick does the rest.
        """
        name = request.get("request")
        handler = self._requests.get(name) if isinstance(name, str) else None
        if handler is None:
            known = ", ".join(sorted({"status", *self._requests, *Treasury.REQUESTS}))
            msg = f"{str(name)[:80]!r} is no request: it is one of {known}"
            raise RequestError(msg)
        return handler(caller, request)

    def _approve(self, caller: Caller, asked: Mapping[str, Any]) -> dict[str, Any]:
        return self._voting.vote(
            caller, _job(asked), "approve", asked.get("reason"), self._policy()
        )

    def _deny(self, caller: Caller, asked: Mapping[str, Any]) -> dict[str, Any]:
        return self._voting.vote(caller, _job(asked), "deny", asked.get("reason"), self._policy())

    def _approvals(self, caller: Caller, _asked: Mapping[str, Any]) -> dict[str, Any]:
        return {"approvals": self._voting.waiting(caller, self._policy())}

    def _set_priority(self, caller: Caller, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Rule V-908: give a job a priority class, or take it away."""
        name = asked.get("class")
        if name not in (*CLASSES, NO_CLASS):
            msg = f"{name!r} is no priority class: it is one of {', '.join((*CLASSES, NO_CLASS))}"
            raise RequestError(msg)
        policy = self._policy()
        snapshot, jobs = self._deeds.find(_job(asked))
        if not self._directory.is_operator(caller, policy, snapshot.config):
            msg = (
                f"{caller.user} may not set priority classes: operators may (AdminLevel of Slurm, "
                "or `operators` in the policy file)"
            )
            raise NotAllowed(msg)
        waiting = [job for job in jobs if job.state.is_pending]
        alive = waiting or [job for job in jobs if not job.state.is_over]
        if not alive:
            msg = f"job {jobs[0].display_id} is over ({jobs[0].state.value})"
            raise RequestError(msg)
        for job in alive:
            action = set_class(job, str(name), caller.user)
            if change_tag(job.admin_comment, dict(action.mark)) != job.admin_comment:
                self._deeds.do(caller, job, action, policy, by_order=True)
        return {"job_id": vote_key(alive[0]), "class": None if name == NO_CLASS else name}

    def _audit(self, caller: Caller, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Return the audit log: all of it to operators, to others what they did or had done."""
        policy = self._policy()
        job = asked.get("job")
        job_id = None if job is None else JobId(int(parse_job_id(str(job))[0]))
        since = asked.get("since")
        if since is not None and (not isinstance(since, int) or isinstance(since, bool)):
            msg = f"since: {since!r} is no time in Unix seconds"
            raise RequestError(msg)
        entries = self._records.entries(job_id=job_id, since=since, limit=_MOST_ENTRIES)
        sees_all = caller.is_root or caller.user in policy.operators
        if not sees_all:
            config = self._slurm.read(Part.CONFIG).config
            sees_all = self._directory.is_operator(caller, policy, config)
        return {
            "entries": [
                entry_json(entry)
                for entry in entries
                if sees_all or caller.user in {entry.actor, entry.action.user}
            ]
        }


def _job(asked: Mapping[str, Any]) -> str:
    job_id = asked.get("job")
    if not isinstance(job_id, str):
        msg = f"job: {job_id!r} is no job id"
        raise RequestError(msg)
    return job_id


def entry_json(entry: AuditEntry) -> dict[str, Any]:
    """Return an entry of the audit log as ``gpu-policy audit --json`` shows it."""
    action = entry.action
    return {
        "entry_id": entry.entry_id,
        "time": entry.time,
        "actor": entry.actor,
        "job": action.display_id,
        "job_id": action.job_id,
        "user": action.user,
        "verb": action.verb,
        "rule": action.rule,
        "reason": action.reason,
        "before": action.before,
        "after": action.after,
        "level": entry.level,
        "outcome": entry.outcome,
        "words": entry.words,
        "finished": entry.finished,
    }
