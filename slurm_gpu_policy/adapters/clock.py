"""The only reader of the machine's clocks."""

from __future__ import annotations

import time

# Linux's clock that goes on while a machine is suspended: a leader that slept must know it.
_MONOTONIC = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """Implements :class:`slurm_gpu_policy.services.ports.Clock`."""

    def now(self) -> int:
        """Return Unix seconds."""
        return int(time.time())  # noqa: TID251

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back."""
        return time.clock_gettime(_MONOTONIC)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)
