"""The same from Python: :func:`submit` a job, or hold an :func:`allocation` for a while.

>>> from slurm_gpu_policy import allocation, submit
>>> job = submit(["python", "train.py"], gpus=4, gpu_type="h100", hours=8)  # doctest: +SKIP
>>> with allocation(gpus=2, gpu_type="h100", hours=4) as gpus:  # doctest: +SKIP
...     print(gpus.node, gpus.indexes)
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.adapters.identity import current_user
from slurm_gpu_policy.errors import Refused, RequestError, SlurmError
from slurm_gpu_policy.model.request import Request

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import FrameType

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.decision import Decision
    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.job import NodeAllocation
    from slurm_gpu_policy.model.submission import Submission
    from slurm_gpu_policy.services.ports import SlurmPort
    from slurm_gpu_policy.services.submit import Submit


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """A job in the queue, and the decision that let it in."""

    job_id: JobId
    decision: Decision


@dataclass(frozen=True, slots=True)
class Allocation:
    """GPUs that are yours while the ``with`` block lasts."""

    job_id: JobId
    decision: Decision
    nodes: tuple[NodeAllocation, ...]

    @property
    def node(self) -> str:
        """The first node."""
        return self.nodes[0].node if self.nodes else ""

    @property
    def indexes(self) -> tuple[int, ...]:
        """Slurm's GPU indexes on the first node."""
        return self.nodes[0].gpu_indexes if self.nodes else ()

    def srun(self, *command: str) -> tuple[str, ...]:
        """Return the argument list that runs *command* inside the allocation."""
        return ("srun", f"--jobid={self.job_id}", "--", *command)


def submit(
    command: Sequence[str],
    *,
    gpus: int = 1,
    gpu_type: str | Sequence[str] = (),
    hours: float | None = None,
    policy: str | None = None,
    **request: Any,
) -> SubmittedJob:
    """Submit a job under the site's policy and return its id and decision.

    *hours* is the time limit; *policy* another policy file than the site's. Further keywords
    are fields of :class:`~slurm_gpu_policy.model.request.Request`: ``nodes``, ``account``,
    ``partition``, ``qos``, ``workload``, ``name``, ``environment`` …

    Raises:
        RequestError: the request cannot be understood.
        Refused: the policy says no; ``.decision.reasons`` says why.
        SlurmRefused, SlurmUnavailable: what Slurm says, or that it does not.
        PolicyFileError: the policy file is wrong.
    """
    rules, _, use = _open(policy)
    asked = _request(rules, command, gpus, gpu_type, hours, request)
    decision, submission = _prepare(use, asked)
    return SubmittedJob(use.submit(submission), decision)


@contextmanager
def allocation(
    *,
    gpus: int = 1,
    gpu_type: str | Sequence[str] = (),
    hours: float | None = None,
    timeout_seconds: int | None = None,
    policy: str | None = None,
    **request: Any,
) -> Iterator[Allocation]:
    """Wait for GPUs, hold them while the block lasts, and give them back.

    They are given back at the end, on any exception, and on SIGTERM, SIGHUP and Ctrl-C (in the
    main thread; elsewhere signals are not ours to take). Should the process be killed outright
    the time limit ends the allocation.

    Raises:
        SlurmTimeout: not granted within *timeout_seconds*; nothing is left in the queue.
        Further errors as :func:`submit`.
    """
    rules, slurm, use = _open(policy)
    asked = _request(rules, ("true",), gpus, gpu_type, hours, request)
    decision, submission = _prepare(use, replace(asked, template="batch"))
    with _signals_raise():
        job_id: JobId | None = None
        try:
            job_id = slurm.allocate(submission, timeout_seconds)
            yield Allocation(job_id, decision, slurm.job(str(job_id)).allocations)
        finally:
            _give_back(slurm, submission.token, job_id)


def _open(path: str | None) -> tuple[Policy, SlurmPort, Submit]:
    policy = bootstrap.load_policy(path)
    slurm = bootstrap.connect(policy)
    return policy, slurm, bootstrap.make_submit(policy, slurm)


def _request(  # noqa: PLR0913, PLR0917 - one call site away from the public keywords
    policy: Policy,
    command: Sequence[str],
    gpus: int,
    gpu_type: str | Sequence[str],
    hours: float | None,
    more: Mapping[str, Any],
) -> Request:
    types = (gpu_type,) if isinstance(gpu_type, str) else tuple(gpu_type)
    fields: dict[str, Any] = {"workload": policy.defaults.workload, **more}
    if hours is not None:
        fields["time_seconds"] = round(hours * 3600)
    if "gpus_per_node" not in fields:
        fields["gpus"] = gpus
    try:
        return Request(
            user=current_user(),
            command=tuple(command),
            gpu_types=tuple(filter(None, types)),
            **fields,
        )
    except TypeError as error:
        raise RequestError(str(error).removeprefix("Request.__init__() ")) from error


def _prepare(use: Submit, request: Request) -> tuple[Decision, Submission]:
    request = use.expand(request)
    (decision,) = use.decide_all([request])
    if decision.kind == "refuse":
        raise Refused(decision)
    return decision, use.prepare(request, decision)


def _give_back(slurm: SlurmPort, token: str, job_id: JobId | None) -> None:
    """Cancel the allocation, also one that was granted while we were interrupted."""
    with suppress(SlurmError):
        for each in (job_id,) if job_id is not None else slurm.find(token):
            slurm.cancel(str(each))


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, then be what they were before."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
