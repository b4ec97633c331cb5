"""Time that stands still until a test moves it."""

from __future__ import annotations


class FakeClock:
    """Implements :class:`slurm_gpu_policy.services.ports.Clock`; sleeping moves it on."""

    def __init__(self, now: int = 1_800_000_000) -> None:
        self.seconds = float(now)

    def now(self) -> int:
        return int(self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self.seconds += seconds
