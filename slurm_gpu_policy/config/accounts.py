"""The accounts of the policy file."""

from __future__ import annotations

from pydantic import Field

from slurm_gpu_policy.config.fields import Count, Strict


class Account(Strict):
    """One Slurm account. What is left out is left as it is in Slurm."""

    guaranteed_gpus: Count | None = Field(
        default=None,
        description="GPUs this account can count on at any time (rules Q-7xx); what it holds "
        "beyond is lent to it, and given back when others need their own.",
    )
