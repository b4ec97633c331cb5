"""The loop around the tick: when, beside what, reload, and an ordered end."""

from __future__ import annotations

import random
import signal
import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.adapters.signals import Inbox
from slurm_gpu_policy.errors import (
    ControllerUnavailable,
    PolicyFileError,
    PolicyLayerError,
    RecordsUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slurm_gpu_policy.apps.controller.surface import Surface
    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.caller import Caller
    from slurm_gpu_policy.services.controller import Controller
    from slurm_gpu_policy.services.ports import Clock

_LONGEST_WAIT_SECONDS = 5.0
"""Between two signs of life to the service manager."""
_LONGEST_BACKOFF_TICKS = 5
_ANSWER_SECONDS = 60.0
"""How long a request waits for a tick that is under way."""
_LEAVE_SECONDS = 30.0
"""How long the end waits for a request that is under way."""
_LEAVE = (signal.SIGTERM, signal.SIGINT)
_NONE_TOLD = ("", float("-inf"))
_AT_START = ("database", "socket", "listen", "metrics", "actor", "lease")
"""Fields of the policy file's part ``controller`` of which a reload takes no notice."""


class Daemon:
    """``gpu-policyd`` as a service: runs until it is told to end."""

    def __init__(
        self,
        controller: Controller,
        surface: Surface,
        load: Callable[[], Policy],
        clock: Clock,
    ) -> None:
        self._controller = controller
        self._surface = surface
        self._load = load
        self._clock = clock
        self._lock = threading.Lock()
        """Held by a tick and by each request on the socket: they change jobs one at a time."""
        self._failures = 0
        self._due = float("-inf")
        self._tick_due = float("-inf")
        self._told_standby = float("-inf")
        self._told_trouble = _NONE_TOLD
        self._is_defective = False
        """While nothing but defects come of it the service manager's watchdog hears nothing."""

    def run(self) -> None:
        """Tick until SIGTERM or SIGINT; SIGHUP reads the policy file again."""
        with ExitStack() as stack:
            inbox = stack.enter_context(Inbox(*_LEAVE, signal.SIGHUP))
            self._controller.stop_when(lambda: inbox.came(*_LEAVE))
            stack.enter_context(self._surface)
            stack.callback(self._leave, inbox)
            self._controller.loaded(self._controller.policy)
            self._surface.ready()
            while not inbox.came(*_LEAVE):
                if inbox.take(signal.SIGHUP):
                    self._reload()
                self._surface.open(self._answer)
                if self._clock.monotonic() >= self._due:
                    self._beat()
                if not self._is_defective:
                    self._surface.alive()
                inbox.wait(min(self._due - self._clock.monotonic(), _LONGEST_WAIT_SECONDS))

    def _beat(self) -> None:
        """Look whether it is ours to lead; if so, and if it is time, do a tick."""
        began, monotonic = self._clock.now(), self._clock.monotonic()
        leads = False
        try:
            with self._lock:
                leads = self._controller.keep_lead()
                if leads and monotonic >= self._tick_due:
                    report = self._controller.run_tick()
                    self._is_defective = False
                    self._plan_next(monotonic, failed=not report.succeeded)
        except PolicyLayerError as error:
            self._tell_trouble(began, monotonic, error)
        except Exception as error:  # noqa: BLE001 - one job's oddity must not end the service
            self._is_defective = True
            self._plan_next(monotonic, failed=True)
            self._surface.defect("a tick failed", error)
            self._controller.failed(began, self._clock.monotonic() - monotonic, error)
        else:
            self._told_trouble = _NONE_TOLD
            self._is_defective = self._is_defective and leads
            if not leads and monotonic - self._told_standby >= self._controller.tick_seconds:
                self._told_standby = monotonic
                self._controller.stands_by(began)
        beat = max(monotonic + self._controller.heartbeat_seconds, self._clock.monotonic())
        self._due = min(beat, self._tick_due) if leads else beat

    def _tell_trouble(self, began: int, monotonic: float, error: PolicyLayerError) -> None:
        """Tell of what fails at every look at the lease once a tick, and of anything else."""
        words, told = self._told_trouble
        if str(error) == words and monotonic - told < self._controller.tick_seconds:
            return
        self._told_trouble = (str(error), monotonic)
        self._controller.failed(began, self._clock.monotonic() - monotonic, error)

    def _plan_next(self, began: float, *, failed: bool) -> None:
        """Set when the next tick is due: at an even pace, more slowly while ticks fail.

        What was missed is not made up for. The pause has a random part, so that the controllers
        of several clusters do not come back to one database all at once.
        """
        every = self._controller.tick_seconds
        self._failures = self._failures + 1 if failed else 0
        due = self._tick_due + every if self._tick_due > began - every else began + every
        if self._failures > 1:
            ticks = min(2 ** (self._failures - 1), _LONGEST_BACKOFF_TICKS)
            due = began + every * random.uniform(0.75 * ticks, ticks)  # noqa: S311
        self._tick_due = due

    def _answer(self, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a request; in a thread of the socket's own."""
        if request.get("request") == "status":
            return self._controller.status()
        if self._controller.may_go_beside(request):
            return self._controller.handle(caller, request)
        if not self._lock.acquire(timeout=_ANSWER_SECONDS):
            msg = "gpu-policyd is busy with a tick that takes long; nothing was done: try again"
            raise ControllerUnavailable(msg)
        try:
            return self._controller.handle(caller, request)
        finally:
            self._lock.release()

    def _reload(self) -> None:
        """Take the policy file as it is now; a wrong one leaves the last good one in force."""
        self._surface.reloading()
        try:
            policy = self._load()
        except PolicyFileError as error:
            self._controller.not_loaded(error.problems)
        else:
            late = _changes_at_start(self._controller.policy, policy)
            if late:
                self._surface.needs_restart(late)
            with self._lock:
                self._controller.loaded(policy)
            self._surface.reloaded(policy)
        self._surface.ready()

    def _leave(self, inbox: Inbox) -> None:
        self._surface.stopping(next((one.name for one in _LEAVE if inbox.came(one)), ""))
        is_ours = self._lock.acquire(timeout=_LEAVE_SECONDS)
        try:
            with suppress(RecordsUnavailable):
                self._controller.resign()
        finally:
            if is_ours:
                self._lock.release()


def _changes_at_start(old: Policy, new: Policy) -> list[str]:
    """Return the fields that differ and take effect at the next start only."""
    late = [
        f"controller.{field}"
        for field in _AT_START
        if getattr(old.controller, field) != getattr(new.controller, field)
    ]
    return [*late, "slurm"] if old.slurm != new.slurm else late
