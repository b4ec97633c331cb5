"""Asks the controller on another machine, by credentials of MUNGE (sealing.py)."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.adapters.control.client import ANSWER_SECONDS, Connection, encode_request
from slurm_gpu_policy.adapters.control.protocol import decode_answer
from slurm_gpu_policy.adapters.control.sealing import (
    LONGEST_GREETING,
    LONGEST_SEALED_ANSWER,
    PROTOCOL,
    new_nonce,
    seal_request,
    unseal_answer,
)
from slurm_gpu_policy.errors import ControllerUnavailable, PolicyLayerError
from slurm_gpu_policy.model.address import parse_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from slurm_gpu_policy.adapters.control.sealing import Realm


class RemoteClient:
    """Asks whoever listens at the TCP address ``HOST:PORT``, if it is gpu-policyd of *realm*."""

    def __init__(
        self, address: str, realm: Callable[[], Realm], *, answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        self._address = address
        self._realm = realm
        self._answer_seconds = answer_seconds
        self.where = f"at {address}"

    def ask(self, request: str, **fields: Any) -> dict[str, Any]:
        """Send a request and return its result, as ``ControlClient.ask``."""
        line = encode_request(request, fields)
        realm = self._realm()
        places = self._look_up()
        with Connection(self.where, self._answer_seconds) as controller:
            controller.connect(places)
            user_id, challenge = self._greeted(controller, realm)
            nonce = new_nonce()
            try:
                sealed = seal_request(realm, line, challenge, nonce, user_id)
            except ControllerUnavailable as error:
                controller.fail(f"on this machine {error}", error)
            controller.send(sealed + b"\n")
            sealed = controller.read_all(LONGEST_SEALED_ANSWER)
            if not sealed.startswith(b"MUNGE:"):
                controller.fail(_unsealed(sealed))
            return decode_answer(unseal_answer(realm, sealed, nonce, user_id))

    def _look_up(self) -> list[tuple[int, Any]]:
        host, port = parse_address(self._address)
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            why = error.strerror or str(error)
            msg = f"gpu-policyd cannot be reached {self.where}: {host} is not known: {why}"
            raise ControllerUnavailable(msg) from error
        return [(int(family), place) for family, *_, place in found]

    def _greeted(self, controller: Connection, realm: Realm) -> tuple[int, str]:
        """Return who it says it is, of those who are believed, and its challenge."""
        line = controller.read_line(LONGEST_GREETING)
        try:
            greeting = json.loads(line)
            protocol = greeting.get("protocol")
            user_id, challenge = greeting.get("user_id"), greeting.get("challenge")
        except (ValueError, RecursionError, AttributeError):
            protocol = None
        if protocol != PROTOCOL or type(user_id) is not int or not isinstance(challenge, str):
            controller.fail(_unsealed(line))
        if user_id not in realm.server_ids:
            controller.fail(
                f"whoever listens there is user id {user_id}, neither root nor SlurmUser of "
                f"cluster {realm.cluster}"
            )
        return user_id, challenge


def _unsealed(line: bytes) -> str:
    """Return in words what came without a credential, which anybody may have sent."""
    try:
        decode_answer(line)
    except PolicyLayerError as error:
        return f"it says, and nobody vouches for these words: {error}"
    return "it answers without a credential, so that nobody vouches for it"
