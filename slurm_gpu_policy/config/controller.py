"""How ``gpu-policyd`` runs: the part ``controller`` of the policy file."""

from __future__ import annotations

from pydantic import Field

from slurm_gpu_policy.config.fields import Address, Duration, Name, Positive, Strict


class Controller(Strict):
    """`gpu-policyd`: how often it looks, where it keeps its records, how it is reached.

    A change of `database`, `socket`, `listen`, `metrics`, `actor` or `lease` takes effect at the
    next start, as that of `slurm` does; all else with a reload (SIGHUP).
    """

    tick: Duration = Field(
        default=60,
        ge=1,
        description="Time from one tick to the next. Once a tick Slurm is read, what the rules "
        "want is decided, and what differs is changed.",
    )
    updates_per_tick: Positive = Field(
        default=1000,
        description="Most jobs that one tick changes; the head of the queue comes first and the "
        "rest follows in the next ticks. slurmctld takes about 2,000 changes in a second, and "
        "schedules nothing meanwhile.",
    )
    lease: Duration | None = Field(
        default=None,
        ge=1,
        description="How long a leader that is not heard of stays the leader; one and a half "
        "ticks if left out, so that another controller takes over within two.",
    )
    database: str = Field(
        default="sqlite:////var/lib/slurm-gpu-policy/policy.db",
        min_length=1,
        description="Where the lease, the audit log and the approvers' votes are kept: "
        "`sqlite:////PATH`, or `postgresql://…` where two controllers on two machines share it.",
    )
    socket: str = Field(
        default="/run/slurm-gpu-policy/gpu-policyd.sock",
        min_length=1,
        max_length=100,
        pattern=r"^/",
        description="Unix socket on which `gpu-policy approve` and its like reach `gpu-policyd`.",
    )
    listen: Address = Field(
        default="",
        description="Address on which `gpu-policyd` takes requests from other machines, which "
        "carry a MUNGE credential: `HOST:PORT`, such as `10.0.0.1:9812`, or `0.0.0.0:9812` for all "
        "of its addresses; `''` for none.",
    )
    reach: Address = Field(
        default="",
        description="Address at which `gpu-policyd` is asked from machines that do not have its "
        "socket (login nodes): `HOST:PORT`; `''`: it is asked on the socket only.",
    )
    metrics: Address = Field(
        default="127.0.0.1:9811",
        description="Address of the metrics for Prometheus; `''` for none.",
    )
    actor: Name | None = Field(
        default=None,
        description="Name in the audit log and in the lease; `gpu-policyd@HOST` if left out. Two "
        "controllers never have the same one.",
    )
    history: Duration = Field(
        default=600,
        ge=60,
        description="How often the run times of ended jobs are read from the accounting, where "
        "an ordering predicts run times from them.",
    )
    history_span: Duration = Field(
        default=14 * 86400,
        ge=3600,
        description="How far back they are read.",
    )
