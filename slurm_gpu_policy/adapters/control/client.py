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
    from typing import NoReturn

_ANSWER_SECONDS = 90.0
"""A request waits for the tick that is under way, which waits for Slurm."""
_CONNECT_SECONDS = 5.0


class ControlClient:
    """Asks whoever listens on the socket *path*."""

    def __init__(self, path: str, *, answer_seconds: float = _ANSWER_SECONDS) -> None:
        self._path = path
        self._answer_seconds = answer_seconds

    def ask(self, request: str, **fields: Any) -> dict[str, Any]:
        """Send a request and return its result.

        Raises:
            ControllerUnavailable: nobody answers; where the request was sent, the text says that
                it may have taken effect.
            PolicyLayerError: what the controller answered with, of the same kind as there.
        """
        line = encode({**fields, "request": request})
        if len(line) > LONGEST_REQUEST:
            msg = f"the request has {len(line)} bytes; {LONGEST_REQUEST} are allowed"
            raise RequestError(msg)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line_to:
            self._connect(line_to)
            return decode_answer(self._exchange(line_to, line))

    def _connect(self, line_to: socket.socket) -> None:
        line_to.settimeout(_CONNECT_SECONDS)
        try:
            line_to.connect(self._path)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            self._fail("nobody listens there; is it running (systemctl status gpu-policyd)?", error)
        except (BlockingIOError, TimeoutError) as error:
            self._fail("it takes no more requests at the moment; try again", error)
        except OSError as error:
            self._fail(error.strerror or str(error), error)

    def _exchange(self, line_to: socket.socket, line: bytes) -> bytes:
        deadline = time.monotonic() + self._answer_seconds
        answer = bytearray()
        try:
            with suppress(BrokenPipeError):  # it may have answered before it hung up
                line_to.sendall(line)
            while not answer.endswith(b"\n") and len(answer) <= LONGEST_ANSWER:
                line_to.settimeout(max(deadline - time.monotonic(), 0.01))
                part = line_to.recv(1 << 16)
                if not part:
                    break
                answer += part
        except TimeoutError as error:
            self._fail(
                f"no answer in {self._answer_seconds:.0f} s, and whether the request took effect "
                "is not known; look (gpu-policy audit) before you repeat it",
                error,
            )
        except OSError as error:
            if not answer.endswith(b"\n"):
                self._fail_unheard(error)
        if not answer.endswith(b"\n"):
            self._fail_unheard(None)
        return bytes(answer)

    def _fail_unheard(self, error: OSError | None) -> NoReturn:
        self._fail(
            "it hung up without an answer, and whether the request took effect is not known; look "
            "(gpu-policy audit) before you repeat it",
            error,
        )

    def _fail(self, why: str, error: OSError | None) -> NoReturn:
        msg = f"gpu-policyd cannot be reached on its socket {self._path}: {why}"
        raise ControllerUnavailable(msg) from error
