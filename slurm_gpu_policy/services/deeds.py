"""What a person wants done to one job: found, written down, done at once, written down again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slurm_gpu_policy.errors import (
    JobNotFound,
    SlurmError,
    SlurmRefused,
    SlurmTimeout,
)
from slurm_gpu_policy.model.snapshot import Part
from slurm_gpu_policy.model.tag import change_tag
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.thresholds import as_one
from slurm_gpu_policy.services.explain import parse_job_id

if TYPE_CHECKING:
    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.action import Action, Outcome
    from slurm_gpu_policy.model.caller import Caller
    from slurm_gpu_policy.model.job import Job
    from slurm_gpu_policy.model.snapshot import Snapshot
    from slurm_gpu_policy.services.ports import Clock, RecordsPort, SlurmPort


class Deeds:
    """Finds jobs and changes them in a person's name."""

    def __init__(self, slurm: SlurmPort, records: RecordsPort, clock: Clock) -> None:
        self._slurm = slurm
        self._records = records
        self._clock = clock

    def find(self, job_id: str) -> tuple[Snapshot, tuple[Job, ...]]:
        """Return the records of a whole job or array (of a group: one), and what judging needs.

        Raises:
            RequestError: *job_id* is not the form of an id.
            JobNotFound: Slurm has no such job in memory.
        """
        base, _ = parse_job_id(job_id)
        snapshot = self._slurm.read(Part.ASSOCIATIONS, Part.CONFIG)
        records = self._slurm.jobs([base])
        found = tuple(job for job in as_one(records) if int(base) in {job.job_id, job.array_job_id})
        if not found:
            raise JobNotFound(base)
        return replace(snapshot, jobs=tuple(records)), found

    def do(
        self, caller: Caller, job: Job, action: Action, policy: Policy, *, by_order: bool = False
    ) -> bool:
        """Carry out an action in the person's name; tell whether Slurm did it.

        What a person orders is done at any level of enforcement; what follows from a rule only
        where that is enforced.

        Raises:
            SlurmUnavailable: it is in the audit log as failed.
        """
        level = rules.level_of(action.rule, policy)
        (entry,) = self._records.begin(caller.user, self._clock.now(), [(action, level)])
        if level != "enforce" and not by_order:
            self._end(entry, "skipped", f"{action.rule} is at {level}: not done")
            return False
        try:
            self._steer(job, action)
        except SlurmRefused as error:
            self._end(entry, "refused", str(error))
            raise
        except SlurmTimeout as error:
            self._end(entry, "unknown", str(error))
            raise
        except SlurmError as error:
            self._end(entry, "failed", str(error))
            raise
        self._end(entry, "done", "")
        return True

    def _steer(self, job: Job, action: Action) -> None:
        """Do the verb, then the mark: what is half done then still looks undone to the tick."""
        if action.verb == "hold":
            self._slurm.hold(job.address)
        elif action.verb == "release":
            self._slurm.release(job.address)
        comment = change_tag(job.admin_comment, dict(action.mark))
        if comment != job.admin_comment:
            self._slurm.modify(job.address, {"admin_comment": comment})
        if action.verb == "cancel":
            self._slurm.cancel(job.address)

    def _end(self, entry: int, outcome: Outcome, words: str) -> None:
        self._records.finish(self._clock.now(), {entry: (outcome, words)})
