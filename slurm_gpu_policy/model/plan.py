"""What Slurm has of accounts and QOS, what the policy wants there, and the steps between.

All values are texts in one form each, so that two are equal exactly where they mean the same:
``unlimited`` for no limit, times in seconds, lists sorted with commas, ``inherited`` for what an
association has no own value of, ``none`` for an empty list. Names are in lower case, as
Slurm keeps them.
"""

from __future__ import annotations

from dataclasses import field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from slurm_gpu_policy.model.record import record

if TYPE_CHECKING:
    from collections.abc import Mapping

UNLIMITED: Final = "unlimited"
INHERITED: Final = "inherited"
NONE: Final = "none"
YES: Final = "yes"

Verb = Literal["create", "set", "remove"]

ObjectId = tuple[str, ...]
"""``("qos", "high")``, ``("account", "nlp")``, ``("user", "nlp", "u1")`` (u1 in account nlp), and
``("coordinator", "nlp", "u1")``; the kind comes first. In what apply remembers and removes also
``("record", "nlp")``: what Slurm's database keeps of an account that no cluster has."""

_EMPTY: Mapping[ObjectId, Mapping[str, str]] = MappingProxyType({})


@record
class Present:
    """What one cluster has, each object with all its own values (nothing inherited).

    A user's association with one partition only is no object here: nothing of ours makes or
    changes those.
    """

    objects: Mapping[ObjectId, Mapping[str, str]] = field(default_factory=lambda: _EMPTY)
    records: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: MappingProxyType({}))
    """Accounts that Slurm's database knows, on whichever cluster, with their ``description`` and
    ``organization``, which they have in common."""
    users: frozenset[str] = frozenset()
    """Users that it knows."""
    partition_bound: frozenset[tuple[str, str]] = frozenset()
    """(account, user) with an association for one partition."""


@record
class Uses:
    """What cannot be taken away now, because somebody uses it."""

    jobs: frozenset[ObjectId] = frozenset()
    """Accounts, users in accounts, and QOS that have waiting or running jobs."""
    partitions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """QOS that a partition names, with that partition."""


@record
class Wanted:
    """What the policy file says; a value it leaves out is not there, and stays as it is."""

    objects: Mapping[ObjectId, Mapping[str, str]] = field(default_factory=lambda: _EMPTY)
    listed_users: frozenset[str] = frozenset()
    """Accounts whose users the file lists: of these, users that we made and it no longer lists
    are taken out."""
    listed_coordinators: frozenset[str] = frozenset()
    closed: frozenset[str] = frozenset()
    opened: frozenset[str] = frozenset()
    """Accounts that the file says are not closed."""
    also_preempts: Mapping[str, frozenset[str]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """QOS that others must preempt besides what they preempt already."""
    also_qos: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    """QOS that accounts must allow besides those they allow already."""


@record
class Made:
    """What earlier runs of ``gpu-policy apply`` have made, or were about to make."""

    objects: frozenset[ObjectId] = frozenset()
    closed: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Accounts that were closed, with the ``submitted_jobs`` they had before."""


@record
class FieldChange:
    """One value of one object; ``before`` is empty where the object is new."""

    name: str
    before: str
    after: str


@record
class Change:
    """One step: one object made, changed or removed, by one call to Slurm."""

    verb: Verb
    what: ObjectId
    fields: tuple[FieldChange, ...] = ()
    because: str = ""
    """Why, where the policy file does not say so itself."""

    @property
    def kind(self) -> str:
        """The kind of the object."""
        return self.what[0]

    def value(self, name: str, default: str = "") -> str:
        """Return what a field is set to."""
        return next((one.after for one in self.fields if one.name == name), default)


@record
class Plan:
    """The steps from what is to what is wanted, in their order."""

    changes: tuple[Change, ...] = ()
    remarks: tuple[str, ...] = ()
    """What is left as it is though the policy would have it otherwise, and why."""
    problems: tuple[str, ...] = ()
    """What in the policy file cannot be; with one of these nothing may be applied."""


@record
class FileChange:
    """A file to be written; ``before`` is ``None`` where there is none."""

    path: str
    before: str | None
    after: str
