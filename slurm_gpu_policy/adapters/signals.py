"""The only taker of signals: what to finish, or undo, before a program is ended."""

from __future__ import annotations

import os
import select
import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType
    from typing import Self

_LEAVING = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def signals_raise() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, then be what they were before."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    with _handled(_LEAVING, leave):
        yield


@contextmanager
def signals_wait() -> Iterator[None]:
    """Let SIGTERM, SIGHUP and Ctrl-C take effect only after the block."""
    came: list[int] = []
    with _handled((*_LEAVING, signal.SIGINT), lambda number, _frame: came.append(number)):
        yield
    if came:
        signal.raise_signal(came[0])


class Inbox:
    """Signals that a long-running program takes note of, to act on them at a moment of its own.

    A context manager. A signal never interrupts what is under way, but ends :meth:`wait`.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self._numbers = numbers
        self._came: set[int] = set()

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before = {number: signal.getsignal(number) for number in self._numbers}
        self._wakeup_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in self._numbers:
            signal.signal(number, lambda number, _frame: self._came.add(number))
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._reader)
        os.close(self._writer)

    def came(self, *numbers: signal.Signals) -> bool:
        """Return whether one of *numbers* has come, and not been taken."""
        return not self._came.isdisjoint(numbers)

    def take(self, number: signal.Signals) -> bool:
        """Return whether *number* has come, once."""
        was_there = number in self._came
        self._came.discard(number)
        return was_there

    def wait(self, seconds: float) -> None:
        """Wait; a signal ends it at once."""
        if select.select([self._reader], [], [], max(seconds, 0))[0]:
            with suppress(BlockingIOError):
                os.read(self._reader, 4096)


@contextmanager
def _handled(
    numbers: Sequence[signal.Signals], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Let *handler* take these signals during the block, where they are ours to take.

    They are not outside the main thread; where they are ignored (``nohup``); and where a
    handler is set that is not Python's, for it could not be put back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    taken = {number: old for number, old in before.items() if old not in {None, signal.SIG_IGN}}
    for number in taken:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in taken.items():
            if signal.getsignal(number) is handler:  # else the block has set its own
                signal.signal(number, old)
