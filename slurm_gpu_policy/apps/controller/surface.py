"""What the outside sees of ``gpu-policyd`` while it runs: doors, metrics, notices, systemd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.bootstrap import service
from slurm_gpu_policy.errors import PolicyLayerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from slurm_gpu_policy.adapters.control.server import ControlServer
    from slurm_gpu_policy.adapters.metrics import Metrics
    from slurm_gpu_policy.adapters.notify.notifier import Notifier
    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.caller import Caller

    Answer = Callable[[Caller, Mapping[str, Any]], dict[str, Any]]


class Surface:
    """A context manager: what it opened is closed at its end."""

    def __init__(self, policy: Policy, logger: Any, metrics: Metrics, notifier: Notifier) -> None:
        self._policy = policy
        self._log = logger
        self._metrics = metrics
        self._notifier = notifier
        self._manager = service.make_service_manager()
        self._closed: dict[str, ControlServer] | None = None
        """By their place, the doors at which nobody listens yet; ``None`` before the first try."""
        self._open: list[ControlServer] = []
        self._serves_metrics = not policy.controller.metrics
        self._complaints: set[str] = set()

    def __enter__(self) -> Self:
        self._tell_of_notices()
        return self

    def __exit__(self, *_: object) -> None:
        self._notifier.stop()
        for server in self._open:
            server.stop()
        self._metrics.stop()

    def open(self, answer: Answer) -> None:
        """Listen at each door and serve metrics, as far as that is not so yet.

        While another controller on this machine has them, that one answers; a later call gets
        them.
        """
        if self._closed is None:
            self._closed = service.make_control_servers(
                self._policy, answer, lambda error: self.defect("a request failed", error)
            )
        for place, server in [*self._closed.items()]:
            if self._tries(server.start):
                self._open.append(self._closed.pop(place))
                self._log.info("listens", at=place)
        if not self._serves_metrics:
            address = self._policy.controller.metrics
            self._serves_metrics = self._tries(lambda: self._metrics.start(address))

    def _tries(self, start: Callable[[], object]) -> bool:
        try:
            start()
        except PolicyLayerError as error:
            if str(error) not in self._complaints:
                self._complaints.add(str(error))
                self._log.warning("cannot listen", message=str(error))
            return False
        return True

    def ready(self) -> None:
        """Tell the service manager that the start, or a reload, is over."""
        self._manager.ready()

    def reloading(self) -> None:
        """Tell it that the policy file is being read again."""
        self._manager.reloading()

    def reloaded(self, policy: Policy) -> None:
        """Send notices as a policy file that was read again wants it."""
        service.renew_notifier(self._notifier, policy, self._log)
        self._tell_of_notices()

    def _tell_of_notices(self) -> None:
        """Write what is wrong with the files that sending notices needs; it is tried all the same.

        Not before: who reads the policy file elsewhere may not read these.
        """
        for problem in self._notifier.problems():
            self._log.warning("notices cannot be sent", message=problem)

    def needs_restart(self, fields: list[str]) -> None:
        """Write that a policy file that was read again asks for more than a reload."""
        self._log.warning("takes effect at the next start only", fields=fields)

    def stopping(self, signal: str) -> None:
        """Tell it, and the log, that this process is about to end; ``""`` for no signal."""
        self._log.info("stops", signal=signal)
        self._manager.stopping()

    def alive(self) -> None:
        """Give its watchdog a sign of life."""
        self._manager.alive()

    def defect(self, what: str, error: Exception) -> None:
        """Write a defect of this program into the log, with where it happened."""
        self._log.error(what, exc_info=error)
