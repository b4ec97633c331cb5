"""What the outside sees of ``gpu-policyd`` while it runs: socket, metrics, service manager."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.errors import PolicyLayerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from slurm_gpu_policy.adapters.control.server import ControlServer
    from slurm_gpu_policy.adapters.metrics import Metrics
    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.caller import Caller

    Answer = Callable[[Caller, Mapping[str, Any]], dict[str, Any]]


class Surface:
    """A context manager: what it opened is closed at its end."""

    def __init__(self, policy: Policy, logger: Any, metrics: Metrics) -> None:
        self._policy = policy
        self._log = logger
        self._metrics = metrics
        self._manager = bootstrap.make_service_manager()
        self._server: ControlServer | None = None
        self._serves_metrics = not policy.controller.metrics
        self._complaints: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.stop()
        self._metrics.stop()

    def open(self, answer: Answer) -> None:
        """Listen on the socket and serve metrics, as far as that is not so yet.

        While another controller on this machine has them, that one answers; a later call gets
        them.
        """
        if self._server is None:
            server = bootstrap.make_control_server(
                self._policy, answer, lambda error: self.defect("a request failed", error)
            )
            if self._tries(server.start):
                self._server = server
                self._log.info("listens", socket=self._policy.controller.socket)
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

    def needs_restart(self, fields: list[str]) -> None:
        """Write that a policy file that was read again asks for more than a reload."""
        self._log.warning("takes effect at the next start only", fields=fields)

    def stopping(self) -> None:
        """Tell it that this process is about to end."""
        self._manager.stopping()

    def alive(self) -> None:
        """Give its watchdog a sign of life."""
        self._manager.alive()

    def defect(self, what: str, error: Exception) -> None:
        """Write a defect of this program into the log, with where it happened."""
        self._log.error(what, exc_info=error)
