"""Where the controller listens, and how it knows who is at the other end."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from slurm_gpu_policy.adapters.control.protocol import LONGEST_REQUEST
from slurm_gpu_policy.adapters.control.sealing import (
    LONGEST_SEALED_REQUEST,
    PROTOCOL,
    new_nonce,
    seal_answer,
    unseal_request,
)
from slurm_gpu_policy.errors import ControllerUnavailable, SlurmError
from slurm_gpu_policy.model.address import parse_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from slurm_gpu_policy.adapters.control.sealing import Realm

_CREDENTIALS = struct.Struct("3i")  # pid, user id, group id (unix(7), SO_PEERCRED)
_BACKLOG = 128
MOST_OF_ONE_USER = 32
"""Connections at once, so that one user cannot shut all others out."""


class Guest(Protocol):
    """Whoever is at the other end of one connection."""

    greeting: bytes

    @property
    def key(self) -> int | str:
        """A user id, or where that is not known before the request: an address."""

    def unseal(self, line: bytes) -> tuple[int, bytes]:
        """Return the user id of whoever asks, and the request.

        Raises:
            PolicyLayerError: nobody vouches for it.
        """

    def seal(self, answer: bytes) -> bytes:
        """Return the answer as it goes to whoever asked.

        Raises:
            ControllerUnavailable: that cannot be done now.
        """


class Door(Protocol):
    """A place to listen at. Between :meth:`open` and :meth:`close` it is nobody else's."""

    longest_line: int
    most_of_one: int
    """Connections that one key may have at once, so that one cannot shut all others out."""

    def open(self) -> socket.socket:
        """Return a socket that listens, and does not block.

        Raises:
            ControllerUnavailable: that cannot be, or another one listens there.
        """

    def close(self) -> None:
        """Leave nothing behind."""

    def admit(self, line: socket.socket) -> Guest:
        """Return who comes in.

        Raises:
            OSError: it went away.
        """


class UnixDoor:
    """The Unix socket *path*, open to everybody: the kernel says who is at the other end."""

    longest_line = LONGEST_REQUEST
    most_of_one = MOST_OF_ONE_USER

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def open(self) -> socket.socket:
        """Listen, in the place of a controller that was killed."""
        self._lock = _lock(self._path)
        try:
            listening = _listen(self._path)
        except BaseException:
            os.close(self._lock)
            raise
        self._made = self._path.stat().st_ino
        return listening

    def close(self) -> None:
        """Remove the socket, unless it is another one's by now."""
        with suppress(OSError):
            if self._path.stat().st_ino == self._made:
                self._path.unlink()
        os.close(self._lock)

    def admit(self, line: socket.socket) -> Guest:
        """Ask the kernel who it is."""
        raw = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _pid, user_id, _group_id = _CREDENTIALS.unpack(raw)
        return _Neighbour(user_id)


class _Neighbour:
    """Somebody on this machine."""

    greeting = b""

    def __init__(self, user_id: int) -> None:
        self.key = user_id

    def unseal(self, line: bytes) -> tuple[int, bytes]:
        return self.key, line

    def seal(self, answer: bytes) -> bytes:
        return answer


class MungeDoor:
    """The TCP address ``HOST:PORT``: a MUNGE credential says who is at the other end.

    *realm* is asked for in a worker when the first request comes, for it may ask Slurm.
    """

    longest_line = LONGEST_SEALED_REQUEST
    most_of_one = 64
    """Of one machine, which may be a login node with many users."""

    def __init__(self, address: str, realm: Callable[[], Realm]) -> None:
        self._address = address
        self._realm = realm
        self.port = 0

    def open(self) -> socket.socket:
        """Listen; ``port`` is then the one that was found where 0 was asked for."""
        host, port = parse_address(self._address)
        try:
            family, *_, place = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            # A port that a controller has just left is free at once (SO_REUSEADDR).
            listening = socket.create_server(
                place[:2], family=family, backlog=_BACKLOG, dualstack_ipv6=place[0] == "::"
            )
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
            msg = f"gpu-policyd cannot listen at {self._address}: {why}"
            raise ControllerUnavailable(msg) from error
        listening.settimeout(0)
        self.port = listening.getsockname()[1]
        return listening

    def close(self) -> None:
        """Do nothing: no file remains."""

    def admit(self, line: socket.socket) -> Guest:
        """Give whoever it is a challenge of their own."""
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        host, _port, *_ = line.getpeername()
        return _Stranger(host, self._realm)


class _Stranger:
    """Somebody on another machine."""

    def __init__(self, host: str, realm: Callable[[], Realm]) -> None:
        self.key = host
        self._realm = realm
        self._challenge = new_nonce()
        greeting = {
            "protocol": PROTOCOL,
            "user_id": os.geteuid(),
            "challenge": self._challenge,
        }
        self.greeting = json.dumps(greeting).encode("ascii") + b"\n"

    def unseal(self, line: bytes) -> tuple[int, bytes]:
        try:
            self._user_id, self._nonce, request = unseal_request(
                self._realm(), line.strip(), self._challenge
            )
        except (ControllerUnavailable, SlurmError) as error:
            msg = f"gpu-policyd cannot tell who asks: {error}"
            raise ControllerUnavailable(msg) from error
        return self._user_id, request

    def seal(self, answer: bytes) -> bytes:
        return seal_answer(self._realm(), answer, self._nonce, self._user_id)


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
        listening.listen(_BACKLOG)
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
