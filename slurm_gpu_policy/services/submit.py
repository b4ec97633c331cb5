"""From a request to exactly one job: read, decide, render, submit, and never twice."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from slurm_gpu_policy.errors import (
    ControllerUnavailable,
    PolicyLayerError,
    RecordsUnavailable,
    Refused,
    RequestError,
    SlurmRefused,
    SlurmTimeout,
    SlurmUnavailable,
)
from slurm_gpu_policy.model.snapshot import TO_DECIDE, Part
from slurm_gpu_policy.policy.admission import decide, needs_jobs
from slurm_gpu_policy.services.patience import patiently

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from slurm_gpu_policy.config.schema import Defaults, Policy
    from slurm_gpu_policy.model.decision import Decision
    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.promise import Promise
    from slurm_gpu_policy.model.request import Request
    from slurm_gpu_policy.model.snapshot import Snapshot
    from slurm_gpu_policy.model.submission import Submission
    from slurm_gpu_policy.services.ports import Clock, PromisePort, RenderPort, SlurmPort

T = TypeVar("T")


class Submit:
    """The use case of ``gpu-submit``.

    ``new_token`` returns a text that no other submission has; ``groups_of`` a user's groups
    (asked only where a partition is open to some alone); ``on_wait`` is told, in words, each
    time Slurm is away and a retry follows. ``promises`` are the site's books, if it keeps any.
    """

    def __init__(  # noqa: PLR0913 - the whole world of the use case, by name
        self,
        *,
        slurm: SlurmPort,
        renderer: RenderPort,
        policy: Policy,
        clock: Clock,
        new_token: Callable[[], str],
        groups_of: Callable[[str], tuple[str, ...]] = lambda _: (),
        on_wait: Callable[[str], None] = lambda _: None,
        promises: PromisePort | None = None,
    ) -> None:
        self._slurm = slurm
        self._renderer = renderer
        self._policy = policy
        self._clock = clock
        self._new_token = new_token
        self._groups_of = groups_of
        self._on_wait = on_wait
        self._promises = promises

    def expand(self, request: Request) -> Request:
        """Return *request* with what the site's defaults, its workload class and template add.

        Raises:
            RenderError: there is no such template, or it lacks a value.
        """
        workload = self._policy.workloads.get(request.workload)
        if workload is not None and request.template is None and request.script is None:
            request = replace(request, template=workload.template)
        return self._renderer.expand(_with_defaults(request, self._policy.defaults))

    def decide_all(self, requests: Sequence[Request]) -> tuple[Decision, ...]:
        """Return the decisions on *requests*, all on one reading of Slurm.

        What is known of accounts may be a few minutes old; nobody is refused on old news.

        Raises:
            SlurmUnavailable: Slurm stayed away for longer than the site's ``slurm.retry_for``.
        """
        snapshot = self.read(requests)
        decisions = tuple(self.decide(request, snapshot) for request in requests)
        if any(decision.kind == "refuse" for decision in decisions):
            snapshot = self.read(requests, fresh=True)
            decisions = tuple(self.decide(request, snapshot) for request in requests)
        return decisions

    def read(self, requests: Sequence[Request], *, fresh: bool = False) -> Snapshot:
        """Return what deciding these requests needs to know, in one reading.

        Raises:
            SlurmUnavailable: Slurm stayed away for longer than the site's ``slurm.retry_for``.
        """
        parts: tuple[Part, ...] = TO_DECIDE
        if any(needs_jobs(request, self._policy) for request in requests):
            parts = (*parts, Part.JOBS)
        users = {request.user for request in requests}
        user = users.pop() if len(users) == 1 else None
        return self._patiently(lambda: self._slurm.read(*parts, user=user, fresh=fresh))

    def decide(self, request: Request, snapshot: Snapshot) -> Decision:
        """Return the decision on a request, whatever it is."""
        policy = self._policy
        name = snapshot.config.name if snapshot.config else ""
        cluster = policy.clusters.get(name, policy.cluster_defaults)
        if any(partition.allow_groups for partition in snapshot.partitions):
            request = replace(request, groups=self._groups_of(request.user))
        return decide(request, snapshot, policy, cluster)

    def prepare(self, request: Request, decision: Decision) -> Submission:
        """Return the script and options of an admitted request.

        Raises:
            Refused: the decision was no admission.
            RenderError: the template cannot be rendered.
        """
        if decision.kind == "refuse":
            raise Refused(decision)
        return self._renderer.render(request, decision, self._new_token())

    def set_aside(
        self,
        requests: Sequence[Request],
        prepared: Sequence[tuple[Submission, Decision]],
        *,
        only_look: bool = False,
    ) -> tuple[Decision, ...]:
        """Rules B-001 to B-003: set aside what these jobs may cost, all of it or nothing.

        Returns the decisions with what the budgets say; one of them refuses where they have too
        little and the site enforces that. *only_look* sets nothing aside.

        Raises:
            NotAllowed: the account is not the user's.
        """
        decisions = tuple(decision for _, decision in prepared)
        if self._promises is None:
            return decisions
        from slurm_gpu_policy.model.promise import Ask  # noqa: PLC0415 - few sites keep books
        from slurm_gpu_policy.policy.ledger import affording  # noqa: PLC0415

        asks = [
            Ask(
                token=submission.token,
                account=decision.account,
                user=request.user,
                use=decision.use,
                seconds=decision.time_seconds or 0,
                tasks=decision.tasks,
            )
            for request, (submission, decision) in zip(requests, prepared, strict=True)
        ]
        try:
            promises = self._promises.promise(asks, only_look=only_look)
        except (ControllerUnavailable, RecordsUnavailable) as error:
            return tuple(affording.unasked(one, str(error), self._policy) for one in decisions)
        return tuple(
            affording.judged(
                decision, promise, self._remedy(request, decision, promise), self._policy
            )
            for request, decision, promise in zip(requests, decisions, promises, strict=True)
        )

    def _remedy(self, request: Request, decision: Decision, promise: Promise) -> str | None:
        """Return what would pass of a request whose budget is too small."""
        if promise.covered:
            return None
        from slurm_gpu_policy.policy.ledger.affording import remedies  # noqa: PLC0415
        from slurm_gpu_policy.policy.prices.pricing import price_book  # noqa: PLC0415

        def others() -> Iterator[Decision]:
            if not decision.gpu_type:
                return
            snapshot = self.read([request])
            for name in self._policy.gpu_types:
                if name != decision.gpu_type:
                    yield self.decide(replace(request, gpu_types=(name,)), snapshot)

        now = self._clock.now()
        return remedies(decision, promise, price_book(self._policy), now, others)

    def withdraw(self, submissions: Sequence[Submission]) -> None:
        """Rule B-004: give back what was set aside for jobs that were not submitted after all.

        Should the books not be reached, they give it back by themselves in some minutes.
        """
        if self._promises is None or not submissions:
            return
        with suppress(PolicyLayerError):
            self._promises.withdraw([submission.token for submission in submissions])

    def submit(self, submission: Submission) -> JobId:
        """Queue one job, exactly once.

        A call that was lost on the way is looked for by its token before any retry; should it
        turn up after all once another took its place, the later job is cancelled.

        Raises:
            SlurmRefused: Slurm said no.
            SlurmUnavailable: Slurm stayed away; no job was queued.
            SlurmTimeout: Slurm stayed away after a call whose fate is unknown.
        """
        return self._submit(submission, lost=False)

    def submit_many(self, submissions: Sequence[Submission]) -> tuple[JobId | Exception, ...]:
        """Queue many jobs, each exactly once; the i-th answer is the i-th job's id or error."""
        for submission in submissions:
            _refuse_interactive(submission)
        answers = list(self._slurm.submit_many(submissions))
        for place, answer in enumerate(answers):
            if not isinstance(answer, SlurmUnavailable):
                continue
            try:
                lost = isinstance(answer, SlurmTimeout)
                answers[place] = self._submit(submissions[place], lost=lost)
            except PolicyLayerError as error:
                answers[place] = error
        return tuple(answers)

    def _submit(self, submission: Submission, *, lost: bool) -> JobId:
        """Submit until there is one job; *lost* says that a call of unknown fate went before."""
        _refuse_interactive(submission)

        def attempt() -> JobId:
            nonlocal lost
            if lost and (found := self._slurm.find(submission.token)):
                return self._keep_one(found)
            try:
                job_id = self._slurm.submit(submission)
            except SlurmTimeout:
                lost = True
                raise
            except SlurmRefused:
                # The job of the lost call may be what now stands in the way (MaxSubmitJobs).
                if lost and (found := self._slurm.find(submission.token)):
                    return self._keep_one(found)
                raise
            if lost:  # the lost call may have taken effect meanwhile
                return self._keep_one(self._slurm.find(submission.token) or (job_id,))
            return job_id

        try:
            return self._patiently(attempt)
        except SlurmUnavailable as error:
            if not lost:
                raise
            msg = (
                f"{error}. One submission went out without an answer: when Slurm is back, "
                f"look whether a job has gpu-submit(token={submission.token} in its comment "
                "(squeue --me --states=all -O JobID,Comment:200)"
            )
            raise SlurmTimeout(msg) from error

    def _keep_one(self, job_ids: Sequence[JobId]) -> JobId:
        """Cancel all but the oldest of the jobs that one submission made."""
        for extra in job_ids[1:]:
            self._slurm.cancel(str(extra))
        return job_ids[0]

    def _patiently(self, call: Callable[[], T]) -> T:
        """Return ``call()``, again and again with growing delay while Slurm is away."""
        return patiently(call, self._clock, self._policy.slurm.retry_for, self._on_wait)


def _refuse_interactive(submission: Submission) -> None:
    if submission.interactive:
        msg = (
            "an interactive job runs in your terminal and cannot be queued: "
            "choose another --template, or run it by itself"
        )
        raise RequestError(msg)


def _with_defaults(request: Request, defaults: Defaults) -> Request:
    """Return *request* with the site's CPUs and memory per GPU, where it names none itself."""
    if not request.wants_gpus:
        return request
    named = {name for name, _ in (*request.options, *request.script_options)}
    added: list[tuple[str, str]] = []
    has_cpus = request.cpus_per_task is not None or named & {"cpus-per-gpu", "cpus-per-task"}
    if defaults.cpus_per_gpu is not None and not has_cpus:
        added.append(("cpus-per-gpu", str(defaults.cpus_per_gpu)))
    has_memory = request.memory_mb is not None or named & {"mem", "mem-per-cpu", "mem-per-gpu"}
    if defaults.memory_per_gpu is not None and not has_memory:
        added.append(("mem-per-gpu", f"{defaults.memory_per_gpu}M"))
    return replace(request, options=(*request.options, *added))
