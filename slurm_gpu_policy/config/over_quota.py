"""Lending idle GPUs and getting them back: the part ``over_quota`` of the policy file (Q-7xx)."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from slurm_gpu_policy.config.fields import Duration, Strict

QosName = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9_.:-]+$")]
"""A QOS that a job's mark can name."""


class OverQuota(Strict):
    """Jobs beyond their account's `guaranteed_gpus` run in a QOS that yields.

    Without this part no job changes its QOS. `gpu-policy apply` makes the two QOS; the
    guaranteed one preempts the other (PreemptType=preempt/qos). The over-quota QOS is best made
    the default one of these accounts: jobs may start before the controller has seen them.
    """

    guaranteed_qos: QosName = Field(
        default="guaranteed", description="QOS of jobs within their account's guarantee."
    )
    over_quota_qos: QosName = Field(
        default="over-quota", description="QOS of jobs beyond it; `guaranteed_qos` preempts it."
    )
    min_run_time: Duration = Field(
        default=1800,
        description="How long a job beyond the guarantee runs at least before it can be "
        "preempted (PreemptExemptTime of its QOS), and so how long an account may wait for "
        "GPUs it is guaranteed.",
    )
    settle_time: Duration = Field(
        default=600,
        description="Time between two moves of one job. Putting a new job into its place is "
        "not counted.",
    )

    @model_validator(mode="after")
    def _two_qos(self) -> Self:
        if self.guaranteed_qos.lower() == self.over_quota_qos.lower():
            msg = (
                f"{self.over_quota_qos!r} is both guaranteed_qos and over_quota_qos: "
                "two different QOS, because the one preempts the other"
            )
            raise ValueError(msg)
        return self
