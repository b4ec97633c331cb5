"""What ``gpu-policy apply`` writes beside Slurm's database: the part ``apply`` of the file."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from slurm_gpu_policy.config.fields import Strict

AbsolutePath = Annotated[
    str,
    Field(
        min_length=2,
        max_length=4000,
        pattern=r"^/[^\x00-\x1f\x7f]*$",
        json_schema_extra={"unit": "path"},
    ),
]


class Apply(Strict):
    """Where `gpu-policy apply` keeps its files; it runs on the machine of slurmctld."""

    state_folder: AbsolutePath = Field(
        default="/var/lib/slurm-gpu-policy",
        description="Folder of `applied-CLUSTER.json`, which remembers what apply has made in "
        "Slurm. Shared, where apply runs on more than one machine.",
    )
    job_submit: bool = Field(
        default=True,
        description="Whether apply also writes `job_submit.lua`, beside slurm.conf, and the "
        "table that it reads.",
    )
    limits_table: AbsolutePath = Field(
        default="/etc/slurm-gpu-policy/limits.lua",
        description="The table that job_submit.lua reads. Another place must also stand in "
        "slurmctld's environment (GPU_POLICY_LIMITS).",
    )
