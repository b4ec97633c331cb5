"""Slurm by its commands: works with every release from 22.05 on, and needs nothing else."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from slurm_gpu_policy.adapters.slurm.run import (
    CODE_LOST,
    READ_SECONDS,
    Answer,
    Call,
    Late,
    planning_environment,
    reading_environment,
    run,
    run_all,
    run_each,
    started_programs,
    submission_environment,
)
from slurm_gpu_policy.adapters.slurm.words import (
    ALREADY_OVER,
    NO_SCRIPT,
    UNKNOWN_JOB,
    error_in,
    said,
)
from slurm_gpu_policy.errors import JobNotFound, SlurmError, SlurmTimeout, SlurmUnavailable
from slurm_gpu_policy.model.ids import JobId

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from slurm_gpu_policy.adapters.slurm.kept_answers import KeptAnswers
    from slurm_gpu_policy.adapters.slurm.reading import Reading
    from slurm_gpu_policy.model.job import AccountingRecord, Job, JobDetail, NodeAllocation
    from slurm_gpu_policy.model.snapshot import Part, Snapshot
    from slurm_gpu_policy.model.submission import Submission
    from slurm_gpu_policy.services.ports import BulkVerb, Clock

SUBMIT_SECONDS = 60.0
"""Longest wait for sbatch: a busy controller answers late, and giving up leaves a doubt."""

_ARGUMENT_CHARS = 100_000
"""Of the 128 KiB Linux allows one argument (MAX_ARG_STRLEN)."""
_AT_ONCE = max(4, 2 * (os.cpu_count() or 1))
"""Programs that run together where there are many calls to make."""
_FEW = 16
"""Jobs that are asked for one by one; for more the whole queue is read."""
_FOUND_SINCE = "now-1days"
"""How far back :meth:`CommandSlurm.find` looks in the accounting."""


class CommandSlurm:
    """Implements :class:`slurm_gpu_policy.services.ports.SlurmPort`."""

    def __init__(
        self,
        clock: Clock,
        *,
        read_seconds: float = READ_SECONDS,
        submit_seconds: float = SUBMIT_SECONDS,
        kept: KeptAnswers | None = None,
    ) -> None:
        self._clock = clock
        self._read_seconds = read_seconds
        self._submit_seconds = submit_seconds
        self._kept = kept
        self._ahead: tuple[object, Reading] | None = None

    @property
    def description(self) -> str:
        """Such as ``commands of Slurm 22.05.8``."""
        words = self._ask("scontrol", "-V").stdout.split()
        return f"commands of Slurm {words[-1] if words else '?'}"

    @property
    def calls_made(self) -> int:
        """See :attr:`slurm_gpu_policy.services.ports.SlurmPort.calls_made`."""
        return started_programs()

    # --- reading ---------------------------------------------------------------------------

    def read(self, *parts: Part, user: str | None = None, fresh: bool = False) -> Snapshot:
        """See :meth:`slurm_gpu_policy.services.ports.ReadPort.read`."""
        wanted = (frozenset(parts), user, fresh)
        question, reading = self._ahead or (None, None)
        self._ahead = None
        if reading is None or question != wanted:
            reading = self._start_reading(*wanted)
        return reading.finish(self._clock.now())

    def read_ahead(self, *parts: Part, user: str | None = None) -> None:
        """See :meth:`slurm_gpu_policy.services.ports.ReadPort.read_ahead`."""
        wanted = (frozenset(parts), user, False)
        with suppress(SlurmUnavailable):  # read() will say so
            self._ahead = (wanted, self._start_reading(*wanted))

    def _start_reading(self, parts: frozenset[Part], user: str | None, fresh: bool) -> Reading:
        from slurm_gpu_policy.adapters.slurm.reading import Reading  # noqa: PLC0415

        return Reading(parts, user=user, kept=self._kept, fresh=fresh, timeout=self._read_seconds)

    def jobs(self, job_ids: Sequence[str]) -> tuple[Job, ...]:
        """See :meth:`slurm_gpu_policy.services.ports.ReadPort.jobs`."""
        found: list[Job] = []
        for ids in _chunks(job_ids):
            found += self._squeue("-j", ids)[0]
        return tuple(found)

    def job(self, job_id: str) -> JobDetail:
        """See :meth:`slurm_gpu_policy.services.ports.ReadPort.job`."""
        from slurm_gpu_policy.adapters.slurm import parse_detail, parse_jobs  # noqa: PLC0415

        jobs, texts = self._squeue("-j", job_id, free=parse_jobs.DETAIL_FREE_FIELDS)
        if not jobs:
            raise JobNotFound(job_id)
        number = next(
            (at for at, job in enumerate(jobs) if job_id in {job.display_id, str(job.job_id)}), 0
        )
        job = jobs[number]
        answer = self._ask("scontrol", "-d", "show", "job", str(job.job_id), job_id=job_id)
        return parse_detail.detail(answer.stdout, job, texts[number])

    def allocations(
        self, job_ids: Sequence[str] = ()
    ) -> Mapping[JobId, tuple[NodeAllocation, ...]]:
        """See :meth:`slurm_gpu_policy.services.ports.ReadPort.allocations`."""
        from slurm_gpu_policy.adapters.slurm import parse_detail, parse_jobs  # noqa: PLC0415

        mark = parse_jobs.draw_mark()
        reader = parse_jobs.JobReader(mark)
        states = "RUNNING,SUSPENDED,COMPLETING,CONFIGURING,STOPPED,RESIZING,SIGNALING,STAGE_OUT"
        squeue = ["squeue", "-h", "-a", "-t", states, "-O", parse_jobs.squeue_format(mark)]
        scontrol: tuple[str, ...] = ("scontrol", "-a", "-d", "show", "job")
        records = [scontrol]
        if 0 < len(job_ids) <= _FEW:  # scontrol takes one id; all jobs of a large site take longer
            squeue += ["-j", ",".join(job_ids)]
            records = [(*scontrol, one) for one in job_ids]
        env = reading_environment()
        calls = [Call(squeue, env=env, sink=reader.feed)]
        calls += [Call(argv, env=env) for argv in records]
        answers = run_all(calls, timeout=self._read_seconds)
        for answer in answers:
            if answer.code != 0 and not (job_ids and UNKNOWN_JOB in answer.stderr + answer.stdout):
                raise error_in(answer)
        jobs = reader.close()
        if job_ids:
            jobs = tuple(job for job in jobs if not _names(job).isdisjoint(job_ids))
        return parse_detail.held("\n".join(answer.stdout for answer in answers[1:]), jobs)

    def estimated_starts(self, job_ids: Sequence[str]) -> Mapping[JobId, int]:
        """See :meth:`slurm_gpu_policy.services.ports.ReadPort.estimated_starts`."""
        return {
            job.job_id: job.start_time
            for job in self.jobs(job_ids)
            if job.state.is_pending and job.start_time is not None
        }

    def script(self, job_id: str) -> str:
        """See :meth:`slurm_gpu_policy.services.ports.ReadPort.script`."""
        argv = ("scontrol", "write", "batch_script", job_id, "-")
        answer = run(argv, timeout=self._read_seconds, env=reading_environment())
        if answer.code == 0 and answer.stdout:
            return answer.stdout
        # scontrol returns 0 also where it failed.
        raise JobNotFound(job_id) if NO_SCRIPT in answer.stderr else error_in(answer, job_id)

    def _squeue(
        self, *filters: str, free: Sequence[tuple[str, str]] = ()
    ) -> tuple[tuple[Job, ...], list[tuple[str, ...]]]:
        """Return jobs in every state that pass *filters*, with their *free* texts."""
        from slurm_gpu_policy.adapters.slurm import parse_jobs  # noqa: PLC0415

        mark = parse_jobs.draw_mark()
        free = free or parse_jobs.FREE_FIELDS
        form = parse_jobs.squeue_format(mark, free)
        argv = ("squeue", "-h", "-a", "-t", "all", *filters, "-O", form)
        answer = run(argv, timeout=self._read_seconds, env=reading_environment())
        if answer.code != 0:
            if UNKNOWN_JOB in answer.stderr:  # said when the only job asked for is unknown
                return ((), [])
            raise error_in(answer)
        reader = parse_jobs.JobReader(mark, free)
        reader.feed(answer.stdout.encode("utf-8", "surrogateescape"))
        return reader.close(), reader.texts

    def _ask(self, *argv: str, job_id: str | None = None) -> Answer:
        answer = run(argv, timeout=self._read_seconds, env=reading_environment())
        if answer.code != 0:
            raise error_in(answer, job_id)
        return answer

    # --- submitting ------------------------------------------------------------------------

    def submit(self, submission: Submission) -> JobId:
        """See :meth:`slurm_gpu_policy.services.ports.SubmitPort.submit`."""
        from slurm_gpu_policy.adapters.slurm import submission as form  # noqa: PLC0415

        answer = run(
            form.sbatch_argv(submission),
            stdin=form.script_bytes(submission),
            timeout=self._submit_seconds,
            env=submission_environment(),
        )
        return form.submitted_id(answer)

    def submit_many(self, submissions: Sequence[Submission]) -> tuple[JobId | Exception, ...]:
        """See :meth:`slurm_gpu_policy.services.ports.SubmitPort.submit_many`."""
        from slurm_gpu_policy.adapters.slurm import submission as form  # noqa: PLC0415

        results: dict[int, JobId | Exception] = {}
        places: list[int] = []  # of the submissions that can be said in sbatch's words

        env = submission_environment()

        def calls() -> Iterator[Call]:
            for place, one in enumerate(submissions):
                try:
                    call = Call(form.sbatch_argv(one), stdin=form.script_bytes(one), env=env)
                except SlurmError as error:
                    results[place] = error
                else:
                    places.append(place)
                    yield call

        running = run_each(calls(), at_once=_AT_ONCE, timeout=self._submit_seconds)
        try:
            for number, answer in running:
                results[places[number]] = (
                    answer if isinstance(answer, SlurmError) else _result(answer)
                )
        finally:
            running.close()
        return tuple(results[place] for place in range(len(submissions)))

    def allocate(self, submission: Submission, timeout_seconds: int | None = None) -> JobId:
        """See :meth:`slurm_gpu_policy.services.ports.SubmitPort.allocate`."""
        from slurm_gpu_policy.adapters.slurm import submission as form  # noqa: PLC0415

        argv = form.salloc_argv(submission)
        seconds = float("inf") if timeout_seconds is None else timeout_seconds
        try:
            answer = run(argv, timeout=seconds)
        except Late as late:
            job_id = form.allocated_id(late.words)
            self._withdraw(submission.token, job_id)
            msg = f"no allocation within {timeout_seconds} s; the request was withdrawn"
            raise SlurmTimeout(msg) from late
        except KeyboardInterrupt:
            self._withdraw(submission.token)
            raise
        job_id = form.allocated_id(answer.stderr)
        # salloc says on standard error that it was granted; without a code that must do.
        granted = answer.code == 0 or (answer.code == CODE_LOST and form.GRANTED in answer.stderr)
        if job_id is None or not granted:
            raise error_in(answer)
        return job_id

    def _withdraw(self, token: str, job_id: JobId | None = None) -> None:
        for one in (job_id,) if job_id else self.find(token):
            try:
                self.cancel(str(one))
            except JobNotFound:
                continue

    def find(self, token: str) -> tuple[JobId, ...]:
        """See :meth:`slurm_gpu_policy.services.ports.SubmitPort.find`."""
        # root submits for others (`submit_as`), and those jobs are not root's own.
        whose = () if os.geteuid() == 0 else ("--me",)
        mine = [job for job in self._squeue(*whose)[0] if token in job.comment]
        ids = {job.array_job_id or job.het_job_id or job.job_id for job in mine}
        return tuple(sorted(ids)) or self._find_ended(token)

    def _find_ended(self, token: str) -> tuple[JobId, ...]:
        """Look in the accounting, for a job that ended and left Slurm's memory already."""
        from slurm_gpu_policy.adapters.slurm import parse_accounting  # noqa: PLC0415

        try:
            found = self._sacct("-S", _FOUND_SINCE)
        except SlurmError:  # a site without accounting, or slurmdbd is down: memory was all
            return ()
        return tuple(parse_accounting.first_ids(one for one in found if token in one.comment))

    def would_start(self, submission: Submission) -> int | None:
        """See :meth:`slurm_gpu_policy.services.ports.SubmitPort.would_start`."""
        from slurm_gpu_policy.adapters.slurm import submission as form  # noqa: PLC0415

        answer = run(
            form.sbatch_argv(submission, test_only=True),
            stdin=form.script_bytes(submission),
            timeout=self._read_seconds,
            env=planning_environment(),
        )
        return form.planned_start(answer)

    # --- steering --------------------------------------------------------------------------

    def cancel(self, job_id: str, *, signal: str | None = None) -> None:
        """See :meth:`slurm_gpu_policy.services.ports.SteerPort.cancel`."""
        # Without -v scancel neither says nor returns that a job is unknown.
        how = () if signal is None else (f"--signal={signal}", "--full")
        argv = ("scancel", "-v", *how, job_id)
        answer = run(argv, timeout=self._read_seconds, env=reading_environment())
        words = said(answer)
        if UNKNOWN_JOB in words:
            raise JobNotFound(job_id)
        if answer.code != 0 and not any(phrase in words for phrase in ALREADY_OVER):
            raise error_in(answer)

    def hold(self, job_id: str) -> None:
        """See :meth:`slurm_gpu_policy.services.ports.SteerPort.hold`."""
        self._ask("scontrol", "hold", job_id, job_id=job_id)

    def release(self, job_id: str) -> None:
        """See :meth:`slurm_gpu_policy.services.ports.SteerPort.release`."""
        self._ask("scontrol", "release", job_id, job_id=job_id)

    def requeue(self, job_id: str, *, hold: bool = False) -> None:
        """See :meth:`slurm_gpu_policy.services.ports.SteerPort.requeue`."""
        self._ask("scontrol", "requeuehold" if hold else "requeue", job_id, job_id=job_id)

    def modify(self, job_id: str, changes: Mapping[str, str]) -> None:
        """See :meth:`slurm_gpu_policy.services.ports.SteerPort.modify`."""
        from slurm_gpu_policy.adapters.slurm import steering  # noqa: PLC0415

        changed = steering.scontrol_words(changes)
        self._ask("scontrol", "update", f"JobId={job_id}", *changed, job_id=job_id)

    def notify(self, job_id: str, message: str) -> None:
        """See :meth:`slurm_gpu_policy.services.ports.SteerPort.notify`."""
        self._ask("scontrol", "notify", job_id, message, job_id=job_id)

    def set_site_factors(self, factors: Mapping[JobId, int]) -> Mapping[JobId, str]:
        """See :meth:`slurm_gpu_policy.services.ports.SteerPort.set_site_factors`."""
        wanted = {str(job_id): {"site_factor": str(n)} for job_id, n in factors.items()}
        return {JobId(int(one)): words for one, words in self.modify_many(wanted).items()}

    def modify_many(self, changes: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
        """See :meth:`slurm_gpu_policy.services.ports.SteerPort.modify_many`."""
        from slurm_gpu_policy.adapters.slurm import steering  # noqa: PLC0415

        lines = {
            address: ("update", f"JobId={address}", *steering.scontrol_words(wanted))
            for address, wanted in changes.items()
        }
        return steering.scontrol_many(lines, timeout=self._submit_seconds)

    def steer_many(self, verb: BulkVerb, addresses: Sequence[str]) -> Mapping[str, str]:
        """See :meth:`slurm_gpu_policy.services.ports.SteerPort.steer_many`."""
        from slurm_gpu_policy.adapters.slurm import steering  # noqa: PLC0415

        word = "requeuehold" if verb == "requeue_held" else verb
        lines = {address: (word, address) for address in addresses}
        return steering.scontrol_many(lines, timeout=self._submit_seconds)

    # --- accounting ------------------------------------------------------------------------

    def accounting(
        self,
        *,
        start: int | None = None,
        end: int | None = None,
        job_ids: Sequence[str] = (),
        users: Sequence[str] = (),
        accounts: Sequence[str] = (),
    ) -> tuple[AccountingRecord, ...]:
        """See :meth:`slurm_gpu_policy.services.ports.AccountPort.accounting`."""
        from slurm_gpu_policy.adapters.slurm import parse_accounting  # noqa: PLC0415

        if start is not None and start > self._clock.now():
            return ()  # sacct takes it for a mistake
        argv = parse_accounting.selection(start, end, users, accounts)
        found: list[AccountingRecord] = []
        for ids in _chunks(job_ids) if job_ids else ("",):
            found += self._sacct(*argv, *(("-j", ids) if ids else ()))
        return parse_accounting.overlapping(found, start, end)

    def accounting_backlog(self) -> int | None:
        """See :meth:`slurm_gpu_policy.services.ports.AccountPort.accounting_backlog`."""
        from slurm_gpu_policy.adapters.slurm import parse_accounting  # noqa: PLC0415

        return parse_accounting.backlog(self._ask("sdiag").stdout)

    def _sacct(self, *selection: str) -> tuple[AccountingRecord, ...]:
        from slurm_gpu_policy.adapters.slurm import parse_accounting  # noqa: PLC0415
        from slurm_gpu_policy.adapters.slurm.parse_jobs import draw_mark  # noqa: PLC0415

        delimiter = "\x1f" + draw_mark()
        form = ("-o", parse_accounting.FORMAT, "-p", f"--delimiter={delimiter}")
        answer = self._ask("sacct", "-n", "-X", "-D", *form, *selection)
        return parse_accounting.records(answer.stdout, delimiter)


def _result(answer: Answer) -> JobId | Exception:
    from slurm_gpu_policy.adapters.slurm import submission as form  # noqa: PLC0415

    try:
        return form.submitted_id(answer)
    except SlurmError as error:
        return error


def _names(job: Job) -> frozenset[str]:
    """Return the ids that a job goes by, with its array's or het job's."""
    whole = job.array_job_id or job.het_job_id or job.job_id
    return frozenset((str(job.job_id), job.display_id, str(whole)))


def _chunks(texts: Sequence[str]) -> Iterator[str]:
    """Yield comma lists of *texts*, each short enough for one argument."""
    chunk: list[str] = []
    size = 0
    for text in texts:
        if size + len(text) > _ARGUMENT_CHARS:
            yield ",".join(chunk)
            chunk, size = [], 0
        chunk.append(text)
        size += len(text) + 1
    if chunk:
        yield ",".join(chunk)
