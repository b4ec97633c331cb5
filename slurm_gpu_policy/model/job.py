"""Jobs as Slurm holds them, and as its accounting remembers them."""

from __future__ import annotations

from dataclasses import field
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

from slurm_gpu_policy.model.record import record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slurm_gpu_policy.model.ids import JobId


_NO_TRES: Mapping[str, int] = MappingProxyType({})


class JobState(Enum):
    """Slurm's base job states (slurm.h, enum job_states), and ``UNKNOWN`` for any later one."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"
    NODE_FAIL = "NODE_FAIL"
    PREEMPTED = "PREEMPTED"
    BOOT_FAIL = "BOOT_FAIL"
    DEADLINE = "DEADLINE"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    CONFIGURING = "CONFIGURING"
    COMPLETING = "COMPLETING"
    REQUEUED = "REQUEUED"
    RESIZING = "RESIZING"
    """Of a record in the accounting: the run was resized, and goes on in another record."""
    UNKNOWN = "UNKNOWN"

    @property
    def is_pending(self) -> bool:
        """Whether the job waits for its (next) start."""
        return self in {JobState.PENDING, JobState.REQUEUED}

    @property
    def is_active(self) -> bool:
        """Whether the job holds nodes."""
        return self in _ACTIVE

    @property
    def is_over(self) -> bool:
        """Whether the job will not run any more (a requeued one may)."""
        return not (self.is_pending or self.is_active or self in _GOES_ON)


_ACTIVE = frozenset(
    {JobState.RUNNING, JobState.SUSPENDED, JobState.CONFIGURING, JobState.COMPLETING}
)
_GOES_ON = frozenset({JobState.RESIZING, JobState.UNKNOWN})
_RUN_ENDED = frozenset({JobState.REQUEUED, JobState.RESIZING})


@record
class Job:
    """One record of the queue: a job, one array task, or the pending rest of an array.

    ``gpus`` is what one task holds or asks for in all; ``gpu_type`` is ``""`` where the request
    names none. ``partitions`` has several entries while a job may start in any of them.
    """

    job_id: JobId
    display_id: str
    """What Slurm's own tools print: ``123``, ``123_4``, ``123_[5-9%2]``, ``123+1``."""
    name: str
    user: str
    account: str
    partitions: tuple[str, ...]
    qos: str
    state: JobState
    reason: str
    """Slurm's own word for why a job waits (``Resources``), ``""`` where there is none."""
    gpus: int
    gpu_type: str
    nodes: int
    cpus: int
    memory_mb: int
    time_limit_seconds: int | None
    submit_time: int | None
    eligible_time: int | None
    start_time: int | None
    """When it started; for a pending job Slurm's plan, where it has one."""
    end_time: int | None
    elapsed_seconds: int
    priority: int
    nice: int
    node_list: str
    """Slurm's compressed list of the nodes held, e.g. ``gpu[01-02]``."""
    dependency: str = ""
    reservation: str = ""
    comment: str = ""
    array_job_id: JobId | None = None
    array_task: str = ""
    """Task number, or Slurm's text for the pending rest (``5-9%2``); ``""`` outside arrays."""
    het_job_id: JobId | None = None
    features: str = ""
    accrue_time: int | None = None
    """When the age factor began to grow; ``None`` while it does not."""
    admin_comment: str = ""
    restarts: int = 0
    """How often the job was put back into the queue."""
    exit_code: int = 0
    """Of an ended job: its exit code; 0 while it has none."""
    deadline: int | None = None
    """When it must have ended (``--deadline``): Slurm cancels what cannot make it."""
    tres: Mapping[str, int] = field(default_factory=lambda: _NO_TRES)
    """What it holds or asks for in all, per TRES name; memory in MiB."""

    @property
    def address(self) -> str:
        """What Slurm's commands take for exactly this record, and for nothing beside it.

        The number of an array's last task is the array's own, so ``scontrol requeue`` of that
        number takes every task; and none takes the ``%2`` that squeue prints. A group's parts go
        together, by the number of the whole.
        """
        if self.het_job_id is not None:
            return str(self.het_job_id)
        if self.array_job_id is None:
            return str(self.job_id)
        task = self.array_task.partition("%")[0]
        return f"{self.array_job_id}_{task if task.isdigit() else f'[{task}]'}"


@record
class NodeAllocation:
    """What one job holds on one node; ``gpu_indexes`` are Slurm's GRES index numbers."""

    node: str
    gpu_type: str
    gpu_indexes: tuple[int, ...]
    cpus: str = ""
    memory_mb: int = 0


@record
class JobDetail:
    """One job looked at closely."""

    job: Job
    allocations: tuple[NodeAllocation, ...]
    work_dir: str
    std_out: str
    """Path with Slurm's patterns (``%j``) already filled in."""
    std_err: str
    command: str
    exit_code: int
    exit_signal: int
    restarts: int
    submit_host: str = ""
    requested_tres: str = ""
    excluded_nodes: str = ""


@record
class PriorityFactors:
    """A pending job's priority as ``sprio`` shows it, in weighted points.

    ``tres`` maps a TRES name to its points; ``site`` is the site factor.
    """

    job_id: JobId
    partition: str
    qos: str
    priority: int
    age: float
    association: float
    fair_share: float
    job_size: float
    partition_factor: float
    qos_factor: float
    nice: int
    site: int
    tres: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


@record
class AccountingRecord:
    """One run of one job in Slurm's accounting; a requeued job has one record per run.

    Each has a submit time of its own. Where a running job is resized, one record ends, and another
    begins whose submit time is that moment; ``squeue`` goes on to show the job's first one.
    """

    job_id: JobId
    display_id: str
    user: str
    account: str
    partition: str
    qos: str
    name: str
    state: JobState
    submit_time: int | None
    eligible_time: int | None
    start_time: int | None
    end_time: int | None
    elapsed_seconds: int
    suspended_seconds: int
    time_limit_seconds: int | None
    exit_code: int
    exit_signal: int
    node_list: str
    allocated_tres: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Counts per TRES; ``mem`` in MiB."""
    comment: str = ""
    admin_comment: str = ""
    restarts: int = 0

    @property
    def is_over(self) -> bool:
        """Whether this run has ended; the job itself may go on in another one."""
        return self.state.is_over or self.state in _RUN_ENDED
