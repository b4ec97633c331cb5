"""What a user asks for, before it is a job."""

from __future__ import annotations

from typing import Final

from slurm_gpu_policy.model.record import record

UNLIMITED: Final = 0
"""A time limit of no limit, as in ``sbatch --time=0``."""


@record
class Request:
    """One job as its user wrote it down: options, script directives and settings merged.

    ``gpus`` counts the whole job and ``gpus_per_node`` one node; a request has at most one of
    them. Neither means a job without GPUs. ``options`` holds what we pass on to sbatch without
    looking at it, as (long name, value) in the order given; a flag has the value ``None``.
    """

    user: str
    groups: tuple[str, ...] = ()
    """The user's groups, for partitions open to some only; empty where they are not known."""
    name: str = ""
    command: tuple[str, ...] = ()
    script: str | None = None
    """Text of the user's own script; exclusive with ``command``."""
    script_options: tuple[tuple[str, str | None], ...] = ()
    """The script's own #SBATCH options: kept in the script, and never repeated by us."""
    gpus: int | None = None
    gpus_per_node: int | None = None
    gpu_types: tuple[str, ...] = ()
    """Wanted GPU types in order of preference; empty leaves it to the workload class."""
    nodes: int | None = None
    ntasks: int | None = None
    cpus_per_task: int | None = None
    memory_mb: int | None = None
    """Memory per node."""
    time_seconds: int | None = None
    """Time limit; ``UNLIMITED`` asks for none, ``None`` leaves it to the defaults."""
    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    reservation: str | None = None
    array: str | None = None
    workload: str = "generic"
    template: str | None = None
    params: tuple[tuple[str, str], ...] = ()
    """Values for the template's own parameters."""
    environment: tuple[tuple[str, str], ...] = ()
    """Variables the rendered script exports."""
    max_cost_micros: int | None = None
    cpu_fallback: bool = False
    retries: int = 0
    idle_ok_seconds: int | None = None
    options: tuple[tuple[str, str | None], ...] = ()

    @property
    def is_exclusive(self) -> bool:
        """Whether its nodes are to be its own, with all their GPUs (sbatch --exclusive)."""
        return any(
            name == "exclusive" and not value
            for name, value in (*self.options, *self.script_options)
        )

    @property
    def wants_gpus(self) -> bool:
        """Whether any GPU is asked for."""
        return bool(self.gpus or self.gpus_per_node)
