"""When a job that ended is started again: the part ``retries`` of the policy file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slurm_gpu_policy.config.fields import Count, Duration, Positive, Strict

End = Literal["node_fail", "boot_fail", "failed", "out_of_memory", "preempted", "timeout"]


class Retries(Strict):
    """Which jobs are tried again, how often and when (rules T-8xx)."""

    ends: tuple[End, ...] = Field(
        default=("node_fail", "boot_fail", "failed", "preempted"),
        description="Ends after which a job with attempts left is started again: `node_fail`, "
        "`boot_fail`, `failed` (a non-zero exit code or a signal), `out_of_memory`, `preempted`, "
        "`timeout`. A job that was cancelled or that missed its deadline never is.",
    )
    most: Count = Field(
        default=3, description="Most retries that a job may have, whatever its user asks for."
    )
    default: Count = Field(
        default=0, description="Retries of a job whose user asks for none (`sbatch` too)."
    )
    first_delay: Duration = Field(
        default=60, ge=1, description="How long the first retry waits after the end."
    )
    factor: Positive = Field(
        default=2, description="How many times longer each further retry waits."
    )
    longest_delay: Duration = Field(
        default=3600, ge=1, description="The longest that a retry waits."
    )
    exclude_bad_node: tuple[Literal["node_fail", "boot_fail", "failed"], ...] = Field(
        default=("node_fail", "boot_fail"),
        description="Ends after which the retry avoids the node: of several nodes those that are "
        "down now; where none is, nobody knows which it was, and none is avoided.",
    )
    keep_place: bool = Field(
        default=True,
        description="Whether a retry keeps the job's place in the queue: its first submission "
        "counts for `fcfs`, and the age that it had reached at its first start is given back "
        "through the site factor.",
    )
    count_slurm_requeues: bool = Field(
        default=True,
        description="Whether a restart that is not ours uses up a retry: Slurm's own after a node "
        "failure or a preemption, or the user's `scontrol requeue`. Slurm does not tell them "
        "apart.",
    )
