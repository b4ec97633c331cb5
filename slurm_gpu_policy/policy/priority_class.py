"""Which priority class a job is in (rule P-602)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.model.tag import workload_of
from slurm_gpu_policy.policy.classes import CLASSES
from slurm_gpu_policy.policy.pending import controller_mark

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slurm_gpu_policy.config.ordering import Classes
    from slurm_gpu_policy.model.job import Job

RANKS: Final[Mapping[str, int]] = {name: rank for rank, name in enumerate(reversed(CLASSES))}
"""The later in the line, the lower."""
ORDINARY: Final = "normal"


def priority_class(job: Job, classes: Classes) -> tuple[str, str]:
    """Return a job's class, and what puts it there in a few words."""
    marked = controller_mark(job).get("class", "")
    if marked in RANKS:
        return marked, "an operator put it there"
    if (named := classes.qos.get(job.qos)) is not None:
        return named, f"by QOS {job.qos}"
    if classes.workloads:
        workload = workload_of(job.comment)
        if (named := classes.workloads.get(workload)) is not None:
            return named, f"by workload class {workload}"
    if (named := classes.accounts.get(job.account)) is not None:
        return named, f"by account {job.account}"
    return ORDINARY, "nothing says otherwise"
