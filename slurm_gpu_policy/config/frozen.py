"""A validated policy as plain read-only data, free of pydantic.

Reading attributes is all that the rest of the program does with the policy, and importing
pydantic costs more than submitting a job does. So the validated tree is copied into
:class:`Frozen` records of the same shape, which the content cache can keep. Types say
``Policy``; ADR 0002 has the reasons.
"""

from __future__ import annotations

from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn, cast

if TYPE_CHECKING:
    from slurm_gpu_policy.config.schema import Policy

_RECORD, _MAPPING, _TUPLE = "record", "mapping", "tuple"


class Frozen(SimpleNamespace):
    """A record whose fields are set once."""

    def __setattr__(self, name: str, value: object) -> NoReturn:
        msg = f"the policy is read-only: {name} cannot be set"
        raise AttributeError(msg)

    def __delattr__(self, name: str) -> NoReturn:
        msg = f"the policy is read-only: {name} cannot be deleted"
        raise AttributeError(msg)


def to_plain(value: Any) -> Any:
    """Return a pydantic tree as tuples, dicts and scalars that :func:`from_plain` understands."""
    fields = getattr(type(value), "model_fields", None)
    if fields is not None:
        return (_RECORD, {name: to_plain(getattr(value, name)) for name in fields})
    if isinstance(value, dict):
        return (_MAPPING, {key: to_plain(item) for key, item in value.items()})
    if isinstance(value, tuple):
        return (_TUPLE, [to_plain(item) for item in value])
    return value


def from_plain(plain: Any) -> Policy:
    """Return the read-only tree for what :func:`to_plain` made of a policy."""
    return cast("Policy", _build(plain))


def _build(plain: Any) -> Any:
    if not isinstance(plain, tuple):
        return plain
    kind, content = plain
    if kind == _TUPLE:
        return tuple(_build(item) for item in content)
    items = {name: _build(item) for name, item in content.items()}
    return Frozen(**items) if kind == _RECORD else MappingProxyType(items)
