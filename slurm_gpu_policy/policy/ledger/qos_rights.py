"""Whether Slurm would take a waiting job in another QOS."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slurm_gpu_policy.model.account import Association
    from slurm_gpu_policy.model.job import Job
    from slurm_gpu_policy.model.snapshot import Snapshot


class QosRights:
    """Knows the associations and partitions of one snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._partitions = {item.name: item for item in snapshot.partitions}
        self._associations = {
            (item.account, item.user, item.partition): item
            for item in snapshot.associations
            if item.user
        }

    def association(self, job: Job) -> Association | None:
        """Return the place in the account tree that a job is charged to."""
        places = (*job.partitions, "")
        keys = ((job.account, job.user, place) for place in places)
        return next((self._associations[key] for key in keys if key in self._associations), None)

    def allow(self, job: Job, qos: str) -> bool:
        """Whether the job's owner may use *qos*, and one of its partitions takes it."""
        association = self.association(job)
        if association is not None and association.qos and qos not in association.qos:
            return False
        found = [self._partitions[name] for name in job.partitions if name in self._partitions]
        return not found or any(
            qos not in item.deny_qos and (not item.allow_qos or qos in item.allow_qos)
            for item in found
        )
