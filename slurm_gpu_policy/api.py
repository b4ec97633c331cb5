"""The same from Python: :func:`submit` a job, or hold an :func:`allocation` for a while.

>>> from slurm_gpu_policy import allocation, submit
>>> job = submit(["python", "train.py"], gpus=4, gpu_type="h100", hours=8)  # doctest: +SKIP
>>> with allocation(gpus=2, gpu_type="h100", hours=4) as gpus:  # doctest: +SKIP
...     print(gpus.node, gpus.indexes)
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.adapters.clock import SystemClock
from slurm_gpu_policy.adapters.identity import current_user
from slurm_gpu_policy.adapters.signals import signals_raise, signals_wait
from slurm_gpu_policy.errors import (
    JobNotFound,
    Refused,
    RequestError,
    SlurmError,
    SlurmUnavailable,
)
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.model.request import Request
from slurm_gpu_policy.services.patience import patiently

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.decision import Decision
    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.job import NodeAllocation
    from slurm_gpu_policy.model.submission import Submission
    from slurm_gpu_policy.services.ports import SlurmPort
    from slurm_gpu_policy.services.submit import Submit

T = TypeVar("T")


@record
class SubmittedJob:
    """A job in the queue, and the decision that let it in."""

    job_id: JobId
    decision: Decision


@record
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
    gpus: int | None = None,
    gpu_type: str | Sequence[str] = (),
    hours: float | None = None,
    policy: str | None = None,
    **request: Any,
) -> SubmittedJob:
    """Submit a job under the site's policy and return its id and decision.

    *gpus* is 1 unless ``gpus_per_node`` is given; *hours* is the time limit; *policy* another
    policy file than the site's. Further keywords are fields of
    :class:`~slurm_gpu_policy.model.request.Request`: ``nodes``, ``account``, ``partition``,
    ``qos``, ``workload``, ``name``, ``environment`` …

    Raises:
        RequestError: the request cannot be understood, or only a terminal can run it.
        Refused: the policy says no; ``.decision.reasons`` says why.
        SlurmRefused, SlurmUnavailable: what Slurm says, or that it does not.
        PolicyFileError: the policy file is wrong.
    """
    rules, _, use = _open(policy)
    asked = _request(rules, command, gpus, gpu_type, hours, request)
    decision, submission = _prepare(use, asked)
    if submission.interactive:
        msg = (
            "what is interactive runs in a terminal: start it with gpu-submit, or hold GPUs for "
            "this program with slurm_gpu_policy.allocation"
        )
        raise RequestError(msg)
    return SubmittedJob(use.submit(submission), decision)


@contextmanager
def allocation(
    *,
    gpus: int | None = None,
    gpu_type: str | Sequence[str] = (),
    hours: float | None = None,
    timeout_seconds: int | None = None,
    policy: str | None = None,
    **request: Any,
) -> Iterator[Allocation]:
    """Wait for GPUs, hold them while the block lasts, and give them back.

    They are given back at the end, on any exception, and on SIGTERM, SIGHUP and Ctrl-C (in the
    main thread; elsewhere signals are not ours to take, nor are those that are ignored, as
    under nohup). While Slurm is away that is tried again for the site's ``slurm.retry_for``;
    should it stay away, or the process be killed outright, the time limit ends the allocation.

    Raises:
        RequestError: the request cannot be understood, or is not for an allocation.
        SlurmTimeout: not granted within *timeout_seconds*; nothing is left in the queue.
        Further errors as :func:`submit`.
    """
    if senseless := sorted(request.keys() & {"array", "script", "template"}):
        msg = f"an allocation runs no script: leave out {', '.join(senseless)}"
        raise RequestError(msg)
    if timeout_seconds is not None:
        _check_number("timeout_seconds", timeout_seconds, least=1)
    rules, slurm, use = _open(policy)
    asked = _request(rules, ("true",), gpus, gpu_type, hours, request)
    decision, submission = _prepare(use, replace(asked, template="batch"))
    patience = _Patience(rules.slurm.retry_for)
    owner = os.getpid()
    with signals_raise():
        job_id: JobId | None = None
        try:
            job_id = granted = slurm.allocate(submission, timeout_seconds)
            detail = patience.of(lambda: slurm.job(str(granted)))
            yield Allocation(job_id, decision, detail.allocations)
        finally:
            if os.getpid() == owner:  # a child of os.fork() leaves its parent's GPUs alone
                with signals_wait():
                    _give_back(slurm, submission.token, job_id, patience)


def _open(path: str | None) -> tuple[Policy, SlurmPort, Submit]:
    policy = bootstrap.load_policy(path)
    slurm = bootstrap.connect(policy)
    return policy, slurm, bootstrap.make_submit(policy, slurm)


@record
class _Patience:
    """How long Slurm is asked again while it is away."""

    seconds: float

    def of(self, call: Callable[[], T], on_wait: Callable[[str], None] = lambda _: None) -> T:
        return patiently(call, SystemClock(), self.seconds, on_wait)


_COUNTS: Mapping[str, int] = {
    "gpus": 0, "gpus_per_node": 0, "nodes": 1, "ntasks": 1, "cpus_per_task": 1, "memory_mb": 1,
    "time_seconds": 0, "max_cost_micros": 0, "retries": 0, "idle_ok_seconds": 1,
}  # fmt: skip
"""Fields that are whole numbers, and the least that each can be."""
_LARGEST = 2**63 - 1
_TEXTS = frozenset(
    {
        "name",
        "script",
        "account",
        "partition",
        "qos",
        "reservation",
        "array",
        "workload",
        "template",
    }
)
_PAIRS = frozenset({"script_options", "params", "environment", "options"})
_OWN = frozenset({"user", "groups", "command", "gpu_types"})
"""Fields that no keyword fills by its own name."""
_OPTIONAL = frozenset(field.name for field in fields(Request) if field.default is None)


def _request(  # noqa: PLR0913, PLR0917 - one call site away from the public keywords
    policy: Policy,
    command: Sequence[str],
    gpus: int | None,
    gpu_type: str | Sequence[str],
    hours: float | None,
    more: Mapping[str, Any],
) -> Request:
    given: dict[str, Any] = {"workload": policy.defaults.workload, **more}
    known = {field.name for field in fields(Request)} - _OWN
    if unknown := sorted(given.keys() - known):
        msg = f"there is no keyword {', '.join(unknown)}; there are {', '.join(sorted(known))}"
        raise RequestError(msg)
    if hours is not None:
        if "time_seconds" in given:
            msg = "hours and time_seconds say the same: give one of them"
            raise RequestError(msg)
        given["time_seconds"] = _seconds(hours)
    if "gpus_per_node" not in given:
        given["gpus"] = 1 if gpus is None else gpus
    elif gpus is not None:
        msg = "gpus counts the whole job and gpus_per_node one node: give one of them"
        raise RequestError(msg)
    if not command and more.keys().isdisjoint({"script", "template", "workload"}):
        msg = "what shall run? command is empty"
        raise RequestError(msg)
    return Request(
        user=current_user(),
        command=_words("command", command),
        gpu_types=_words("gpu_type", (gpu_type,) if isinstance(gpu_type, str) else gpu_type),
        **{name: _checked(name, value) for name, value in given.items()},
    )


def _seconds(hours: float) -> int:
    is_number = isinstance(hours, int | float) and not isinstance(hours, bool)
    if not is_number or not math.isfinite(hours) or round(hours * 3600) < 1:
        msg = f"hours={hours!r} is not a time limit: give a positive number, such as 0.5 or 8"
        raise RequestError(msg)
    return round(hours * 3600)


def _checked(name: str, value: Any) -> Any:
    """Return the value of a field of :class:`Request` if it has the right form."""
    if value is None and name in _OPTIONAL:
        return None
    if name in _COUNTS:
        _check_number(name, value, least=_COUNTS[name])
    elif name in _TEXTS:
        _check_text(name, value)
    elif name in _PAIRS:
        return _pairs(name, value)
    elif name == "cpu_fallback" and not isinstance(value, bool):
        msg = f"{name}={value!r} is neither True nor False"
        raise RequestError(msg)
    return value


def _check_number(name: str, value: Any, *, least: int) -> None:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or not least <= value <= _LARGEST:
        msg = f"{name}={value!r} is not a whole number from {least} on"
        raise RequestError(msg)


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str) or "\0" in value:
        msg = f"{name}={value!r} is not text"
        raise RequestError(msg)


def _words(name: str, value: Any) -> tuple[str, ...]:
    """Return the words of a list; a path counts as a word."""
    if isinstance(value, str | bytes | Mapping):
        msg = f"{name}={value!r} is not a list of words: write ['python', 'train.py']"
        raise RequestError(msg)
    try:
        words = tuple(os.fspath(word) if isinstance(word, os.PathLike) else word for word in value)
    except TypeError as error:
        msg = f"{name}={value!r} is not a list of words"
        raise RequestError(msg) from error
    for number, word in enumerate(words):
        _check_text(f"{name}[{number}]", word)
    return tuple(filter(None, words)) if name == "gpu_type" else words


def _pairs(name: str, value: Any) -> tuple[tuple[str, str | None], ...]:
    """Return names and values, given as a mapping or as pairs."""
    try:
        pairs = [tuple(pair) for pair in (value.items() if isinstance(value, Mapping) else value)]
    except TypeError as error:
        msg = f"{name}={value!r} is not a mapping of names to values"
        raise RequestError(msg) from error
    for pair in pairs:
        if len(pair) != 2:  # noqa: PLR2004 - name and value
            msg = f"{name} has {pair!r}, which is not a name and a value"
            raise RequestError(msg)
        _check_text(f"a name in {name}", pair[0])
        if pair[1] is not None or name in {"params", "environment"}:
            _check_text(f"{name}[{pair[0]!r}]", pair[1])
    return tuple((key, text) for key, text in pairs)


def _prepare(use: Submit, request: Request) -> tuple[Decision, Submission]:
    request = use.expand(request)
    (decision,) = use.decide_all([request])
    if decision.kind == "refuse":
        raise Refused(decision)
    return decision, use.prepare(request, decision)


def _give_back(slurm: SlurmPort, token: str, job_id: JobId | None, patience: _Patience) -> None:
    """Cancel the allocation, also one that was granted while we were interrupted.

    Never raises: an error here would hide the one that ended the block. What could not be
    given back is said in the program's log, which without any settings is standard error.
    """
    from logging import getLogger  # noqa: PLC0415 - only where something goes wrong

    def release() -> None:
        try:
            for each in (job_id,) if job_id is not None else slurm.find(token):
                slurm.cancel(str(each))
        except JobNotFound:
            return
        except SlurmUnavailable:
            raise
        except SlurmError as error:  # such as Ctrl-C that killed scancel
            raise SlurmUnavailable(str(error)) from error

    what = f"the GPUs of job {job_id}" if job_id is not None else "a request for GPUs"

    def say(words: str) -> None:
        getLogger(__name__).warning("%s could not be given back yet: %s", what, words)

    try:
        patience.of(release, say)
    except SlurmUnavailable as error:
        remedy = (
            f"scancel {job_id}"
            if job_id is not None
            else f"squeue --me -O JobID,Comment:200 | grep {token}, and scancel that job, if any"
        )
        getLogger(__name__).error(  # noqa: TRY400 - a traceback would bury the advice
            "%s could not be given back: %s. They stay yours until the time limit; when Slurm is "
            "back: %s", what, error, remedy,
        )  # fmt: skip
