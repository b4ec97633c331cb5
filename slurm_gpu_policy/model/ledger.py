"""The books: funds, what jobs claim of them, and the entries that move amounts.

Amounts are integers in the unit of their fund: micro-units of the currency, or GPU-seconds. An
entry moves an amount between two buckets of one fund, or between one and the site outside, so that
nothing comes from nowhere: the sum over all buckets and the site is always zero.
"""

from __future__ import annotations

from dataclasses import field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from slurm_gpu_policy.model.prices import Cost, Use
from slurm_gpu_policy.model.record import record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.prices import Unit

Bucket = Literal["site", "available", "reserved", "spent"]
Kind = Literal["grant", "reserve", "charge", "release", "refund", "adjust", "expire", "transfer"]
ClaimState = Literal["promised", "pending", "running", "ended"]

MOVES: Final[Mapping[Kind, frozenset[tuple[Bucket, Bucket]]]] = MappingProxyType(
    {
        "grant": frozenset({("site", "available")}),
        "reserve": frozenset({("available", "reserved")}),
        "release": frozenset({("reserved", "available")}),
        "charge": frozenset({("reserved", "spent"), ("available", "spent")}),
        "refund": frozenset({("spent", "available")}),
        "adjust": frozenset({("site", "available"), ("available", "site")}),
        "expire": frozenset({("available", "site"), ("site", "available")}),
        "transfer": frozenset({("available", "site"), ("site", "available")}),
    }
)
"""From which bucket to which each kind of entry moves an amount. An ``expire`` from the site takes
back a part of an earlier one, where a job's end came to be known only after its period's."""

_NO_GPUS: Mapping[str, int] = MappingProxyType({})


@record
class Fund:
    """A budget in one of its periods, and how it stands: ``available + reserved + spent`` is what
    was granted to it, less what expired or was taken back.

    The ``level`` that it belongs to is ``(account, user)``; a job draws on every level of its
    line: its user's own funds in the account, the account's, those of each account above, and
    last the cluster's, whose account is ``""`` and which has no limit: there every run of every
    job is charged, once for each month it ran in.
    """

    budget: str
    account: str
    user: str = ""
    """``""`` for a fund of the whole account."""
    unit: Unit = "money"
    start: int = 0
    """Unix seconds; what runs in ``[start, end)`` is charged to it."""
    end: int | None = None
    position: int = 0
    """Of several funds of one level, those with the lower position are drawn on first."""
    overdraft: int = 0
    unlimited: bool = False
    soft: int | None = None
    """Of what was granted, the millionths from which on its users are warned (rule B-002)."""
    closed: bool = False
    available: int = 0
    reserved: int = 0
    spent: int = 0
    fund_id: int = 0

    @property
    def level(self) -> tuple[str, str]:
        """The account and the user (or ``""``) that it limits."""
        return self.account, self.user

    @property
    def granted(self) -> int:
        """What was put into it in all, less what expired or was taken back."""
        return self.available + self.reserved + self.spent


@record
class Leg:
    """What one claim has of one fund."""

    fund_id: int
    reserved: int = 0
    charged: int = 0
    """Net of refunds that correct a charge (rule B-011), but not of refunds by C-406 to C-411."""
    refunded: int = 0
    """By rules C-406 to C-411."""
    gpu_seconds: int = 0
    """Charged, whatever the fund's unit."""


@record
class Claim:
    """Whatever may cost: a promise to a submission, a pending job, a run.

    One run of a job is one claim, which is told apart by job id and submit time: Slurm gives a
    requeued job a new submit time and its database has each pair once (job_table, unique key
    ``id_job, time_submit``). A promise has a token only, until its job is seen.
    """

    account: str
    user: str
    state: ClaimState
    job_id: JobId | None = None
    submit_time: int | None = None
    restart: int = 0
    """How often the job had been put back into the queue before; for people."""
    token: str = ""
    """The mark that gpu-submit put into the job's comment."""
    use: Use = field(default_factory=Use)
    """Of one task."""
    tasks: int = 1
    """Tasks of an array that wait together; 1 for anything else."""
    start_time: int | None = None
    seconds: int = 0
    """Charged run time so far; of a promise or a pending job, its time limit (0: none)."""
    accrued: Cost = field(default_factory=Cost)
    """Of a running job: its cost so far, none of which need be charged yet."""
    accrued_until: int | None = None
    end_time: int | None = None
    end_state: str = ""
    """Slurm's state in which the run ended; ``""`` before."""
    settled: bool = False
    """Whether its final charge stands in the books."""
    known_since: int = 0
    """Unix seconds when the books first heard of it."""
    legs: tuple[Leg, ...] = ()
    claim_id: int = 0

    @property
    def reserved(self) -> bool:
        """Whether anything is set aside for it."""
        return any(leg.reserved for leg in self.legs)


@record
class Posting:
    """An entry that is to be written; ``claim`` is its place among the claims saved with it."""

    kind: Kind
    fund_id: int
    source: Bucket
    target: Bucket
    amount: int
    """Never negative."""
    rule: str
    actor: str
    reason: str = ""
    gpu_seconds: int = 0
    claim_id: int | None = None
    batch: str = ""
    """The same text on the two entries of a transfer, or of one import."""


@record
class Entry:
    """An entry as it stands in the books, for ever."""

    entry_id: int
    time: int
    """Unix seconds when it was written."""
    posting: Posting
    sequence: int = 0
    """Of the entries of one kind on one fund for one claim: 0, 1, ..."""
    account: str = ""
    user: str = ""
    job_id: JobId | None = None
    submit_time: int | None = None
    restart: int = 0


@record
class FundView:
    """A fund as people see it; all amounts in its unit."""

    fund: Fund
    settled: int
    """What ended runs cost, less refunds; and the part of running jobs in periods before."""
    in_flight: int
    """Set aside for jobs that run."""
    committed: int
    """Set aside for jobs that wait, and promised to submissions."""


@record
class LedgerState:
    """What the controller knows of money after it brought the books up to date."""

    time: int
    views: tuple[FundView, ...] = ()
    """All open funds."""
    uncovered: Mapping[JobId, str] = field(default_factory=lambda: MappingProxyType({}))
    """Pending jobs (by :attr:`Job.job_id`) for which nothing could be set aside, and why, in
    words for their owners. A job without any budget on its line is never here."""
    overspent: Mapping[tuple[str, str], int] = field(default_factory=lambda: MappingProxyType({}))
    """Levels whose running jobs alone exceed what is left and the overdraft, and by how much."""
    parents: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """By account: the account above it."""
    pace: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """By account: what it has spent, over what an even spending would have spent by now."""
    problems: tuple[str, ...] = ()
    """What could not be read or is odd, in words (accounting behind, runaway jobs)."""
