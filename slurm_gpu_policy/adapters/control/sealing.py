"""What goes over the network between machines, each line of it but two a credential of MUNGE.

1. The server greets: ``{"protocol": ..., "user_id": ..., "challenge": ...}``.
2. The client sends its request sealed for that user id, if that is root's or SlurmUser's.
3. The server answers sealed for the client's user id, in as many pieces as need be.

Within a credential a line of JSON says what it is, for which cluster, and what it belongs to: a
request to the server's challenge, an answer to the client's nonce. So none serves for another
service, another cluster, another connection or another request, whoever passes it on, and also
where a munged was started anew and forgot what it had seen. A line that is no credential
(``{"ok": false, ...}``: too many clients, a credential that is refused) is believed by nobody.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

from slurm_gpu_policy.adapters.control.protocol import LONGEST_ANSWER, LONGEST_REQUEST
from slurm_gpu_policy.errors import ControllerUnavailable, NotAllowed, RequestError
from slurm_gpu_policy.model.record import record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_gpu_policy.adapters.control.munge import Munge

PROTOCOL: Final = "slurm-gpu-policy/1"
LONGEST_SEALED_REQUEST: Final = 96 * 1024
"""Bytes of a credential; it takes four for three of the request, and some hundred more."""
LONGEST_SEALED_ANSWER: Final = 2 * LONGEST_ANSWER
LONGEST_GREETING: Final = 4096
_PIECE: Final = 512 * 1024
"""Bytes in one credential of an answer; munged takes a little less than 1 MiB."""


@record
class Realm:
    """Whose MUNGE credentials count: those of one cluster, and where *munge* asks."""

    cluster: str
    server_ids: frozenset[int]
    """User ids whom a client believes to be gpu-policyd: root's and SlurmUser's."""
    munge: Munge


def new_nonce() -> str:
    """Return a text that nobody can guess, and that was never used before."""
    return os.urandom(16).hex()


def seal_request(realm: Realm, request: bytes, challenge: str, nonce: str, reader: int) -> bytes:
    """Return *request* as a credential that answers a challenge.

    Raises:
        ControllerUnavailable: munged cannot be asked.
    """
    head = {**_head(realm, "request"), "challenge": challenge, "nonce": nonce}
    return realm.munge.encode(_packed(head, request), reader)


def unseal_request(realm: Realm, credential: bytes, challenge: str) -> tuple[int, str, bytes]:
    """Return who asks, the nonce to answer with, and the request.

    Raises:
        NotAllowed: the credential is refused, or was made for something else.
        RequestError: the request is too long.
        ControllerUnavailable: munged cannot be asked.
    """
    user_id, payload = realm.munge.decode(credential)
    head, request = _unpacked(payload)
    nonce = head.pop("nonce", None)
    _need_same(head, {**_head(realm, "request"), "challenge": challenge})
    if not isinstance(nonce, str):
        msg = "the credential is refused: it has no nonce"
        raise NotAllowed(msg)
    if len(request) > LONGEST_REQUEST:
        msg = f"the request has more than {LONGEST_REQUEST} bytes"
        raise RequestError(msg)
    return user_id, nonce, request


def seal_answer(realm: Realm, answer: bytes, nonce: str, reader: int) -> bytes:
    """Return *answer* as lines of credentials.

    Raises:
        ControllerUnavailable: munged cannot be asked.
    """
    count = max(-(-len(answer) // _PIECE), 1)
    lines = []
    for number in range(count):
        head = {**_head(realm, "answer"), "nonce": nonce, "piece": number, "pieces": count}
        piece = answer[number * _PIECE : (number + 1) * _PIECE]
        lines.append(realm.munge.encode(_packed(head, piece), reader) + b"\n")
    return b"".join(lines)


def unseal_answer(realm: Realm, sealed: bytes, nonce: str, server_id: int) -> bytes:
    """Return the answer that the user id *server_id* gave to the request with this nonce.

    Raises:
        ControllerUnavailable: nobody vouches for it, or munged cannot be asked.
    """
    try:
        return b"".join(_pieces(realm, sealed.splitlines(), nonce, server_id))
    except (NotAllowed, ControllerUnavailable) as error:
        msg = (
            f"nobody vouches for the answer of gpu-policyd ({error}), and whether the request took "
            "effect is not known; look (gpu-policy audit) before you repeat it"
        )
        raise ControllerUnavailable(msg) from error


def _pieces(realm: Realm, lines: list[bytes], nonce: str, server_id: int) -> Iterator[bytes]:
    for number, line in enumerate(lines):
        user_id, payload = realm.munge.decode(line)
        if user_id != server_id:
            msg = f"the credential is refused: it is user id {user_id}'s, not gpu-policyd's"
            raise NotAllowed(msg)
        head, piece = _unpacked(payload)
        place = {"piece": number, "pieces": len(lines)}
        _need_same(head, {**_head(realm, "answer"), "nonce": nonce, **place})
        yield piece


def _head(realm: Realm, what: str) -> dict[str, Any]:
    return {"protocol": PROTOCOL, "is": what, "cluster": realm.cluster}


def _packed(head: dict[str, Any], body: bytes) -> bytes:
    return json.dumps(head, separators=(",", ":")).encode("ascii") + b"\n" + body


def _unpacked(payload: bytes) -> tuple[dict[str, Any], bytes]:
    first, _, body = payload.partition(b"\n")
    try:
        head = json.loads(first)
    except (ValueError, RecursionError):
        head = None
    if not isinstance(head, dict):
        msg = "the credential is refused: it was made for another service"
        raise NotAllowed(msg)
    return head, body


_ELSE: Final = {
    "protocol": "another service, or for another release of this one",
    "is": "another purpose",
    "cluster": "the gpu-policyd of another cluster",
    "challenge": "another connection",
    "nonce": "another request",
}


def _need_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name, value in wanted.items():
        if found.get(name) != value or type(found[name]) is not type(value):
            what = _ELSE.get(name, "another place in the answer")
            msg = f"the credential is refused: it was made for {what}"
            raise NotAllowed(msg)
