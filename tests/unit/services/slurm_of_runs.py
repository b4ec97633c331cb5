"""A Slurm that only keeps time: jobs wait, run and end; slurmdbd hears when a test says so."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from slurm_gpu_policy.errors import SlurmUnavailable
from slurm_gpu_policy.model.job import AccountingRecord, JobState
from slurm_gpu_policy.model.tag import write_tag
from tests.builders import make_job


def tres_of(gpus):
    tres = {"cpu": 4, "mem": 2048}
    if gpus:
        tres |= {"gres/gpu": gpus, "gres/gpu:h100": gpus}
    return MappingProxyType(tres)


class FakeAccounting:
    """Implements AccountPort: runs that a test puts in; ``failing`` makes it raise."""

    def __init__(self) -> None:
        self.runs: dict = {}
        self.failing = False
        self.backlog: int | None = 0
        self.asked: list = []

    def accounting(self, *, start=None, end=None, job_ids=(), users=(), accounts=()):
        self.asked.append((start, end, tuple(job_ids)))
        if self.failing:
            msg = "slurmdbd is away"
            raise SlurmUnavailable(msg)
        if job_ids:
            return tuple(run for run in self.runs.values() if str(run.job_id) in job_ids)
        return tuple(
            run
            for run in self.runs.values()
            if run.start_time is not None
            and (end is None or run.start_time < end)
            and (start is None or run.end_time is None or run.end_time > start)
        )

    def accounting_backlog(self):
        if self.failing:
            msg = "slurmctld is away"
            raise SlurmUnavailable(msg)
        return self.backlog


class SimulatedJob:
    """One job, or the waiting rest of an array."""

    def __init__(self, number, now, **fields) -> None:
        self.number = number
        self.submit = self.shown_submit = now
        self.user, self.account = "u1", "nlp"
        self.gpus, self.limit, self.token = 1, 3600, ""
        self.tasks, self.array = 1, None
        self.start = None
        self.suspended_at = None
        self.suspended = 0
        self.restarts = 0
        self.resized_at = None
        vars(self).update(fields)

    def elapsed(self, now):
        """Of the run as squeue has it: since its start, suspended time left out."""
        end = now if self.suspended_at is None else self.suspended_at
        return end - self.start - self.suspended

    def shown(self, now):
        state = JobState.PENDING
        if self.start is not None:
            state = JobState.RUNNING if self.suspended_at is None else JobState.SUSPENDED
        task = f"1-{self.tasks}" if self.tasks > 1 else ""
        return replace(
            make_job(self.number),
            user=self.user,
            account=self.account,
            state=state,
            gpus=self.gpus,
            tres=tres_of(self.gpus),
            time_limit_seconds=self.limit,
            submit_time=self.shown_submit,
            eligible_time=self.shown_submit,
            start_time=self.start,
            elapsed_seconds=self.elapsed(now) if self.start is not None else 0,
            node_list="gpu01" if self.start is not None else "",
            comment=write_tag({"token": self.token}) if self.token else "",
            array_job_id=self.array,
            array_task=task if self.array is not None else "",
            restarts=self.restarts,
        )


class RunsOfSlurm(FakeAccounting):
    """Jobs, the truth about their runs, and what of it the accounting has been told."""

    def __init__(self, clock) -> None:
        super().__init__()
        self.clock = clock
        self.jobs: list[SimulatedJob] = []
        self.truth: dict = {}
        self._messages: list = []
        self._next = 1

    @property
    def now(self):
        return self.clock.now()

    def submit(self, **fields):
        job = SimulatedJob(self._next, self.now, **fields)
        if job.tasks > 1:
            job.array = self._next
        self._next += 1
        self.jobs.append(job)
        return job

    def start(self, job):
        if job.tasks > 1:  # one task leaves the rest
            job.tasks -= 1
            task = SimulatedJob(
                self._next, self.now, user=job.user, account=job.account, gpus=job.gpus,
                limit=job.limit, token=job.token, array=job.array,
            )  # fmt: skip
            task.submit = task.shown_submit = job.submit
            self._next += 1
            self.jobs.append(task)
            job = task
        job.start, job.suspended, job.suspended_at = self.now, 0, None
        job.shown_submit = job.submit
        self._tell(job, JobState.RUNNING, None)
        return job

    def suspend_or_resume(self, job):
        if job.suspended_at is None:
            job.suspended_at = self.now
        else:
            job.suspended += self.now - job.suspended_at
            job.suspended_at = None

    def end(self, job, state):
        self._tell(job, state, self.now)
        self.jobs.remove(job)

    def cancel_waiting(self, job):
        self.jobs.remove(job)
        self._record(job, JobState.CANCELLED, None, self.now, 0, {})

    def requeue(self, job, state):
        self._tell(job, state, self.now)
        job.submit = max(self.now, job.submit + 1)
        job.start, job.suspended_at, job.suspended, job.resized_at = None, None, 0, None
        job.restarts += 1

    def resize(self, job, gpus):
        if self.now <= job.submit or job.suspended_at is not None:
            return
        self._tell(job, JobState.RESIZING, self.now)
        job.gpus = gpus
        job.submit = self.now
        job.resized_at = self.now
        job.before = job.elapsed(self.now)
        self._tell(job, JobState.RUNNING, None)

    def correct(self, key, seconds):
        """Slurmdbd changes its mind about how long an ended run took."""
        run = self.truth[key]
        seconds = min(seconds, self.now - run.start_time)
        changed = replace(
            run, elapsed_seconds=seconds, end_time=max(run.start_time + seconds, run.end_time)
        )
        self.truth[key] = changed
        self._messages.append((key, changed))
        self.backlog = len(self._messages)

    def deliver(self, count):
        for key, run in self._messages[:count]:
            self.runs[key] = run
        del self._messages[:count]
        self.backlog = len(self._messages)

    def queue(self):
        return tuple(job.shown(self.now) for job in self.jobs)

    def _tell(self, job, state, end):
        start = job.start if job.resized_at is None else job.resized_at
        elapsed = job.elapsed(self.now) - (job.before if job.resized_at is not None else 0)
        self._record(job, state, start, end, elapsed, tres_of(job.gpus))

    def _record(self, job, state, start, end, elapsed, tres):
        key = (job.number, job.submit)
        run = AccountingRecord(
            job_id=job.number, display_id=str(job.number), user=job.user, account=job.account,
            partition="gpu", qos="normal", name="job", state=state, submit_time=job.submit,
            eligible_time=job.submit, start_time=start, end_time=end, elapsed_seconds=elapsed,
            suspended_seconds=job.suspended, time_limit_seconds=job.limit, exit_code=0,
            exit_signal=0, node_list="gpu01" if tres else "", allocated_tres=tres,
            comment=write_tag({"token": job.token}) if job.token else "", restarts=job.restarts,
        )  # fmt: skip
        self.truth[key] = run
        self._messages.append((key, run))
        self.backlog = len(self._messages)
