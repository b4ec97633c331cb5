"""Speaks to systemd as sd_notify(3) has it; without systemd every word goes nowhere."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class ServiceManager:
    """The service manager that started this process, if one did. Nothing here raises or waits."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self.watchdog_seconds = _watchdog_seconds(environment)
        """How long it waits for a sign of life (:meth:`alive`) before it ends this process;
        ``None`` if for ever. A sign is due in half of that (sd_watchdog_enabled(3))."""

    def ready(self, status: str = "") -> None:
        """Tell that the start, or a reload, is over."""
        self._tell("READY=1", *_status(status))

    def reloading(self) -> None:
        """Tell that the configuration is being read again; :meth:`ready` ends it."""
        # Of CLOCK_MONOTONIC itself: systemd compares it with its own.
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={microseconds}")

    def stopping(self) -> None:
        """Tell that this process is about to end."""
        self._tell("STOPPING=1")

    def alive(self) -> None:
        """Give the watchdog a sign of life."""
        if self.watchdog_seconds is not None:
            self._tell("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Set the line that ``systemctl status`` shows."""
        self._tell(*_status(text))

    def _tell(self, *lines: str) -> None:
        if not self._address or not lines:
            return
        # An address that begins with @ is an abstract one: it has no file.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        message = "\n".join(lines).encode("utf-8", "backslashreplace")
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.settimeout(0)
            line.sendto(message, address)


def _status(text: str) -> tuple[str, ...]:
    """Return the assignment of a status, on one line: the next would be taken for an order."""
    line = " ".join(text.split())
    return (f"STATUS={line}",) if line else ()


def _watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """Return the watchdog's time if it is this process that it watches."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) else None
