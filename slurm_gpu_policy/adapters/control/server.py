"""Answers on the controller's socket, in threads of its own.

One thread holds all connections, so that many slow clients cost no more than their descriptors;
the requests themselves are handled by a few workers. The kernel says who is at the other end.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import stat
import struct
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.adapters.control.protocol import (
    LONGEST_REQUEST,
    decode_request,
    encode,
    failure,
)
from slurm_gpu_policy.errors import ControllerUnavailable, PolicyLayerError, RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slurm_gpu_policy.model.caller import Caller

_WORKERS = 4
_CLIENTS = 256
_CLIENTS_OF_ONE_USER = 32
"""So that one user cannot shut all others out."""
_PATIENCE_SECONDS = 5.0
"""For a request to come, and for its answer to be taken."""
_LEAVE_SECONDS = 5.0
_PAUSE_SECONDS = 0.5
_CREDENTIALS = struct.Struct("3i")  # pid, user id, group id (unix(7), SO_PEERCRED)


class ControlServer:
    """Listens on the socket *path* from :meth:`start` to :meth:`stop`.

    *handle* is called in a worker thread with who asks and the request; an error of ours becomes
    an answer, any other is given to *on_defect* and hidden from the client. *identify* makes a
    caller of a user id.
    """

    def __init__(
        self,
        path: str,
        handle: Callable[[Caller, Mapping[str, Any]], dict[str, Any]],
        identify: Callable[[int], Caller],
        on_defect: Callable[[Exception], None],
        *,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        self._path = Path(path)
        self._handle = handle
        self._identify = identify
        self._on_defect = on_defect
        self._patience = patience_seconds
        self._clients: Counter[int] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent: set[asyncio.Task[None]] = set()
        """Those whose client has not said yet what it wants: an end waits for none of them."""

    def start(self) -> None:
        """Listen, and return at once.

        Raises:
            ControllerUnavailable: another one listens there, or the socket cannot be made.
        """
        self._lock = _lock(self._path)
        try:
            listening = _listen(self._path)
        except BaseException:
            os.close(self._lock)
            raise
        self._made = self._path.stat().st_ino
        self._workers = ThreadPoolExecutor(_WORKERS, "control")
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
        self._workers.shutdown(wait=False, cancel_futures=True)
        with suppress(OSError):
            if self._path.stat().st_ino == self._made:
                self._path.unlink()
        os.close(self._lock)

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
        except BlockingIOError:
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
        user_id = _user_of(line)
        self._clients[user_id] += 1
        crowded = self._crowded(user_id)
        reader, writer = await asyncio.open_unix_connection(sock=line, limit=LONGEST_REQUEST)
        try:
            answer = crowded or await self._answer(reader, user_id)
            if answer is not None:
                writer.write(answer)
                writer.close()
                await asyncio.wait_for(writer.wait_closed(), self._patience)
        except (OSError, TimeoutError):  # it went away, or does not read
            pass
        finally:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()
            self._clients[user_id] -= 1
            if not self._clients[user_id]:
                del self._clients[user_id]

    def _crowded(self, user_id: int) -> bytes:
        """Return what to answer to one client too many; nothing while there is room."""
        crowded = self._clients[user_id] > _CLIENTS_OF_ONE_USER
        if not crowded and self._clients.total() <= _CLIENTS:
            return b""
        whose = "yours" if crowded else "everybody's"
        msg = f"gpu-policyd has too many requests at once ({whose}): try again"
        return encode(failure(ControllerUnavailable(msg)))

    async def _answer(self, reader: asyncio.StreamReader, user_id: int) -> bytes | None:
        """Return what to answer; ``None`` for somebody who said nothing."""
        try:
            line = await asyncio.wait_for(reader.readuntil(b"\n"), self._patience)
        except asyncio.IncompleteReadError as error:
            if not error.partial:
                return None
            return encode(failure(RequestError("the request ends without a line end")))
        except asyncio.LimitOverrunError:
            msg = f"the request has more than {LONGEST_REQUEST} bytes"
            return encode(failure(RequestError(msg)))
        except TimeoutError:
            msg = f"the request did not come in {self._patience:g} s"
            return encode(failure(RequestError(msg)))
        task: Any = asyncio.current_task()
        self._silent.discard(task)
        return await self._loop.run_in_executor(self._workers, self._work, user_id, line)

    def _work(self, user_id: int, line: bytes) -> bytes:
        """Handle a request, in a worker; looking a user up may take a directory's time too."""
        try:
            request = decode_request(line)
            result = self._handle(self._identify(user_id), request)
            return encode({"ok": True, "result": result})
        except PolicyLayerError as error:
            return encode(failure(error))
        except Exception as error:  # noqa: BLE001 - one request's defect must not end the others
            self._on_defect(error)
            msg = "gpu-policyd failed at this request; its log says at what"
            return encode(failure(PolicyLayerError(msg)))


def _user_of(line: socket.socket) -> int:
    raw = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _pid, user_id, _group_id = _CREDENTIALS.unpack(raw)
    return int(user_id)


def _lock(path: Path) -> int:
    """Return a descriptor that holds the socket's lock file, so that two cannot start at once."""
    try:
        path.parent.mkdir(mode=0o755, exist_ok=True)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _cannot(path, error.strerror) from error
    with suppress(OSError):  # left behind by root, it must not keep the folder's owner from it
        os.fchown(lock, path.parent.stat().st_uid, -1)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise _cannot(path, "another gpu-policyd on this machine has it") from error
    return lock


def _listen(path: Path) -> socket.socket:
    """Return a socket that listens at *path*, in the place of one that nobody listens on."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_there(path):
            _need_nobody(path)
            path.unlink()
        listening.bind(str(path))
        path.chmod(0o666)  # everybody may ask; who asks is what decides
        listening.listen(128)
        listening.settimeout(0)
    except OSError as error:
        listening.close()
        raise _cannot(path, error.strerror or str(error)) from error
    except BaseException:
        listening.close()
        raise
    return listening


def _is_there(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(mode):
        raise _cannot(path, "there is something that is no socket")
    return True


def _need_nobody(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        with suppress(ConnectionRefusedError):
            with suppress(TimeoutError, BlockingIOError):
                probe.connect(str(path))
            raise _cannot(path, "another program listens there")


def _cannot(path: Path, why: str | None) -> ControllerUnavailable:
    return ControllerUnavailable(f"gpu-policyd cannot listen on its socket {path}: {why}")
