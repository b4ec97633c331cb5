"""A queue as the orderings see it: pending jobs, their site factors, what Slurm adds."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.model.cluster import ClusterConfig
from slurm_gpu_policy.model.job import JobState, PriorityFactors
from slurm_gpu_policy.policy.ordering import site_factors
from tests.builders import NOW, make_association, make_job, make_policy, make_snapshot

if TYPE_CHECKING:
    from slurm_gpu_policy.model.ids import JobId

WEIGHTS = {
    "PriorityWeightAge": "2000",
    "PriorityWeightAssoc": "1000",
    "PriorityWeightFairShare": "10000",
    "PriorityWeightJobSize": "500",
    "PriorityWeightPartition": "1000",
    "PriorityWeightQOS": "6000",
    "PriorityWeightTRES": "CPU=100,Mem=100,GRES/gpu=1500",
}
MOST = 22_200
"""The sum of these weights."""


def waiting(number: int, **fields: Any):
    """A pending job, submitted *number* seconds after the first one unless told otherwise."""
    defaults: dict[str, Any] = {
        "state": JobState.PENDING, "submit_time": NOW - 3600 + number, "start_time": None,
        "node_list": "", "reason": "Priority", "priority": 1000, "eligible_time": NOW - 3600,
    }  # fmt: skip
    return make_job(number, **{**defaults, **fields})


def row(job, base: float = 1000.0, site: int = 0, **fields: Any) -> PriorityFactors:
    """What sprio says of *job*, with all of Slurm's points as age."""
    values: dict[str, Any] = {
        "partition": job.partitions[0], "qos": job.qos,
        "priority": max(1, int(base) + site - job.nice),
        "age": base, "association": 0.0, "fair_share": 0.0, "job_size": 0.0,
        "partition_factor": 0.0, "qos_factor": 0.0, "nice": job.nice, "site": site,
    }  # fmt: skip
    return PriorityFactors(job.job_id, **{**values, **fields})


class Queue:
    """Jobs with the site factors that were last set on them."""

    def __init__(self, *jobs: Any, settings: dict[str, str] | None = None, **ordering: Any) -> None:
        self.jobs = list(jobs)
        self.policy = make_policy(ordering=ordering)
        self.sites: dict[JobId, int] = {}
        self.bases: dict[int, float] = {}
        self.fields: dict[str, Any] = {}
        self.settings = WEIGHTS if settings is None else settings
        self.given: dict[str, Any] = {}
        """Further arguments of site_factors."""

    def snapshot(self):
        """What Slurm says now."""
        rows = tuple(
            row(job, self.bases.get(job.job_id, 1000.0), self.sites.get(job.job_id, 0))
            for job in self.jobs
            if job.state.is_pending and job.priority
        )
        config = ClusterConfig("c", "22.05.8", MappingProxyType(self.settings))
        fields = {"jobs": tuple(self.jobs), "priorities": rows, "config": config, **self.fields}
        return make_snapshot(**fields)

    def tick(self):
        """Decide, set what was decided, and return the actions."""
        actions = site_factors(self.snapshot(), self.policy, **self.given)
        for action in actions:
            self.sites[action.job_id] = action.site_factor
        return actions

    def order(self) -> list[int]:
        """The numbers of the pending jobs in the order in which Slurm starts them now."""
        rows = sorted(self.snapshot().priorities, key=lambda one: (-one.priority, one.job_id))
        return [int(one.job_id) for one in rows]

    def change(self, number: int, **fields: Any) -> None:
        """Change a job."""
        self.jobs = [replace(j, **fields) if j.job_id == number else j for j in self.jobs]

    def remove(self, number: int) -> None:
        """Let a job go."""
        self.jobs = [job for job in self.jobs if job.job_id != number]


def shares(**factors):
    """Associations in account nlp, with each user's fair-share factor."""
    return tuple(make_association("nlp", user, fair_share=f) for user, f in factors.items())


def sure_order(queue):
    """The order that holds whatever Slurm adds: checked with the worst that it can add."""
    order = queue.order()
    for worst in (lambda place: place * 10**6, lambda place: -place * 10**6):
        for place, number in enumerate(order):
            queue.bases[number] = min(MOST, max(0, worst(place)))
        assert queue.order() == order
    queue.bases.clear()
    return order
