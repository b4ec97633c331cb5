"""What is asked and answered, by whatever way (over the network it is sealed: sealing.py).

Request: ``{"request": NAME, ...}``. Answer: ``{"ok": true, "result": {...}}`` or ``{"ok": false,
"error": KIND, "message": TEXT}``, where KIND is the name of a class in errors.py; ``fields`` has
what else the error is made of. Each is one line.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NoReturn

from slurm_gpu_policy import errors
from slurm_gpu_policy.errors import (
    ControllerUnavailable,
    JobNotFound,
    PolicyFileError,
    PolicyLayerError,
    Refused,
    RequestError,
)
from slurm_gpu_policy.model.decision import Decision, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_REQUEST: Final = 64 * 1024
LONGEST_ANSWER: Final = 64 * 1024 * 1024
"""Bytes; the audit log of a busy week is some millions."""

_KINDS: Final = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, PolicyLayerError)
}


def encode(message: Mapping[str, Any]) -> bytes:
    """Return a message as a line."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


def decode_request(line: bytes) -> dict[str, Any]:
    """Return a request from any bytes that somebody sent.

    Raises:
        RequestError: they are no request.
    """
    try:
        request = json.loads(line.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        msg = f"the request is no line of JSON: {str(error)[:200]}"
        raise RequestError(msg) from error
    if not isinstance(request, dict) or not isinstance(request.get("request"), str):
        msg = 'the request is no object that names what is wanted: {"request": NAME, ...}'
        raise RequestError(msg)
    return request


def decode_answer(line: bytes) -> dict[str, Any]:
    """Return the result in an answer.

    Raises:
        PolicyLayerError: the error that the controller answered with, of the same kind.
        ControllerUnavailable: this is no answer.
    """
    try:
        answer = json.loads(line)
        if answer["ok"] is True:
            result: dict[str, Any] = answer["result"]
            return result
        error = _made_again(answer["error"], answer["message"], answer.get("fields", {}))
    except (ValueError, RecursionError, KeyError, TypeError) as problem:
        msg = "gpu-policyd answered what nobody can read: is it of the same release?"
        raise ControllerUnavailable(msg) from problem
    raise error


def failure(error: PolicyLayerError) -> dict[str, Any]:
    """Return an error as an answer."""
    # A kind of its own, which an adapter may have, goes as what it is a kind of.
    kind = next(each for each in type(error).__mro__ if _KINDS.get(each.__name__) is each)
    fields: dict[str, Any] = {}
    if isinstance(error, JobNotFound):
        fields = {"job_id": error.job_id}
    elif isinstance(error, PolicyFileError):
        fields = {"path": error.path, "problems": error.problems}
    elif isinstance(error, Refused):
        fields = {"reasons": [_reason_fields(reason) for reason in error.decision.reasons]}
    return {"ok": False, "error": kind.__name__, "message": str(error), "fields": fields}


def _reason_fields(reason: Reason) -> dict[str, str | None]:
    return {
        "rule": reason.rule,
        "message": reason.message,
        "value": reason.value,
        "limit": reason.limit,
        "remedy": reason.remedy,
    }


def _made_again(name: str, message: str, fields: Mapping[str, Any]) -> PolicyLayerError:
    kind = _KINDS.get(name, PolicyLayerError)
    if kind is JobNotFound:
        return JobNotFound(fields["job_id"])
    if kind is PolicyFileError:
        return PolicyFileError(fields["path"], fields["problems"])
    if kind is Refused:
        reasons = tuple(Reason(**reason) for reason in fields["reasons"])
        return Refused(Decision("refuse", reasons))
    return kind(message)


def _refuse(constant: str) -> NoReturn:
    msg = f"{constant} is no number"
    raise ValueError(msg)
