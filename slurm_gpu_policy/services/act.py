"""Carries out orders, in as few calls to Slurm as there are kinds of steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.errors import (
    PolicyLayerError,
    SlurmError,
    SlurmRefused,
    SlurmTimeout,
    SlurmUnavailable,
)
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy.retry import with_exclusions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from slurm_gpu_policy.model.action import Outcome
    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.job import Job
    from slurm_gpu_policy.services.orders import Order
    from slurm_gpu_policy.services.ports import BulkVerb, SlurmPort

GONE = "Slurm knows no such job any more"
_NO_MORE = "not tried: this controller does not lead any more"


@record
class Result:
    """What became of one order; ``None`` where it is begun and has to be finished later."""

    outcome: Outcome | None
    words: str = ""
    error: str = ""
    """Class name of the error behind a failure of Slurm, or of the way to it."""


def carry_out(
    slurm: SlurmPort, orders: Sequence[Order], may_act: Callable[[], bool]
) -> Mapping[JobId, Result]:
    """Do *orders*, each at most once, and return what became of each.

    Where doing an order twice would do harm, the job is looked at first, and one that has ended,
    started or been requeued since is left alone. *may_act* is asked before each call. No error
    of Slurm is raised: it is in the results.
    """
    return _Work(slurm, orders, may_act).done()


def error_name(error: Exception) -> str:
    """Return the class of errors.py that an error is of; an adapter may have kinds of its own."""
    ours = PolicyLayerError.__module__
    known = (kind.__name__ for kind in type(error).__mro__ if kind.__module__ == ours)
    return next(known, type(error).__name__)


def drift(before: Job, now: Job | None) -> str:
    """Return in words what happened to a job since *before*; ``""`` for nothing that matters."""
    if now is None:
        return GONE
    if (_phase(now), now.restarts) == (_phase(before), before.restarts):
        return ""
    return f"the job is {now.state.value} now; it was {before.state.value} when this was decided"


def _phase(job: Job) -> str:
    if job.state.is_pending:
        return "waits"
    if job.state is JobState.UNKNOWN:
        return "?"
    return "runs" if job.state.is_active else "over"


def _failed(error: SlurmError, words: str) -> Result:
    return Result("failed", words, error_name(error))


class _Work:
    """Orders under way."""

    def __init__(
        self, slurm: SlurmPort, orders: Sequence[Order], may_act: Callable[[], bool]
    ) -> None:
        self._slurm = slurm
        self._orders = {order.job_id: order for order in orders}
        self._may_act = may_act
        self._results: dict[JobId, Result] = {}
        self._begun: set[JobId] = set()
        """Requeued, and held until the rest is done."""
        self._untold: dict[JobId, str] = {}
        """Slurm's words where nothing could be written into a job's output."""

    def done(self) -> Mapping[JobId, Result]:
        self._look_first()
        self._step(
            self._open(lambda order: order.first == "hold"),
            lambda ids: self._steer("hold", ids),
        )
        self._step(
            self._open(lambda order: order.first == "requeue_held"),
            lambda ids: self._steer("requeue_held", ids),
        )
        self._begun = set(self._open(lambda order: order.first == "requeue_held"))
        for job_id in self._open(lambda order: bool(order.words)):
            self._step([job_id], self._tell)
        self._step(self._open(lambda order: bool(order.changes)), self._change)
        self._step(
            self._open(lambda order: order.last == "release"),
            lambda ids: self._steer("release", ids),
        )
        for job_id in self._open(lambda order: order.last == "cancel"):
            self._step([job_id], self._cancel)
        for job_id in self._orders:
            self._results.setdefault(job_id, Result("done", self._untold.get(job_id, "")))
        return self._results

    def _open(self, is_wanted: Callable[[Order], bool]) -> list[JobId]:
        return [
            job_id
            for job_id, order in self._orders.items()
            if job_id not in self._results and is_wanted(order)
        ]

    def _look_first(self) -> None:
        """Leave alone what has changed since it was decided, where that matters."""
        delicate = self._open(lambda order: order.is_delicate and order.job is not None)
        if not delicate or not self._allowed(delicate):
            return
        try:
            found = {job.job_id: job for job in self._slurm.jobs(self._numbers(delicate))}
        except SlurmError as error:
            self._end(delicate, _failed(error, f"not tried: {error}"))
            return
        for job_id in delicate:
            before = self._orders[job_id].job
            if before is not None and (words := drift(before, found.get(job_id))):
                self._results[job_id] = Result("refused", words)

    def _step(
        self, ids: Sequence[JobId], do: Callable[[Sequence[JobId]], Mapping[JobId, str]]
    ) -> None:
        """Do one kind of step to some jobs."""
        if not ids or not self._allowed(ids):
            return
        try:
            refused = do(ids)
        except SlurmTimeout as error:
            self._end(ids, Result("unknown", str(error), error_name(error)))
            self._end(self._open(lambda _: True), _failed(error, f"not tried: {error}"))
        except SlurmUnavailable as error:
            self._end(self._open(lambda _: True), _failed(error, str(error)))
        except SlurmError as error:
            self._end(ids, _failed(error, str(error)))
        else:
            for job_id, words in refused.items():
                self._end([job_id], Result("refused", words))

    def _numbers(self, ids: Sequence[JobId]) -> list[str]:
        """Return what to ask for to see these jobs: the array, for its waiting rest has no name."""
        jobs = (self._orders[one].job for one in ids)
        numbers = (job.array_job_id or job.job_id for job in jobs if job is not None)
        return [str(number) for number in dict.fromkeys(numbers)]

    def _steer(self, verb: BulkVerb, ids: Sequence[JobId]) -> Mapping[JobId, str]:
        by_address = {self._orders[one].address: one for one in ids}
        refused = self._slurm.steer_many(verb, tuple(by_address))
        return {by_address[address]: words for address, words in refused.items()}

    def _change(self, ids: Sequence[JobId]) -> Mapping[JobId, str]:
        by_address = {self._orders[one].address: one for one in ids}
        wanted = {address: self._changes(self._orders[one]) for address, one in by_address.items()}
        refused = self._slurm.modify_many(wanted)
        return {by_address[address]: words for address, words in refused.items()}

    def _changes(self, order: Order) -> Mapping[str, str]:
        """Return an order's changes; a node that a retry avoids comes beside those avoided."""
        more = order.changes.get("excluded_nodes", "")
        if not more or all(action.verb != "requeue" for action in order.actions):
            return order.changes
        try:
            present = self._slurm.job(order.address).excluded_nodes
        except SlurmRefused:  # it is gone, as the change will show
            return order.changes
        return {**order.changes, "excluded_nodes": with_exclusions(present, more.split(","))}

    def _tell(self, ids: Sequence[JobId]) -> Mapping[JobId, str]:
        """Write into a job's output; one that has none (yet) is told in other ways."""
        order = self._orders[ids[0]]
        try:
            self._slurm.notify(order.address, order.words)
        except SlurmRefused as error:
            self._untold[ids[0]] = f"not written into its output: {error}"
        return {}

    def _cancel(self, ids: Sequence[JobId]) -> Mapping[JobId, str]:
        try:
            self._slurm.cancel(self._orders[ids[0]].address)
        except SlurmRefused as error:
            return {ids[0]: str(error)}
        return {}

    def _allowed(self, ids: Sequence[JobId]) -> bool:
        if self._may_act():
            return True
        self._end(ids, Result("failed", _NO_MORE))
        return False

    def _end(self, ids: Iterable[JobId], result: Result) -> None:
        """Note the end of some orders; a requeue that is begun, or may be, stays open.

        It holds its job, and whoever leads then finishes it (services/mending.py).
        """
        for job_id in ids:
            may_have_begun = job_id in self._begun or (
                self._orders[job_id].first == "requeue_held" and result.outcome == "unknown"
            )
            if may_have_begun:
                self._results[job_id] = Result(None, result.words, result.error)
            else:
                self._results[job_id] = result
