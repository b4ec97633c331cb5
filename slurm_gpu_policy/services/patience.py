"""Patience with a Slurm that is away: the same call again, after growing pauses."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from slurm_gpu_policy.errors import SlurmAbsent, SlurmUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from slurm_gpu_policy.services.ports import Clock

T = TypeVar("T")

_FIRST_DELAY_SECONDS = 0.5
_LONGEST_DELAY_SECONDS = 10.0


def patiently(
    call: Callable[[], T],
    clock: Clock,
    seconds: float,
    on_wait: Callable[[str], None] = lambda _: None,
) -> T:
    """Return ``call()``, tried again with growing delay while Slurm is away.

    ``on_wait`` is told, in words, each time a retry follows.

    Raises:
        SlurmAbsent: at once, because waiting does not help.
        SlurmUnavailable: Slurm stayed away for longer than *seconds*.
    """
    deadline = clock.monotonic() + seconds
    delay = _FIRST_DELAY_SECONDS
    while True:
        try:
            return call()
        except SlurmAbsent:
            raise
        except SlurmUnavailable as error:
            left = deadline - clock.monotonic()
            if left <= 0:
                raise
            on_wait(f"{error}; trying again for {left:.0f} s")
        clock.sleep(min(delay, left))
        delay = min(delay * 2, _LONGEST_DELAY_SECONDS)
