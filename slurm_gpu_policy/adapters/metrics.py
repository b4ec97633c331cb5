"""What the controller does, for Prometheus. Needs the extra ``controller``.

All series begin with ``slurm_gpu_policy_``, those of the program itself with
``slurm_gpu_policy_controller_``. Errors here are logged by nobody: metrics
that cannot be served are seen to be missing.
"""

from __future__ import annotations

import socket
import threading
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    make_wsgi_app,
)

from slurm_gpu_policy.errors import PolicyLayerError, RequestError
from slurm_gpu_policy.model.address import parse_address
from slurm_gpu_policy.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_gpu_policy.model.notice import Delivery
    from slurm_gpu_policy.model.tick import TickReport
    from slurm_gpu_policy.services.ports import Clock

_PREFIX: Final = "slurm_gpu_policy_controller"
_NOT_KNOWN: Final = float("nan")
_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120)
_SLOWEST_SCRAPE_SECONDS: Final = 5.0
_SCRAPES_AT_ONCE: Final = 8


class Metrics:
    """Implements :class:`slurm_gpu_policy.services.ports.ObserverPort`; serves after :meth:`start`.

    Figures that the last tick did not come to know are ``NaN``.
    """

    def __init__(self, clock: Clock, registry: CollectorRegistry | None = None) -> None:
        # They would be a second series for each counter, of no use to anybody.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry or CollectorRegistry()
        self._clock = clock
        self._snapshot_time: int | None = None
        self._server: WSGIServer | None = None

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"{_PREFIX}_{name}", text, registry=self.registry)

        def counter(name: str, text: str, labels: Sequence[str] = ()) -> Counter:
            return Counter(f"{_PREFIX}_{name}", text, labels, registry=self.registry)

        ProcessCollector(registry=self.registry)
        info = Gauge(f"{_PREFIX}_info", "Its release.", ["version"], registry=self.registry)
        info.labels(__version__).set(1)
        self._duration = Histogram(
            f"{_PREFIX}_tick_duration_seconds",
            "How long ticks took, as the leader.",
            registry=self.registry,
            buckets=_BUCKETS,
        )
        self._succeeded = gauge(
            "last_successful_tick_timestamp_seconds", "When the last tick without errors began."
        )
        gauge("snapshot_age_seconds", "Age of what was last read of Slurm.").set_function(
            self._snapshot_age
        )
        self._actions = counter(
            "actions_total", "Actions on jobs by what became of them.", ("verb", "rule", "outcome")
        )
        self._errors = counter("errors_total", "Errors that ended a tick or part of it.", ("kind",))
        self._calls = counter("slurm_calls_total", "Calls made to Slurm.")
        self._leading = gauge("leading", "1 where this controller leads, 0 where it stands by.")
        self._dry_run = gauge("dry_run", "1 where it only says what it would do.")
        self._policy_ok = gauge("policy_file_ok", "0 while the policy file is wrong.")
        self._policy_loaded = gauge(
            "policy_file_last_reload_timestamp_seconds",
            "When the policy in force was read from its file.",
        )
        self._pending = gauge("pending_jobs", "Jobs that wait in the queue.")
        self._unfinished = gauge(
            "audit_entries_unfinished", "Entries of the audit log whose outcome is not known yet."
        )
        self._notices = Counter(
            "slurm_gpu_policy_notices_total",
            "Notices to people by way and by what became of them.",
            ("way", "outcome"),
            registry=self.registry,
        )
        for unknown in (self._pending, self._unfinished):
            unknown.set(_NOT_KNOWN)

    def ticked(self, report: TickReport) -> None:
        """Count what a tick did."""
        if report.leading:
            self._duration.observe(report.duration_seconds)
        if report.succeeded:
            self._succeeded.set(report.time)
        for entry in report.actions:
            self._actions.labels(entry.action.verb, entry.action.rule, entry.outcome).inc()
        for kind in report.errors:
            self._errors.labels(kind).inc()
        self._calls.inc(report.slurm_calls)
        self._leading.set(report.leading)
        self._dry_run.set(report.dry_run)
        self._pending.set(_known(report.pending_jobs))
        self._unfinished.set(_known(report.unfinished_entries))
        if report.snapshot_time is not None:
            self._snapshot_time = report.snapshot_time

    def policy_loaded(self, now: int, problems: Sequence[str]) -> None:
        """Note that the policy file was read, or could not be."""
        self._policy_ok.set(not problems)
        if not problems:
            self._policy_loaded.set(now)

    def delivered(self, delivery: Delivery) -> None:
        """Count what became of a notice; from any thread."""
        self._notices.labels(delivery.way, delivery.fate).inc()

    def start(self, address: str) -> int:
        """Serve ``/metrics`` on *address* (``HOST:PORT``, ``[::1]:PORT``) and return the port.

        Raises:
            PolicyLayerError: the address cannot be served on.
        """
        try:
            host, port = parse_address(address)
            kind: type[WSGIServer] = _Server
            if ":" in host:
                kind = type("_Server6", (_Server,), {"address_family": socket.AF_INET6})
            app = make_wsgi_app(self.registry)
            self._server = make_server(host, port, app, kind, handler_class=_Handler)
        except (OSError, RequestError, ValueError) as error:
            msg = f"metrics cannot be served on {address!r}: {error}"
            raise PolicyLayerError(msg) from error
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()
        return int(self._server.server_port)

    def stop(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _snapshot_age(self) -> float:
        """Grows while Slurm cannot be read; a clock that was set back makes nothing younger."""
        if self._snapshot_time is None:
            return _NOT_KNOWN
        return max(self._clock.now() - self._snapshot_time, 0)


class _Server(ThreadingMixIn, WSGIServer):
    """Serves a few at once; who comes then is turned away, so that nobody can use up threads."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, *args: Any) -> None:
        self._free = threading.BoundedSemaphore(_SCRAPES_AT_ONCE)
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a scraper that went away."""


class _Handler(WSGIRequestHandler):
    """Waits for a request as long as a scrape may take, and writes no log of its own."""

    timeout = _SLOWEST_SCRAPE_SECONDS

    def log_message(self, *_args: object) -> None:
        """Write nothing."""


def _known(value: int | None) -> float:
    return _NOT_KNOWN if value is None else value
