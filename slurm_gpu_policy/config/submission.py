"""What becomes of raw sbatch, srun and salloc: the part ``submission`` of the policy file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slurm_gpu_policy.config.fields import GpuTypeName, Name, Strict


class Submission(Strict):
    """What Slurm itself, through job_submit.lua, does with requests that say too little.

    It acts only where the rule's enforcement is `enforce`; `advise` tells the user, `observe`
    writes slurmctld's log. Without the table of `gpu-policy apply` it does nothing.
    """

    untyped: Literal["type", "refuse", "pass"] = Field(
        default="type",
        description="A request for GPUs that names no type gets the partition's default type "
        "(`type`), is refused, or passes as it is (rule L-204). With `type`, it is refused in a "
        "partition of several types that has no default.",
    )
    default_types: dict[Name, GpuTypeName] = Field(
        default_factory=dict,
        description="Default GPU type by partition. Where left out: `defaults.gpu_type` if the "
        "partition has it, else its only type.",
    )
    missing_time: Literal["complete", "refuse", "pass"] = Field(
        default="complete",
        description="A job without a time limit gets the default of its workload class, of the "
        "site or of the partition, cut to the limits that hold for it (`complete`, rule R-305), "
        "is refused (rule L-205), or gets the partition's from Slurm (`pass`).",
    )
    over_budget_qos: Name | None = Field(
        default=None,
        description="QOS that jobs with GPUs go to when their account has spent its budget (rule "
        "L-207); they are refused if left out.",
    )
