"""Sends notices in the background, by all ways that the site has set up.

Each way has a queue and a thread of its own, so that a mail server that hangs keeps neither a
tick waiting nor the chat channel. Threads begin with the first notice.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.errors import NotifyFailed
from slurm_gpu_policy.model.notice import Delivery

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from slurm_gpu_policy.adapters.notify.way import Way
    from slurm_gpu_policy.model.notice import Fate, Notice
    from slurm_gpu_policy.services.ports import ObserverPort

_MOST_WAITING: Final = 2000
"""Letters of one way."""
_MOST_KEYS: Final = 10_000
_MOST_AT_ONCE: Final = 50
"""Letters over one connection."""
_FIRST_PAUSE_SECONDS: Final = 10.0
_LONGEST_PAUSE_SECONDS: Final = 900.0
_LEAVE_SECONDS: Final = 5.0


class Notifier:
    """Implements :class:`slurm_gpu_policy.services.ports.NotifyPort`; a context manager."""

    def __init__(  # noqa: PLR0913 - bounds, by name
        self,
        ways: Sequence[Way],
        observers: Sequence[ObserverPort] = (),
        *,
        tries: int = 12,
        most_waiting: int = _MOST_WAITING,
        first_pause_seconds: float = _FIRST_PAUSE_SECONDS,
        longest_pause_seconds: float = _LONGEST_PAUSE_SECONDS,
    ) -> None:
        self._observers = tuple(observers)
        self._most_waiting = most_waiting
        self._pauses = (first_pause_seconds, longest_pause_seconds)
        self._tries = tries
        self._telling = threading.Lock()
        self._lanes: dict[str, _Lane] = {}
        self.use(ways, tries)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def send(self, notice: Notice) -> None:
        """Take *notice* to be sent; see the port.

        Raises:
            NotifyFailed: a queue is full. The other ways have taken it, once.
        """
        full = [lane.way.name for lane in self._lanes.values() if not lane.take(notice)]
        if full:
            msg = (
                f"too many notices wait to be sent by {' and '.join(full)}: this one was not taken"
            )
            raise NotifyFailed(msg)

    def use(self, ways: Sequence[Way], tries: int) -> None:
        """Send by these ways from now on, also what waits; what waits for another is dropped."""
        named = {way.name: way for way in ways}
        self._tries = tries
        for name in self._lanes.keys() - named.keys():
            self._lanes.pop(name).stop(0, "this way is no longer in the policy file")
        for name, way in named.items():
            if name in self._lanes:
                self._lanes[name].way = way
            else:
                self._lanes[name] = _Lane(way, self._tell, self._pause, self._most_waiting)

    def problems(self) -> tuple[str, ...]:
        """Return what is wrong with the files of the ways, in words."""
        return tuple(problem for lane in self._lanes.values() for problem in lane.way.problems())

    def stop(self, seconds: float = _LEAVE_SECONDS) -> None:
        """Try all that waits once more, for so long at most, and end."""
        deadline = time.monotonic() + seconds
        for lane in self._lanes.values():
            lane.end()
        for lane in self._lanes.values():
            lane.stop(max(deadline - time.monotonic(), 0), "the controller ended")
        self._lanes.clear()

    def _pause(self, tried: int) -> float | None:
        """Return how long to wait after so many tries, ``None`` where these were enough."""
        if tried >= self._tries:
            return None
        first, longest = self._pauses
        return min(first * 2.0 ** min(tried - 1, 30), longest)

    def _tell(self, delivery: Delivery) -> None:
        with self._telling:
            for observer in self._observers:
                observer.delivered(delivery)


class _Letter:
    """A notice on its way to one address; sorted by when it is due."""

    __slots__ = ("address", "due", "notice", "number", "tried")

    def __init__(self, notice: Notice, address: str, number: int) -> None:
        self.notice = notice
        self.address = address
        self.number = number
        self.due = 0.0
        self.tried = 0

    def __lt__(self, other: _Letter) -> bool:
        return (self.due, self.number) < (other.due, other.number)


class _Lane:
    """The queue of one way, and the thread that empties it."""

    def __init__(
        self,
        way: Way,
        tell: Callable[[Delivery], None],
        pause: Callable[[int], float | None],
        most_waiting: int,
    ) -> None:
        self.way = way
        self._tell = tell
        self._pause = pause
        self._most_waiting = most_waiting
        self._changed = threading.Condition()
        self._waiting: list[_Letter] = []
        self._in_hand: list[_Letter] = []
        self._keys: OrderedDict[str, None] = OrderedDict()
        self._count = 0
        self._is_ending = False
        self._is_over = False
        self._thread: threading.Thread | None = None

    def take(self, notice: Notice) -> bool:
        """Queue a notice that is new here; return ``False`` where there is no room for it."""
        with self._changed:
            if self._is_ending:
                return False
            if notice.key in self._keys:
                return True
            addresses = self.way.addresses(notice)
            has_room = (
                len(self._waiting) + len(self._in_hand) + len(addresses) <= self._most_waiting
            )
            if has_room:
                self._queue(notice, addresses)
        if not has_room:
            words = f"{self._most_waiting} wait already"
            self._tell(Delivery(self.way.name, "dropped", notice, words=words))
        return has_room

    def end(self) -> None:
        """Let the thread try what waits once more, and end."""
        with self._changed:
            self._is_ending = True
            self._changed.notify()

    def stop(self, seconds: float, words: str) -> None:
        """End within *seconds*, and tell of what was not sent."""
        self.end()
        if self._thread is not None:
            self._thread.join(seconds)
        with self._changed:
            self._is_over = True
            left = [*self._in_hand, *self._waiting]
            self._in_hand, self._waiting = [], []
        for letter in left:
            self._tell_of(letter, "dropped", words)

    def _queue(self, notice: Notice, addresses: Sequence[str]) -> None:
        self._keys[notice.key] = None
        while len(self._keys) > _MOST_KEYS:
            self._keys.popitem(last=False)
        for address in addresses:
            self._count += 1
            heapq.heappush(self._waiting, _Letter(notice, address, self._count))
        if self._thread is None and self._waiting:
            # A daemon: a server that hangs must not keep the process from ending.
            self._thread = threading.Thread(
                target=self._work, name=f"notify-{self.way.name}", daemon=True
            )
            self._thread.start()
        self._changed.notify()

    def _work(self) -> None:
        while batch := self._next_batch():
            self._deliver(batch)

    def _next_batch(self) -> list[_Letter]:
        """Wait for letters that are due and take them; none means that the end has come."""
        with self._changed:
            while not self._is_due() and not self._is_ending:
                now = time.monotonic()
                self._changed.wait(self._waiting[0].due - now if self._waiting else None)
            while self._waiting and len(self._in_hand) < _MOST_AT_ONCE:
                if not self._is_ending and not self._is_due():
                    break
                self._in_hand.append(heapq.heappop(self._waiting))
            return list(self._in_hand)

    def _is_due(self) -> bool:
        return bool(self._waiting) and self._waiting[0].due <= time.monotonic()

    def _deliver(self, batch: Sequence[_Letter]) -> None:
        letters = iter(batch)
        failure = NotifyFailed("the way ended without saying what became of it")
        try:
            for outcome in self.way.deliver([(each.notice, each.address) for each in batch]):
                self._settle(next(letters), outcome)
                if self._is_over:
                    return
        except Exception as error:  # noqa: BLE001 - the thread must live; the text may hold secrets
            failure = NotifyFailed(f"a defect: {type(error).__name__}")
        for letter in letters:
            self._settle(letter, failure)

    def _settle(self, letter: _Letter, failure: NotifyFailed | None) -> None:
        letter.tried += 1
        with self._changed:
            if self._is_over:  # it was told that this one is lost
                return
            self._in_hand.remove(letter)
            fate: Fate = "sent"
            if failure is not None:
                pause = None if self._is_ending else self._pause(letter.tried)
                fate = "refused" if failure.is_lasting else "given_up"
                if not failure.is_lasting and pause is not None:
                    fate = "retried"
                    letter.due = time.monotonic() + pause
                    heapq.heappush(self._waiting, letter)
        self._tell_of(letter, fate, str(failure or ""))

    def _tell_of(self, letter: _Letter, fate: Fate, words: str) -> None:
        self._tell(Delivery(self.way.name, fate, letter.notice, letter.address, words))
