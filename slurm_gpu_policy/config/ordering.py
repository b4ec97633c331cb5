"""Who goes first: the part ``ordering`` of the policy file (rules P-6xx)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from slurm_gpu_policy.config.fields import (
    Count,
    Duration,
    LowerCase,
    Name,
    Points,
    Positive,
    Strict,
)

MOST_POINTS = 100_000_000
"""Of all terms together, so that classes and terms find room in Slurm's 32 bits."""
PriorityClass = Literal["critical", "high", "normal", "low"]
Share = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
"""A part of a term's weight; below zero it takes points away."""


class Classes(Strict):
    """Which class a job is in, for `kind: priority`.

    The class an operator gave it (`gpu-policy set-priority`) comes first, then its QOS, its
    workload class, its account; `normal` where nothing is said.
    """

    qos: Annotated[dict[Name, PriorityClass], LowerCase] = Field(
        default_factory=dict, description="By QOS."
    )
    workloads: dict[Name, PriorityClass] = Field(
        default_factory=dict,
        description="By workload class. Users choose it themselves (`gpu-submit --workload`), so "
        "nothing above `normal` belongs here unless every user may have it.",
    )
    accounts: Annotated[dict[Name, PriorityClass], LowerCase] = Field(
        default_factory=dict, description="By account; the accounts below it are not meant."
    )


class History(Strict):
    """How run times are predicted from what has run before."""

    runs: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=20, description="Completed runs that are looked at, the latest ones."
    )
    at_least: Positive = Field(
        default=3, description="Runs there must be; with fewer the time limit counts."
    )
    quantile: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = Field(
        default=0.75,
        description="The part of those runs that the prediction is not shorter than; `0.5` is "
        "the median.",
    )


class FairShare(Strict):
    """What counts with `kind: fair_share`."""

    weight: Points = Field(
        default=100_000, description="Points of a fair-share factor of 1 (`sshare`'s FairShare)."
    )
    per_gpu: Points = Field(
        default=500,
        description="Points a user's job loses for each GPU of the same user and account that "
        "runs or stands ahead of it, so that a burst of submissions takes turns with others. A "
        "job without GPUs counts as one.",
    )


class Term(Strict):
    """A term of the score."""

    weight: Points = Field(
        default=0, description="The most points it gives or takes; 0 turns it off."
    )


class DeadlineTerm(Term):
    """P-611: a job whose deadline comes near goes ahead."""

    horizon: Duration = Field(
        default=86400,
        description="Time to spare at which it begins to count; all points where none is left. "
        "Time to spare is what remains until the deadline after the job's run time.",
    )
    own_word: bool = Field(
        default=False,
        description="Whether a deadline that stands only in gpu-submit's mark counts as well. It "
        "costs its user nothing; a job that misses Slurm's own `--deadline` is cancelled.",
    )


class WorkloadTerm(Term):
    """P-612: points for workload classes."""

    shares: dict[Name, Share] = Field(
        default_factory=dict,
        description="Part of the weight for each workload class, from -1 to 1; others get none.",
    )


class InteractiveTerm(Term):
    """P-613: somebody sits in front of it. All points or none."""

    workloads: tuple[Name, ...] = Field(
        default=("interactive",), description="Workload classes that are interactive."
    )
    partitions: tuple[Name, ...] = Field(
        default=(), description="Partitions all of whose jobs are interactive."
    )
    gpus: Count = Field(default=1, description="GPUs such a job may have at most.")
    time: Duration = Field(default=8 * 3600, description="Time limit it may have at most.")


class BudgetPaceTerm(Term):
    """P-614: an account that spends slower than its budget allows goes ahead, a faster one back."""

    tolerance: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = Field(
        default=0.5,
        description="How far off its pace an account gets all points: 0.5 is half as much again "
        "as an even spending would have been by now, or half of it.",
    )


class WasteTerm(Term):
    """P-615: who leaves GPUs idle goes back."""

    gpus: Positive = Field(default=4, description="Idle GPUs of a user that take all points.")


class EntryPenaltyTerm(Term):
    """P-616: a burst of submissions counts at once, before usage shows it."""

    gpus: Positive = Field(
        default=32,
        description="GPUs of the same user and account, running or submitted before, that take "
        "all points. A job without GPUs counts as one.",
    )


class FragmentationTerm(Term):
    """P-617: a job that fills what is free on its nodes exactly goes ahead. All points or none."""


class Terms(Strict):
    """Terms that are added to each job's score; all are off until they have a weight."""

    deadline: DeadlineTerm = Field(
        default=DeadlineTerm(), description="P-611: the deadline comes near."
    )
    workload: WorkloadTerm = Field(default=WorkloadTerm(), description="P-612: workload class.")
    interactive: InteractiveTerm = Field(
        default=InteractiveTerm(), description="P-613: somebody sits in front of it."
    )
    budget_pace: BudgetPaceTerm = Field(
        default=BudgetPaceTerm(),
        description="P-614: the account is under or over its budget's pace. Needs the ledger, "
        "which is to come; until then it gives no points.",
    )
    waste: WasteTerm = Field(
        default=WasteTerm(),
        description="P-615: GPUs its user leaves idle. Needs `gpu-sidecar`, which is to come; "
        "until then it takes no points.",
    )
    entry_penalty: EntryPenaltyTerm = Field(
        default=EntryPenaltyTerm(), description="P-616: a burst counts at once."
    )
    fragmentation: FragmentationTerm = Field(
        default=FragmentationTerm(), description="P-617: it fills a hole."
    )

    @model_validator(mode="after")
    def _within_reach(self) -> Self:
        found = sum(getattr(self, name).weight for name in type(self).model_fields)
        if found > MOST_POINTS:
            msg = f"{found} points in all: weights that are at most {MOST_POINTS} together"
            raise ValueError(msg)
        return self


class Ordering(Strict):
    """Who goes first. Without this part nobody's site factor is touched.

    One point is: with `slurm` and `priority` a point of Slurm's priority, with `fcfs` a second of
    waiting, with `sjf` a second of run time, with `fair_share` see there. Slurm looks at a
    partition's PriorityTier before all priorities, and no ordering changes that.
    """

    kind: Literal["slurm", "priority", "fcfs", "sjf", "fair_share"] = Field(
        default="slurm",
        description="`slurm`: Slurm's own order (P-601). `priority`: classes, and Slurm's own "
        "order within each (P-602). `fcfs`: first come, first served (P-603). `sjf`: shortest "
        "job first (P-604). `fair_share`: by share, taking turns (P-605). The terms are added "
        "to each.",
    )
    depth: Positive = Field(
        default=1000,
        description="With `fcfs`, `sjf` and `fair_share`: jobs at the head of the line that get "
        "their exact place; the others follow behind them in Slurm's own order. Slurm's "
        "bf_max_job_test is a good measure: what it does not look at needs no place.",
    )
    run_time: Literal["limit", "predicted"] = Field(
        default="limit",
        description="What `sjf` and the deadline term take for a job's run time: its time limit, "
        "or what `history` predicts, which is never more.",
    )
    history: History = Field(default=History(), description="How run times are predicted.")
    classes: Classes = Field(
        default=Classes(), description="Priority classes for `kind: priority`."
    )
    fair_share: FairShare = Field(default=FairShare(), description="For `kind: fair_share`.")
    terms: Terms = Field(default=Terms(), description="What is added to each job's score.")
