"""Who may spend how much: the parts ``budgets`` and ``ledger`` of the policy file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from slurm_gpu_policy.config.accounts import ManagedName
from slurm_gpu_policy.config.applying import AbsolutePath
from slurm_gpu_policy.config.fields import Count, Duration, Percent, Positive, Price, Strict
from slurm_gpu_policy.config.pricing import DateTime


class Budget(Strict):
    """One budget. The key is its name; what it limits is an account, or users in one.

    Several budgets of one account are drawn on in the order of the file. A job draws on the
    budgets of its user in the account, on the account's, and on those of all accounts above.
    """

    account: ManagedName | None = Field(
        default=None, description="Slurm account; the budget's own name if left out."
    )
    user: ManagedName | None = Field(
        default=None,
        description="Only what this user spends in the account (not below it).",
    )
    each_user: bool = Field(
        default=False, description="As much for each user of the account, by themselves."
    )
    amount: Price | None = Field(
        default=None, description="What is granted each period, in `currency`."
    )
    gpu_hours: Count | None = Field(
        default=None, description="What is granted each period in GPU-hours, whatever their price."
    )
    period: Literal["month", "quarter", "year", "once"] = Field(
        default="month", description="How often it is granted; `once` for a project with dates."
    )
    start: DateTime | None = Field(
        default=None, description="When the budget begins, such as `2030-01-01`; it was always."
    )
    end: DateTime | None = Field(default=None, description="When it ends for good; never.")
    roll_over: Percent = Field(
        default=0,
        description="How much of what a period granted may be carried into the next, in percent; "
        "what is left beyond it expires (rule B-005).",
    )
    soft: Percent | None = Field(
        default=None,
        description="Percent spent from which on submissions are warned (rule B-002).",
    )
    overdraft: Price | None = Field(
        default=None, description="How far it may be exceeded, in `currency`."
    )
    overdraft_gpu_hours: Count | None = Field(
        default=None, description="How far it may be exceeded, in GPU-hours."
    )

    @model_validator(mode="after")
    def _must_be_of_one_kind(self) -> Budget:
        if (self.amount is None) == (self.gpu_hours is None):
            msg = "a mapping: with either amount or gpu_hours"
            raise ValueError(msg)
        if (self.overdraft if self.amount is None else self.overdraft_gpu_hours) is not None:
            other = "overdraft_gpu_hours" if self.amount is None else "overdraft"
            msg = f"a mapping: whose overdraft is of the same kind ({other})"
            raise ValueError(msg)
        if self.user is not None and self.each_user:
            msg = "a mapping: with either user or each_user"
            raise ValueError(msg)
        if self.start and self.end and self.end <= self.start:
            msg = f"a mapping: whose end comes after its start ({self.start})"
            raise ValueError(msg)
        return self


class Ledger(Strict):
    """How the books are kept, and what follows from them.

    They are kept where the file has `budgets` or `pricing`; they record whatever the enforcement.
    """

    keep: bool | None = Field(
        default=None,
        description="Whether the books are kept; if left out, where there are budgets or prices.",
    )
    reread: Duration = Field(
        default=3600,
        ge=60,
        description="How far back the accounting is read again at each tick, since slurmdbd may "
        "hear of a job's end late. While slurmctld has messages for it left, further.",
    )
    promise: Duration = Field(
        default=600,
        ge=10,
        description="How long what gpu-submit reserved waits for its job to be seen.",
    )
    warn_at: tuple[Positive, ...] = Field(
        default=(50, 80, 100), description="Percent spent at which people are told (rule B-010)."
    )
    when_spent: Literal["hold", "qos", "nothing"] = Field(
        default="hold",
        description="What becomes of pending jobs that their budget does not cover: they are held "
        "until it does (rule B-006), go to `submission.over_budget_qos` (B-007), or `nothing`.",
    )
    slurm_limits: Literal["auto", "off"] = Field(
        default="auto",
        description="Whether Slurm's own GrpTRESMins of the accounts are kept equal to what is "
        "left (rule B-008); `auto` does so where no usage decays and limits are enforced `safe`.",
    )
    table: AbsolutePath = Field(
        default="/var/lib/slurm-gpu-policy/budgets.lua",
        description="The file in which `gpu-policyd` writes at each tick what accounts have left, "
        "for job_submit.lua; slurmctld must be able to read it.",
    )
    end_jobs_after: Duration | None = Field(
        default=None,
        ge=300,
        description="How long after a first warning a running job is ended whose budget is spent "
        "beyond its overdraft (rule B-009), at least `5m`; never if left out.",
    )
    unreachable: Literal["open", "closed"] = Field(
        default="open",
        description="Whether gpu-submit submits while the books cannot be asked: `open` says so "
        "and submits, `closed` refuses.",
    )
    own_books: bool = Field(
        default=False,
        description="Without `gpu-policyd`: gpu-submit and gpu-policy keep the books themselves, "
        "in `controller.database`. For a single user or for trying out: whoever can write that "
        "file can change every amount in it.",
    )
