"""The line: all pending jobs that compete, in each partition by priority, now or later."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from slurm_gpu_policy.policy.explaining.waiting import Place
from slurm_gpu_policy.policy.priority import priorities
from slurm_gpu_policy.services.standing import Standings

if TYPE_CHECKING:
    from slurm_gpu_policy.model.job import Job
    from slurm_gpu_policy.model.snapshot import Snapshot
    from slurm_gpu_policy.policy.priority import Claim
    from slurm_gpu_policy.services.standing import Ranked


class Line:
    """Who stands where. Times are Unix seconds; all ages are those of the same moment.

    Needs :data:`~slurm_gpu_policy.services.standing.PRIORITY_PARTS`.

    Raises:
        SlurmRefused: Slurm shows a part of the account tree only.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.standings = Standings(snapshot)
        self.time = self.standings.time
        self.jobs: dict[int, Job] = {}
        self._claims: list[tuple[int, Claim]] = []
        for job in self.standings.ranked_jobs():
            self.jobs[job.job_id] = job
            self._claims += ((job.job_id, claim) for claim in self.standings.claims(job))
        self._lines: dict[int, dict[str, list[tuple[int, int]]]] = {}

    def of(self, partition: str, at: int | None = None) -> list[tuple[int, int]]:
        """Return each job of a partition, first to last: its negative priority, and its number.

        A job that lists several QOS stands where the best of them puts it.
        """
        when = at or self.time
        if when not in self._lines:
            best: dict[str, dict[int, int]] = {}
            found = priorities((one for _, one in self._claims), self.standings.settings, when)
            for (job_id, claim), number in zip(self._claims, found, strict=True):
                jobs = best.setdefault(claim.place.partition, {})
                jobs[job_id] = max(number, jobs.get(job_id, 0))
            self._lines[when] = {
                name: sorted((-number, job_id) for job_id, number in jobs.items())
                for name, jobs in best.items()
            }
        return self._lines[when].get(partition, [])

    def ahead_of(self, found: Ranked) -> list[Job]:
        """Return those who stand ahead in the same partition, first to last."""
        own = _rank(found)
        return [self.jobs[one[1]] for one in self.of(found.partition) if one < own]

    def place(self, job: Job, found: Ranked, at: int | None = None) -> Place:
        """Return the place of *found*, which *job* is or could be instead, *at* a time."""
        others = [one for one in self.of(found.partition, at) if one[1] != job.job_id]
        return Place(found.partition, bisect_left(others, _rank(found)) + 1, len(others) + 1)

    def best(self, job: Job, at: int | None = None, partition: str = "") -> Ranked:
        """Return the best of the places that *job* has or would have, in one partition or any."""
        return max(
            (one for one in self.standings.of(job, at) if partition in {"", one.partition}),
            key=lambda one: one.terms.priority,
        )


def _rank(found: Ranked) -> tuple[int, int]:
    return (-found.terms.priority, int(found.job.job_id))
