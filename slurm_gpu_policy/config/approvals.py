"""Which jobs wait for somebody's approval: the part ``approvals`` of the policy file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from slurm_gpu_policy.config.fields import Count, Duration, Name, Positive, Price, Strict


class Threshold(Strict):
    """A job that exceeds all that is set here needs an approval. At least one field is set."""

    gpus: Count | None = Field(default=None, description="More GPUs than this (of one task).")
    time: Duration | None = Field(default=None, description="A longer time limit than this.")
    gpu_hours: Count | None = Field(
        default=None,
        description="More GPU-hours than this: GPUs x time limit x array tasks.",
    )
    cost: Price | None = Field(
        default=None, description="A higher estimated cost than this (rule C-401), in `currency`."
    )
    accounts: tuple[Name, ...] = Field(
        default=(), description="Only for jobs of these accounts; for all if empty."
    )
    workloads: tuple[Name, ...] = Field(
        default=(),
        description="Only for jobs of these workload classes; for all if empty. Users choose the "
        "class themselves (`gpu-submit --workload`), so who wants no approval names another.",
    )
    needed: Positive | None = Field(
        default=None, description="Approvals that it takes; the site's `needed` if left out."
    )

    @model_validator(mode="after")
    def _must_say_something(self) -> Threshold:
        if not self.model_fields_set - {"needed"}:
            msg = "a mapping: with at least one of gpus, time, gpu_hours, cost, accounts, workloads"
            raise ValueError(msg)
        return self


class Approvers(Strict):
    """Who may approve and deny. Nobody may approve a job of their own."""

    users: tuple[Name, ...] = Field(default=(), description="User names.")
    groups: tuple[Name, ...] = Field(default=(), description="Groups of the operating system.")
    coordinators: bool = Field(
        default=False,
        description="Whether the coordinators of the job's account, or of one above it, may "
        "(`sacctmgr add coordinator`).",
    )


class Approvals(Strict):
    """Jobs above a threshold are held until enough approvers agree (rules V-9xx)."""

    thresholds: tuple[Threshold, ...] = Field(
        default=(), description="A job above any of these needs an approval; none does if empty."
    )
    approvers: Approvers = Field(default=Approvers(), description="Who may approve and deny.")
    needed: Positive = Field(default=1, description="Approvals that it takes, of different people.")
    expires: Duration | None = Field(
        default=None,
        ge=60,
        description="How long after its submission a job waits for approvals; for ever if left "
        "out.",
    )
    on_expiry: Literal["cancel", "keep"] = Field(
        default="keep",
        description="What becomes of a job that nobody approved in time: it is cancelled, or kept "
        "held.",
    )
    on_denial: Literal["cancel", "keep"] = Field(
        default="cancel",
        description="What becomes of a job that an approver denied: it is cancelled, or kept held, "
        "so that the approver can still change their mind.",
    )

    @model_validator(mode="after")
    def _must_be_possible(self) -> Approvals:
        who = self.approvers
        if not self.thresholds or who.groups or who.coordinators:
            return self
        most = max(each.needed or self.needed for each in self.thresholds)
        if len(who.users) < most:
            msg = (
                f"a mapping: with at least {most} in approvers.users, or with a group or the "
                "coordinators, because so many must agree"
            )
            raise ValueError(msg)
        return self
