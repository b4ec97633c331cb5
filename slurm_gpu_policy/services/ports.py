"""What the use cases need of the world, as small Protocols they own.

Two implementations of the Slurm ports exist, the command line and pyslurm, and an in-memory
fake for tests; ``tests/contract`` holds them all to the docstrings below.
All methods raise :class:`~slurm_gpu_policy.errors.SlurmUnavailable` when Slurm cannot be
reached, :class:`~slurm_gpu_policy.errors.SlurmTimeout` when it does not answer in time, and
:class:`~slurm_gpu_policy.errors.SlurmRefused` with Slurm's own words when it says no.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from contextlib import AbstractContextManager

    from slurm_gpu_policy.model.action import Action, AuditEntry, Lease, Level, Outcome, Vote
    from slurm_gpu_policy.model.decision import Decision
    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.job import AccountingRecord, Job, JobDetail, NodeAllocation
    from slurm_gpu_policy.model.limit_use import LimitChange, LimitUse
    from slurm_gpu_policy.model.notice import Delivery, Notice
    from slurm_gpu_policy.model.plan import Change, Made, Present
    from slurm_gpu_policy.model.promise import Ask, Promise
    from slurm_gpu_policy.model.request import Request
    from slurm_gpu_policy.model.snapshot import Part, Snapshot
    from slurm_gpu_policy.model.submission import Submission
    from slurm_gpu_policy.model.tick import TickReport


BulkVerb = Literal["hold", "release", "requeue", "requeue_held"]
"""What :meth:`SteerPort.steer_many` does: ``requeue_held`` is a requeue that leaves it held."""


class ReadPort(Protocol):
    """Reads the cluster; never changes it."""

    def read(self, *parts: Part, user: str | None = None, fresh: bool = False) -> Snapshot:
        """Return the *parts* asked for, read at the same moment as far as Slurm allows.

        *user* narrows ``Part.ASSOCIATIONS`` to that user's own ones, and to the rows (``user``
        empty) of the accounts they are in and of all accounts above, up to the root: whatever
        limits them is there. A user without an account has none of these. (Cheap on a large
        site.) The other parts are always whole. Associations and QOS, which come from Slurm's slow
        database, may be some minutes old unless *fresh*.
        """
        ...

    def read_ahead(self, *parts: Part, user: str | None = None) -> None:
        """Begin what the next :meth:`read` of the same parts and user will ask; never fails.

        A reader that cannot do so does nothing: :meth:`read` then asks by itself.
        """
        ...

    def jobs(self, job_ids: Sequence[str]) -> tuple[Job, ...]:
        """Return the records of these jobs in one call (also ended ones Slurm still holds).

        An id is what Slurm prints: ``123`` (for an array: all its records) or ``123_4``. Ids
        unknown to Slurm are left out, so the answer may be shorter, or longer for arrays.
        """
        ...

    def job(self, job_id: str) -> JobDetail:
        """Return one job in detail, with GPU indexes per node while it holds any.

        Raises:
            JobNotFound: Slurm has no such job in memory.
        """
        ...

    def allocations(
        self, job_ids: Sequence[str] = ()
    ) -> Mapping[JobId, tuple[NodeAllocation, ...]]:
        """Return what every job that holds nodes holds on each of them, in one call.

        *job_ids* (as for :meth:`jobs`) narrows it to these; a few are cheap on a large site.
        One entry per node and GPU type, as in :attr:`JobDetail.allocations`; a job on nodes
        without GPUs has entries without indexes. Jobs that hold nothing are left out.
        """
        ...

    def estimated_starts(self, job_ids: Sequence[str]) -> Mapping[JobId, int]:
        """Return Slurm's own planned start (Unix seconds) of those pending jobs that have one."""
        ...

    def script(self, job_id: str) -> str:
        """Return the batch script Slurm keeps for a job.

        Raises:
            JobNotFound: no such job, or it has no batch script.
        """
        ...


class SubmitPort(Protocol):
    """Puts jobs into the queue."""

    def submit(self, submission: Submission) -> JobId:
        """Queue one job and return its id. Never retries by itself.

        Raises:
            SlurmTimeout: whether a job exists is unknown (no answer, or the connection broke
                after the request had been sent); look with :meth:`find`.
            SlurmUnavailable: certainly no job was queued (the connection was refused).
        """
        ...

    def submit_many(self, submissions: Sequence[Submission]) -> tuple[JobId | Exception, ...]:
        """Queue many jobs; the i-th answer is the i-th job's id or the error :meth:`submit` has."""
        ...

    def allocate(self, submission: Submission, timeout_seconds: int | None = None) -> JobId:
        """Wait for an allocation without a script and return its id; it lasts until cancelled.

        Raises:
            SlurmTimeout: not granted within *timeout_seconds*; the request was withdrawn.
        """
        ...

    def find(self, token: str) -> tuple[JobId, ...]:
        """Return the caller's jobs whose comment carries *token*, oldest first, in any state.

        For root: everybody's, because root submits for others (``Submission.submit_as``).
        More than one means that a call which seemed lost did take effect after all.
        """
        ...

    def would_start(self, submission: Submission) -> int | None:
        """Return when Slurm would start this job (Unix seconds), queueing nothing.

        ``None`` where Slurm cannot say (for instance while fitting nodes are drained).
        """
        ...


class SteerPort(Protocol):
    """Changes jobs that are in the queue."""

    def cancel(self, job_id: str, *, signal: str | None = None) -> None:
        """Cancel a job, or send it *signal* (``USR1``, ``TERM`` …).

        Raises:
            JobNotFound: unknown job (an already ended one is no error).
        """
        ...

    def hold(self, job_id: str) -> None:
        """Keep a pending job from starting until released by an operator (priority 0)."""
        ...

    def release(self, job_id: str) -> None:
        """Undo :meth:`hold`."""
        ...

    def requeue(self, job_id: str, *, hold: bool = False) -> None:
        """Put a running or ended batch job back into the queue, held if *hold*."""
        ...

    def modify(self, job_id: str, changes: Mapping[str, str]) -> None:
        """Change a job. Keys: ``time_limit`` (seconds), ``nice``, ``priority``, ``qos``,
        ``partition``, ``account``, ``name``, ``comment``, ``admin_comment``, ``features``,
        ``excluded_nodes``, ``site_factor``, ``deadline``, ``begin_time`` (Unix seconds; of a
        pending job); values as text. All in one call, so that all of them change or none.

        Raises:
            ValueError: a key that is none of these.
        """
        ...

    def notify(self, job_id: str, message: str) -> None:
        """Write *message* to a running job's standard error (srun, salloc) or output file."""
        ...

    def set_site_factors(self, factors: Mapping[JobId, int]) -> Mapping[JobId, str]:
        """Set many site factors, as :meth:`modify_many` does; 0 removes a boost."""
        ...

    def modify_many(self, changes: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
        """Change many jobs, each as :meth:`modify` does, in as few calls as Slurm allows.

        Many different changes are one program's work. Keys are :attr:`Job.address` (``123``,
        ``123_4``, ``123_[5-9]``). Of several tasks of an array, those that ended or run already
        are no refusal while any is changed. Returns Slurm's words for each address that it
        refused; empty when all were changed.

        Raises:
            ValueError: a key that is none of :meth:`modify`'s; nothing was changed.
            SlurmTimeout: which of them took effect is unknown.
        """
        ...

    def steer_many(self, verb: BulkVerb, addresses: Sequence[str]) -> Mapping[str, str]:
        """Hold, release or requeue many jobs in as few calls as Slurm allows.

        Addresses and the answer are as for :meth:`modify_many`.

        Raises:
            SlurmTimeout: which of them took effect is unknown.
        """
        ...


class AccountPort(Protocol):
    """Reads Slurm's accounting."""

    def accounting(
        self,
        *,
        start: int | None = None,
        end: int | None = None,
        job_ids: Sequence[str] = (),
        users: Sequence[str] = (),
        accounts: Sequence[str] = (),
    ) -> tuple[AccountingRecord, ...]:
        """Return every run that overlaps [start, end) (Unix seconds), duplicates included.

        Without times and ids: the runs since midnight, as sacct has it. Where slurmdbd was away,
        the answer is an old one for some seconds after it is back: :meth:`accounting_backlog`.
        """
        ...

    def accounting_backlog(self) -> int | None:
        """Return how many messages the controller has not brought to the accounting yet.

        A few on their way are usual. ``None``: Slurm does not say.
        """
        ...


class PeoplePort(Protocol):
    """Whom Slurm's accounting lets do what."""

    def operators(self) -> frozenset[str]:
        """Return the users whose AdminLevel is Operator or Administrator."""
        ...

    def coordinators(self) -> Mapping[str, frozenset[str]]:
        """Return the users who coordinate each account that has any.

        In Slurm they coordinate the accounts below it too; these are not repeated here.
        """
        ...


class SlurmPort(ReadPort, SubmitPort, SteerPort, AccountPort, Protocol):
    """All four; what bootstrap hands out."""

    @property
    def description(self) -> str:
        """How Slurm is reached, for ``gpu-policy doctor``: ``commands of Slurm 22.05.8``."""
        ...

    @property
    def calls_made(self) -> int:
        """How many programs this process has started for it, and calls of libslurm made."""
        ...


class RenderPort(Protocol):
    """Makes sbatch scripts."""

    def expand(self, request: Request) -> Request:
        """Return *request* with what its template adds to it (a sweep's array), to be decided on.

        Applying it twice changes nothing.

        Raises:
            RenderError: as :meth:`render`.
        """
        ...

    def render(self, request: Request, decision: Decision, token: str) -> Submission:
        """Return the script and options for an admitted request.

        Raises:
            RenderError: unknown template, a missing or unknown parameter, a broken template.
        """
        ...


class Clock(Protocol):
    """Time, so that tests own it."""

    def now(self) -> int:
        """Return Unix seconds."""
        ...

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class LeadPort(Protocol):
    """A lease that one controller at a time can hold, kept without any clock.

    Who waits how long for whom is decided by the callers' own monotonic clocks
    (services/leading.py), so that a clock that is stepped makes nobody a second leader.
    Every method raises RecordsUnavailable where the database cannot be reached or written.
    """

    def lease(self) -> Lease:
        """Return the lease as it stands; its holder is ``""`` while nobody has it."""
        ...

    def take(self, holder: str, seen: Lease) -> Lease | None:
        """Take or renew the lease if it still stands as *seen*; ``None`` if it does not.

        The new lease has one renewal more. Atomic: of two that saw the same lease one gets it.
        """
        ...

    def resign(self, holder: str) -> None:
        """Give the lease back, if *holder* has it."""
        ...


class AuditPort(Protocol):
    """The audit log: append-only, written before and after each action.

    Every method raises RecordsUnavailable where the database cannot be reached or written.
    """

    def begin(
        self, actor: str, now: int, wanted: Sequence[tuple[Action, Level]]
    ) -> tuple[int, ...]:
        """Write an entry for each action about to be done, durably, and return their ids.

        All of them or none; where the database's answer was lost, they may stand there all the
        same, unfinished.
        """
        ...

    def finish(self, now: int, outcomes: Mapping[int, tuple[Outcome, str]]) -> None:
        """Complete entries with their outcome and Slurm's words; a completed one stays as it is."""
        ...

    def unfinished(self) -> tuple[AuditEntry, ...]:
        """Return the entries without an outcome, oldest first: somebody was interrupted."""
        ...

    def entries(
        self,
        *,
        job_id: JobId | None = None,
        since: int | None = None,
        limit: int = 1000,
    ) -> tuple[AuditEntry, ...]:
        """Return the newest *limit* entries that fit, oldest first."""
        ...


class VotePort(Protocol):
    """Approvers' votes. Every method may raise RecordsUnavailable."""

    def vote(self, vote: Vote) -> None:
        """Keep a vote; a later one of the same approver on the same job replaces it."""
        ...

    def votes(self, job_ids: Sequence[JobId] = ()) -> tuple[Vote, ...]:
        """Return the votes on these jobs, or all, oldest first."""
        ...


class RecordsPort(LeadPort, AuditPort, VotePort, Protocol):
    """All that the controller remembers; everything else it reads from Slurm."""


class ObserverPort(Protocol):
    """Is told what the controller does (metrics, the log); neither raises nor waits."""

    def ticked(self, report: TickReport) -> None:
        """Take note of a tick that is over."""
        ...

    def policy_loaded(self, now: int, problems: Sequence[str]) -> None:
        """Take note that the policy file was read; with *problems*, the last good one stays."""
        ...

    def delivered(self, delivery: Delivery) -> None:
        """Take note of what became of a notice; comes from other threads, one after another."""
        ...


class ManagePort(Protocol):
    """Changes Slurm's accounts, users and QOS; only administrators of Slurm may."""

    def managed(self, cluster: str) -> Present:
        """Return what *cluster* has, read anew from Slurm's database."""
        ...

    def carry_out(self, cluster: str, change: Change) -> bool:
        """Do one step; ``False`` where there was nothing to do (it is there, or gone, already).

        An account's ``record`` is removed only where no cluster has that account. Slurm may
        accept a step and do less: :meth:`managed` has the truth.

        Raises:
            NotAllowed: the caller is no administrator of Slurm; nothing was done.
            SlurmRefused: as everywhere; also for names that cannot be said safely.
        """
        ...


class LimitsPort(Protocol):
    """Reads and sets GrpTRESMins, with what Slurm has counted against them; for SlurmUser."""

    def limit_uses(self, accounts: Collection[str]) -> tuple[LimitUse, ...]:
        """Return these accounts and the users in them, as slurmctld has them at this moment."""
        ...

    def set_limits(self, cluster: str, changes: Sequence[LimitChange]) -> None:
        """Set limits, all in one program's work; they bind as soon as slurmctld has heard.

        Raises:
            NotAllowed: the caller is no administrator of Slurm.
            SlurmRefused: as everywhere; some may have been set: :meth:`limit_uses` has the truth.
        """
        ...


class MadePort(Protocol):
    """Remembers what ``gpu-policy apply`` has made, over crashes."""

    def alone(self) -> AbstractContextManager[None]:
        """Wait until no other apply is at work, and keep others waiting until the end.

        Also programs that a killed apply has left behind are waited for.

        Raises:
            NotAllowed: the caller may not write there.
        """
        ...

    def load(self, cluster: str) -> Made:
        """Return what was remembered; nothing where nothing was.

        Raises:
            PolicyLayerError: it cannot be read.
        """
        ...

    def save(self, cluster: str, made: Made) -> None:
        """Remember *made* durably, at once or not at all.

        Raises:
            NotAllowed: the caller may not write there.
        """
        ...


class FilePort(Protocol):
    """Small text files of the system's configuration."""

    def read(self, path: str) -> str | None:
        """Return a file's text, ``None`` where there is none.

        Raises:
            PolicyLayerError: it is there and cannot be read.
        """
        ...

    def write(self, path: str, text: str) -> None:
        """Write a file durably, at once or not at all, for all to read.

        Raises:
            PolicyLayerError: it cannot be written.
        """
        ...


class NotifyPort(Protocol):
    """Brings news to people."""

    def send(self, notice: Notice) -> None:
        """Take *notice* to be sent; never waits for anybody.

        News with a key that was taken before is not sent again. It is kept in memory only: at
        the end of the process what could not be sent in its last seconds is lost, and logged.

        Raises:
            NotifyFailed: too much waits already; what was not taken can be sent again later.
        """
        ...


class PromisePort(Protocol):
    """Sets aside, in the books, what jobs may cost, before they are submitted.

    Both raise ControllerUnavailable or RecordsUnavailable where the books cannot be asked.
    """

    def promise(self, asks: Sequence[Ask], *, only_look: bool = False) -> tuple[Promise, ...]:
        """Set aside what all of *asks* may cost, or nothing if that is too much for any budget.

        The i-th answer is about the i-th; atomic, whoever else asks. Asking again with the same
        tokens sets nothing aside twice. *only_look* sets nothing aside.

        Raises:
            NotAllowed: for somebody else, or in an account that the caller has no place in.
        """
        ...

    def withdraw(self, tokens: Sequence[str]) -> None:
        """Give back what was set aside for jobs that were not submitted after all."""
        ...
