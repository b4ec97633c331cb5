"""What a job in the queue, or a run in the accounting, makes of its claim."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.model.ledger import Claim
from slurm_gpu_policy.model.prices import Cost
from slurm_gpu_policy.policy.pending import task_count
from slurm_gpu_policy.policy.prices.pricing import use_of_job, use_of_run

if TYPE_CHECKING:
    from slurm_gpu_policy.model.job import AccountingRecord, Job
    from slurm_gpu_policy.model.ledger import ClaimState
    from slurm_gpu_policy.model.prices import Use

NOTHING = Cost()


def waiting(job: Job, known: Claim | None, now: int) -> Claim:
    """Return the claim of a job that waits; *known* is its claim so far, or its promise."""
    return Claim(
        account=job.account,
        user=job.user,
        state="pending",
        job_id=job.job_id,
        submit_time=job.submit_time,
        restart=job.restarts,
        token=known.token if known else "",
        use=use_of_job(job),
        tasks=task_count(job),
        seconds=job.time_limit_seconds or 0,
        known_since=known.known_since if known else now,
        legs=known.legs if known else (),
        claim_id=known.claim_id if known else 0,
    )


def running(job: Job, known: Claim | None, use: Use, accrued: Cost, now: int) -> Claim:
    """Return the claim of a job that holds nodes, with what it has cost so far.

    A job that was resized goes on under its newest claim, which begins when it was resized.
    """
    start, seconds = ran(job, known)
    return Claim(
        account=job.account,
        user=job.user,
        state="running",
        job_id=job.job_id,
        submit_time=known.submit_time if known and known.job_id is not None else job.submit_time,
        restart=job.restarts,
        token=known.token if known else "",
        use=use,
        start_time=start,
        seconds=seconds,
        accrued=accrued,
        accrued_until=now,
        known_since=known.known_since if known else now,
        legs=known.legs if known else (),
        claim_id=known.claim_id if known else 0,
    )


def ran(job: Job, known: Claim | None) -> tuple[int, int]:
    """Return since when a job runs, and for how long, suspended time not counted."""
    start = job.start_time or 0
    is_later_part = (
        known is not None
        and known.job_id is not None
        and known.submit_time != job.submit_time
        and known.start_time is not None
    )
    if not is_later_part:
        return start, max(job.elapsed_seconds, 0)
    assert known is not None  # noqa: S101 - for the type checker
    resized = known.start_time or start
    return resized, max(job.elapsed_seconds - (resized - start), 0)


def left_queue(job: Job, known: Claim) -> Claim:
    """Return the claim of a job that ended, whose accounting has not been read."""
    return _with(known, known.state, known.seconds, str(job.state.value), job.end_time)


def never_ran(known: Claim, end_state: str, end: int | None) -> Claim:
    """Rule C-409: return the claim of what ended before it had begun."""
    return _with(known, "ended", 0, end_state, end, started=False)


def _with(  # noqa: PLR0913 - a claim's fields
    known: Claim,
    state: ClaimState,
    seconds: int,
    end_state: str,
    end: int | None,
    *,
    started: bool = True,
) -> Claim:
    return Claim(
        account=known.account,
        user=known.user,
        state=state,
        job_id=known.job_id,
        submit_time=known.submit_time,
        restart=known.restart,
        token=known.token,
        use=known.use,
        tasks=known.tasks,
        start_time=known.start_time if started else None,
        seconds=seconds,
        accrued=known.accrued if started else NOTHING,
        accrued_until=known.accrued_until if started else None,
        end_time=end,
        end_state=end_state,
        known_since=known.known_since,
        legs=known.legs,
        claim_id=known.claim_id,
    )


def has_started(run: AccountingRecord) -> bool:
    """Whether a run held anything at all, be it for less than a second.

    Slurm gives what was cancelled while it waited a start that is its end, but no nodes.
    """
    return run.start_time is not None and bool(run.elapsed_seconds or run.allocated_tres)


def has_ended(run: AccountingRecord) -> bool:
    """Whether a run's record will not change any more, save to be corrected."""
    return run.end_time is not None


def settled(  # noqa: PLR0913, PLR0917 - what is known of a run
    run: AccountingRecord, use: Use, end_state: str, known: Claim | None, cost: Cost, now: int
) -> Claim:
    """Return the claim of a run that ended, for which *cost* is charged in all."""
    return Claim(
        account=run.account,
        user=run.user,
        state="ended",
        job_id=run.job_id,
        submit_time=run.submit_time,
        restart=max(run.restarts, known.restart if known else 0),
        token=known.token if known else "",
        use=use,
        start_time=run.start_time,
        seconds=run.elapsed_seconds,
        accrued=cost,
        accrued_until=run.end_time,
        end_time=run.end_time,
        end_state=end_state,
        settled=True,
        known_since=known.known_since if known else now,
        legs=known.legs if known else (),
        claim_id=known.claim_id if known else 0,
    )


def only_accounted(run: AccountingRecord, known: Claim | None, now: int) -> Claim:
    """Return the claim of a run that goes on, of which the queue has said nothing yet.

    Slurm 22.05 gives the record of a run that ended to the next one where both have the same
    submit time: *known* is then settled, and open again.
    """
    return Claim(
        account=run.account,
        user=run.user,
        state="running",
        job_id=run.job_id,
        submit_time=run.submit_time,
        restart=max(run.restarts, known.restart if known else 0),
        token=known.token if known else "",
        use=use_of_run(run),
        start_time=run.start_time,
        known_since=known.known_since if known else now,
        legs=known.legs if known else (),
        claim_id=known.claim_id if known else 0,
    )


def says_the_same(claim: Claim, run: AccountingRecord, end_state: str) -> bool:
    """Whether a settled claim stands as the accounting has it now."""
    return (
        claim.settled
        and claim.seconds == run.elapsed_seconds
        and claim.start_time == run.start_time
        and claim.account == run.account
        and claim.user == run.user
        and claim.end_state == end_state
        and claim.end_time == run.end_time
        and claim.use == use_of_run(run)
    )
