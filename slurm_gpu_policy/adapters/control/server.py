"""Answers at one of the controller's doors (doors.py), in threads of its own.

One thread holds all connections, so that many slow clients cost no more than their descriptors;
the requests themselves are handled by a few workers. The door says who is at the other end.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from slurm_gpu_policy.adapters.control.doors import MOST_OF_ONE_USER
from slurm_gpu_policy.adapters.control.protocol import (
    LONGEST_REQUEST,
    decode_request,
    encode,
    failure,
)
from slurm_gpu_policy.errors import ControllerUnavailable, PolicyLayerError, RequestError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping

    from slurm_gpu_policy.adapters.control.doors import Door, Guest
    from slurm_gpu_policy.model.caller import Caller

T = TypeVar("T")

_WORKERS = 4
_READERS = 2
"""They say who asks, also while all workers wait for a tick to end."""
_CLIENTS = 256
_PATIENCE_SECONDS = 5.0
"""For a request to come, and for its answer to be taken."""
_LEAVE_SECONDS = 5.0
_PAUSE_SECONDS = 0.5


class ControlServer:
    """Listens at *door* from :meth:`start` to :meth:`stop`.

    *handle* is called in a worker thread with who asks and the request; an error of ours becomes
    an answer, any other is given to *on_defect* and hidden from the client. *identify* makes a
    caller of a user id.
    """

    def __init__(
        self,
        door: Door,
        handle: Callable[[Caller, Mapping[str, Any]], dict[str, Any]],
        identify: Callable[[int], Caller],
        on_defect: Callable[[Exception], None],
        *,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        self._door = door
        self._handle = handle
        self._identify = identify
        self._on_defect = on_defect
        self._patience = patience_seconds
        self._clients: Counter[int | str] = Counter()
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent: set[asyncio.Task[None]] = set()
        """Those whose client has not said yet what it wants: an end waits for none of them."""

    def start(self) -> None:
        """Listen, and return at once.

        Raises:
            ControllerUnavailable: another one listens there, or nobody can.
        """
        listening = self._door.open()
        self._workers = ThreadPoolExecutor(_WORKERS, "control")
        self._readers = ThreadPoolExecutor(_READERS, "control-reader")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete,
            args=[self._serve(listening)],
            name="control",
            daemon=True,
        )
        self._stopping = asyncio.Event()
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests, finish those under way as far as that is soon, and clean up."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._loop.close()
        for pool in (self._readers, self._workers):
            pool.shutdown(wait=False, cancel_futures=True)
        self._door.close()

    async def _serve(self, listening: socket.socket) -> None:
        # Without asyncio's own server: ended while it accepts, it leaves connections open.
        self._loop.add_reader(listening, self._accept, listening)
        await self._stopping.wait()
        self._loop.remove_reader(listening)
        listening.close()
        for task in self._silent:
            task.cancel()
        deadline = self._loop.time() + _LEAVE_SECONDS
        while self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=max(deadline - self._loop.time(), 0))
            for task in late:
                task.cancel()

    def _accept(self, listening: socket.socket) -> None:
        try:
            line, _ = listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # no descriptor is free: it would be ready again, and again
            self._loop.remove_reader(listening)
            self._loop.call_later(_PAUSE_SECONDS, self._listen_again, listening)
            return
        task = self._loop.create_task(self._talk(line))
        for tasks in (self._tasks, self._silent):
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        task.add_done_callback(lambda _: line.close())  # also where it was ended before it began

    def _listen_again(self, listening: socket.socket) -> None:
        if not self._stopping.is_set():
            self._loop.add_reader(listening, self._accept, listening)

    async def _talk(self, line: socket.socket) -> None:
        try:
            guest = self._door.admit(line)
            reader, writer = await asyncio.open_connection(sock=line, limit=self._door.longest_line)
        except OSError:  # it went away
            return
        self._count += 1
        try:
            with self._one_of(guest.key, self._door.most_of_one) as crowded:
                answer = crowded or await self._converse(reader, writer, guest)
                if answer is not None:
                    writer.write(answer)
                    writer.close()
                    await asyncio.wait_for(writer.wait_closed(), self._patience)
        except (OSError, TimeoutError):  # it went away, or does not read
            pass
        finally:
            self._count -= 1
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()

    @contextmanager
    def _one_of(self, key: int | str, most: int) -> Iterator[bytes]:
        """Count a connection of a user id or an address; yield what to answer to one too many."""
        self._clients[key] += 1
        try:
            if self._clients[key] > most:
                yield _too_many("yours" if isinstance(key, int) else f"those from {key}")
            else:
                yield b"" if self._count <= _CLIENTS else _too_many("everybody's")
        finally:
            self._clients[key] -= 1
            if not self._clients[key]:
                del self._clients[key]

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, guest: Guest
    ) -> bytes | None:
        """Return what to answer; ``None`` for somebody who said nothing."""
        writer.write(guest.greeting)
        try:
            line = await self._heard(reader)
        except RequestError as error:
            return self._failure(error)
        if line is None:
            return None
        task: Any = asyncio.current_task()
        self._silent.discard(task)
        try:
            caller, request = await self._run(self._readers, self._identified, guest, line)
        except Exception as error:  # noqa: BLE001 - as in _work
            return self._failure(error)
        if caller.user_id == guest.key:
            return await self._run(self._workers, self._work, guest, caller, request)
        with self._one_of(caller.user_id, MOST_OF_ONE_USER) as crowded:
            return crowded or await self._run(self._workers, self._work, guest, caller, request)

    async def _heard(self, reader: asyncio.StreamReader) -> bytes | None:
        """Return what somebody said; ``None`` for nothing."""
        try:
            return await asyncio.wait_for(reader.readuntil(b"\n"), self._patience)
        except asyncio.IncompleteReadError as error:
            if not error.partial:
                return None
            msg = "the request ends without a line end"
            raise RequestError(msg) from error
        except asyncio.LimitOverrunError as error:
            msg = f"the request has more than {LONGEST_REQUEST} bytes"
            raise RequestError(msg) from error
        except TimeoutError as error:
            msg = f"the request did not come in {self._patience:g} s"
            raise RequestError(msg) from error

    async def _run(self, pool: ThreadPoolExecutor, what: Callable[..., T], *arguments: Any) -> T:
        return await self._loop.run_in_executor(pool, what, *arguments)

    def _identified(self, guest: Guest, line: bytes) -> tuple[Caller, bytes]:
        """Return who asks for what; in a reader, for looking a user up may take its time."""
        user_id, request = guest.unseal(line)
        return self._identify(user_id), request

    def _work(self, guest: Guest, caller: Caller, line: bytes) -> bytes:
        """Handle a request, in a worker."""
        try:
            answer = encode({"ok": True, "result": self._handle(caller, decode_request(line))})
        except Exception as error:  # noqa: BLE001 - one request's defect must not end the others
            answer = self._failure(error)
        try:
            return guest.seal(answer)
        except PolicyLayerError as error:
            msg = (
                f"gpu-policyd cannot vouch for its answer ({error}), and whether the request took "
                "effect is not known; look (gpu-policy audit) before you repeat it"
            )
            return encode(failure(ControllerUnavailable(msg)))

    def _failure(self, error: Exception) -> bytes:
        """Return an error as an answer; a defect is for the log."""
        if isinstance(error, PolicyLayerError):
            return encode(failure(error))
        self._on_defect(error)
        msg = "gpu-policyd failed at this request; its log says at what"
        return encode(failure(PolicyLayerError(msg)))


def _too_many(whose: str) -> bytes:
    msg = f"gpu-policyd has too many requests at once ({whose}): try again"
    return encode(failure(ControllerUnavailable(msg)))
