"""Asks the controller."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.adapters.control.protocol import (
    LONGEST_ANSWER,
    LONGEST_REQUEST,
    decode_answer,
    encode,
)
from slurm_gpu_policy.errors import ControllerUnavailable, RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import NoReturn, Self

ANSWER_SECONDS = 90.0
"""A request waits for the tick that is under way, which waits for Slurm."""
_CONNECT_SECONDS = 5.0


class ControlClient:
    """Asks whoever listens on the socket *path*."""

    def __init__(self, path: str, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._path = path
        self._answer_seconds = answer_seconds
        self.where = f"on its socket {path}"

    def ask(self, request: str, **fields: Any) -> dict[str, Any]:
        """Send a request and return its result.

        Raises:
            ControllerUnavailable: nobody answers; where the request was sent, the text says that
                it may have taken effect.
            PolicyLayerError: what the controller answered with, of the same kind as there.
        """
        line = encode_request(request, fields)
        with Connection(self.where, self._answer_seconds) as controller:
            controller.connect([(socket.AF_UNIX, self._path)])
            controller.send(line)
            return decode_answer(controller.read_line(LONGEST_ANSWER))


def encode_request(request: str, fields: dict[str, Any]) -> bytes:
    """Return a request as a line.

    Raises:
        RequestError: it is too long.
    """
    line = encode({**fields, "request": request})
    if len(line) > LONGEST_REQUEST:
        msg = f"the request has {len(line)} bytes; {LONGEST_REQUEST} are allowed"
        raise RequestError(msg)
    return line


class Connection:
    """One connection to the controller; whatever goes wrong with it is ``ControllerUnavailable``.

    *where* says in an error's text where the controller was looked for.
    """

    def __init__(self, where: str, answer_seconds: float) -> None:
        self._where = where
        self._answer_seconds = answer_seconds
        self._line: socket.socket | None = None
        self._was_sent = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        if self._line is not None:
            self._line.close()

    def connect(self, places: Sequence[tuple[int, Any]]) -> None:
        """Connect to the first of *places* (family, address) where somebody listens."""
        failed: OSError | None = None
        for family, place in places:
            self._line = socket.socket(family, socket.SOCK_STREAM)
            self._line.settimeout(_CONNECT_SECONDS)
            try:
                self._line.connect(place)
            except OSError as error:
                self._line.close()
                failed = error
            else:
                return
        if isinstance(failed, FileNotFoundError | ConnectionRefusedError):
            self.fail("nobody listens there; is it running (systemctl status gpu-policyd)?", failed)
        if isinstance(failed, BlockingIOError | TimeoutError):
            self.fail("it takes no more requests at the moment; try again", failed)
        self.fail(failed.strerror or str(failed) if failed else "it has no address", failed)

    def send(self, line: bytes) -> None:
        """Send the request; the answer has its time from now on."""
        self._was_sent = True
        self._open.settimeout(self._answer_seconds)
        try:
            with suppress(BrokenPipeError, ConnectionResetError):
                self._open.sendall(line)  # it may have answered before it hung up
        except TimeoutError as error:
            self._fail_late(self._answer_seconds, error)
        except OSError as error:
            self._fail_unheard(error)

    def read_line(self, longest: int) -> bytes:
        """Return what comes, up to the end of its first line; that ends what is read."""
        return self._read(longest, to_the_end=False)

    def read_all(self, longest: int) -> bytes:
        """Return all that comes until the other end hangs up."""
        return self._read(longest, to_the_end=True)

    @property
    def _open(self) -> socket.socket:
        assert self._line is not None  # noqa: S101 - for the type checker
        return self._line

    def _read(self, longest: int, *, to_the_end: bool) -> bytes:
        seconds = self._answer_seconds if self._was_sent else _CONNECT_SECONDS
        deadline = time.monotonic() + seconds
        answer = bytearray()
        failed: OSError | None = None
        try:
            while len(answer) <= longest and (to_the_end or not answer.endswith(b"\n")):
                self._open.settimeout(max(deadline - time.monotonic(), 0.01))
                part = self._open.recv(1 << 16)
                if not part:
                    break
                answer += part
        except TimeoutError as error:
            self._fail_late(seconds, error)
        except OSError as error:
            failed = error
        if not answer.endswith(b"\n"):
            self._fail_unheard(failed)
        return bytes(answer)

    def _fail_late(self, seconds: float, error: OSError) -> NoReturn:
        if not self._was_sent:
            self.fail("it says nothing; is it gpu-policyd that listens there?", error)
        self.fail(
            f"no answer in {seconds:.0f} s, and whether the request took effect "
            "is not known; look (gpu-policy audit) before you repeat it",
            error,
        )

    def _fail_unheard(self, error: OSError | None) -> NoReturn:
        if not self._was_sent:
            self.fail("it hung up at once; nothing was done: try again", error)
        self.fail(
            "it hung up without an answer, and whether the request took effect is not known; look "
            "(gpu-policy audit) before you repeat it",
            error,
        )

    def fail(self, why: str, error: Exception | None = None) -> NoReturn:
        """Raise what went wrong, with where."""
        msg = f"gpu-policyd cannot be reached {self._where}: {why}"
        raise ControllerUnavailable(msg) from error
