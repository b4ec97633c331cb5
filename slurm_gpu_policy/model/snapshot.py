"""The cluster at one moment, in as many parts as were asked for."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from slurm_gpu_policy.model.record import record

if TYPE_CHECKING:
    from slurm_gpu_policy.model.account import Association, Qos
    from slurm_gpu_policy.model.cluster import ClusterConfig, Node, Partition, Reservation
    from slurm_gpu_policy.model.job import Job, PriorityFactors


class Part(Enum):
    """A part of a snapshot, each one call to Slurm."""

    JOBS = "jobs"
    ENDED = "ended"
    """With JOBS: also the ended jobs that Slurm still holds in memory (MinJobAge)."""
    NODES = "nodes"
    PARTITIONS = "partitions"
    ASSOCIATIONS = "associations"
    SHARES = "shares"
    """Fills shares, usage and factors of the associations."""
    USAGE = "usage"
    """Fills shares, usage and priorities of the associations from the controller itself, in the
    order of its own list; and ``calculated_at``."""
    QOS = "qos"
    PRIORITIES = "priorities"
    RESERVATIONS = "reservations"
    CONFIG = "config"


TO_DECIDE = (Part.PARTITIONS, Part.NODES, Part.ASSOCIATIONS, Part.QOS, Part.CONFIG)
"""What a decision on a request needs to know, as a rule (policy/admission.py)."""


@record
class Snapshot:
    """What Slurm said at ``time`` (Unix seconds). Parts not asked for are empty or ``None``."""

    time: int
    jobs: tuple[Job, ...] = ()
    nodes: tuple[Node, ...] = ()
    partitions: tuple[Partition, ...] = ()
    associations: tuple[Association, ...] = ()
    qos: tuple[Qos, ...] = ()
    priorities: tuple[PriorityFactors, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    config: ClusterConfig | None = None
    calculated_at: int | None = None
    """When Slurm last computed all priorities (Unix seconds), where the reader may know: that
    stands in a file which only the controller's machine has, for root and SlurmUser."""
    unknown_states: int = 0
    """Records whose state this version does not know (shown as UNKNOWN)."""
