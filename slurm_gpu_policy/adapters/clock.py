"""The only reader of the machine's clocks."""

from __future__ import annotations

import time


class SystemClock:
    """Implements :class:`slurm_gpu_policy.services.ports.Clock`."""

    def now(self) -> int:
        """Return Unix seconds."""
        return int(time.time())  # noqa: TID251

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)
