"""The fake's accounting: runs of jobs as sacct has them."""

from __future__ import annotations

from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.job import AccountingRecord, JobState


def overlaps(times, start, end):
    began, ended = times
    if began is None or (end is not None and began >= end):
        return False
    return start is None or ended is None or ended > start


def _tres(job):
    return job.tres


def tres_text(job):
    return ",".join(
        f"{name}={count}M" if name == "mem" else f"{name}={count}"
        for name, count in _tres(job).items()
    )


def record_of(job, now):
    ran = job.start_time is not None and bool(job.held)
    over = job.state.is_over
    end = job.end_time if over or job.state is JobState.REQUEUED else None
    return AccountingRecord(
        job_id=JobId(job.job_id),
        display_id=job.display_id,
        user=job.user,
        account=job.account,
        partition=job.partitions[0],
        qos=job.qos,
        name=job.name,
        state=job.state,
        submit_time=job.submit_time,
        eligible_time=job.submit_time,
        start_time=job.start_time if ran else None,
        end_time=end,
        elapsed_seconds=(end or now) - job.start_time if ran else 0,
        suspended_seconds=0,
        time_limit_seconds=job.time_limit,
        exit_code=job.exit_code,
        exit_signal=job.exit_signal,
        node_list=",".join(job.held),
        allocated_tres=_tres(job) if ran else {},
        comment=job.comment,
        admin_comment=job.admin_comment,
        restarts=job.restarts,
    )
