"""The only taker of signals: what to finish, or undo, before a program is ended."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

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
