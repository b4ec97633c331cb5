"""The QOS of the policy file: what ``gpu-policy apply`` keeps in Slurm."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slurm_gpu_policy.config.accounts import Long, ManagedName, Many, Words
from slurm_gpu_policy.config.fields import Count, Strict

Flag = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z]+$")]
Factor = Annotated[
    str,
    Field(max_length=16, pattern=r"^\d{1,6}(\.\d{1,6})?$", json_schema_extra={"unit": "factor"}),
]


class QosLimits(Strict):
    """Slurm's own limits of one QOS. `unlimited` takes a limit away."""

    gpus: Many | None = Field(default=None, description="GPUs held at once in it (GrpTRES).")
    gpus_per_job: Many | None = Field(default=None, description="GPUs of one job (MaxTRESPerJob).")
    gpus_per_user: Many | None = Field(
        default=None, description="GPUs one user holds in it (MaxTRESPerUser)."
    )
    gpus_per_account: Many | None = Field(
        default=None, description="GPUs one account holds in it (MaxTRESPerAccount)."
    )
    time: Long | None = Field(default=None, description="Time limit of one job (MaxWall).")
    running_jobs: Many | None = Field(default=None, description="Jobs that run in it (GrpJobs).")
    submitted_jobs: Many | None = Field(
        default=None, description="Jobs that wait or run in it (GrpSubmitJobs)."
    )
    running_jobs_per_user: Many | None = Field(
        default=None, description="Jobs of one user that run in it (MaxJobsPerUser)."
    )
    submitted_jobs_per_user: Many | None = Field(
        default=None,
        description="Jobs of one user that wait or run in it (MaxSubmitJobsPerUser).",
    )


class Qos(Strict):
    """One QOS. What is left out is left as it is in Slurm.

    The QOS that `over_quota` and `submission.over_budget_qos` name are made also without an
    entry here.
    """

    description: Words | None = Field(
        default=None, description="A line about it; Slurm keeps it in lower case."
    )
    priority: Count | None = Field(default=None, description="Its priority (PriorityWeightQOS).")
    preempts: tuple[ManagedName, ...] | None = Field(
        default=None,
        description="QOS whose jobs give way to its jobs (PreemptType=preempt/qos); `[]` for none.",
    )
    preempt_mode: Literal["cluster", "requeue", "cancel"] | None = Field(
        default=None,
        description="What becomes of its jobs when they are preempted; `cluster`: as PreemptMode "
        "in slurm.conf says.",
    )
    min_run_time: Long | None = Field(
        default=None,
        description="How long its jobs run at least before they can be preempted "
        "(PreemptExemptTime); `unlimited` takes the QOS' own value away.",
    )
    grace_seconds: Count | None = Field(
        default=None,
        description="Seconds from the warning (SIGTERM) to the end of a preempted job (GraceTime).",
    )
    usage_factor: Factor | None = Field(
        default=None,
        description="What its jobs' usage is multiplied by (UsageFactor), such as `0.5`.",
    )
    flags: tuple[Flag, ...] | None = Field(
        default=None,
        description="Slurm's flags of a QOS, such as `DenyOnLimit`, `NoDecay`; `[]` for none.",
    )
    limits: QosLimits = Field(default=QosLimits(), description="Its limits in Slurm.")
