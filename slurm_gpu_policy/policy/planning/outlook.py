"""How Slurm's accounts and QOS will be once the policy file's wishes are carried out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.model.plan import INHERITED, NONE, UNLIMITED
from slurm_gpu_policy.policy.planning.wanting import list_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from slurm_gpu_policy.model.plan import Made, ObjectId, Present, Wanted

ROOT = "root"
CLOSED = "0"
"""The ``submitted_jobs`` of a closed account: GrpSubmitJobs=0 lets no new job in, nor below."""


def names_in(text: str) -> frozenset[str]:
    """Return the names in a list (also of ``+name`` and ``-name``); none for an empty one."""
    if text in {"", NONE, INHERITED}:
        return frozenset()
    return frozenset(part.lstrip("+-") for part in text.split(","))


class Outlook:
    """The objects and values that will be there when all is as it is wanted.

    ``values`` has, of each object that is wanted, the values that somebody or something names:
    the policy file, a QOS' role, the closing of an account. ``parent_of`` is the account tree.
    """

    def __init__(self, wanted: Wanted, present: Present, made: Made) -> None:
        self._wanted, self.present, self._made = wanted, present, made
        self.values = dict(wanted.objects)
        self._add_preempted()
        self._add_closures()
        self.parent_of = self._parents()
        self._add_allowed_qos()

    def final(self, what: ObjectId, name: str) -> str:
        """Return the value that an object will have; ``""`` where that is Slurm's default."""
        if name in (values := self.values.get(what, {})):
            return values[name]
        return self.present.objects.get(what, {}).get(name, "")

    def is_wanted(self, what: ObjectId) -> bool:
        """Whether the policy file, or the role of a QOS, names an object."""
        return what in self._wanted.objects

    def now(self, what: ObjectId, name: str) -> str:
        """Return the value that an object has; ``""`` where it is not there."""
        return self.present.objects.get(what, {}).get(name, "")

    def _update(self, what: ObjectId, **values: str) -> None:
        self.values[what] = {**self.values.get(what, {}), **values}

    def _add_preempted(self) -> None:
        for name, more in self._wanted.also_preempts.items():
            all_of_them = names_in(self.final(("qos", name), "preempts")) | more
            self._update(("qos", name), preempts=list_text(all_of_them, NONE))

    def _add_closures(self) -> None:
        """Close accounts, and give those that we closed and are open again their limit back."""
        for name in self._wanted.closed:
            self._update(("account", name), submitted_jobs=CLOSED)
        for name in self._wanted.opened - self._made.closed.keys():
            if self.final(("account", name), "submitted_jobs") == CLOSED:
                self._update(("account", name), submitted_jobs=UNLIMITED)
        for name, before in self._made.closed.items():
            what = ("account", name)
            named = "submitted_jobs" in self.values.get(what, {})
            if name not in self._wanted.closed and what in self.present.objects and not named:
                self._update(what, submitted_jobs=before)

    def _parents(self) -> dict[str, str]:
        names = {what[1] for what in (*self.present.objects, *self.values) if what[0] == "account"}
        return {
            name: self.final(("account", name), "parent") or ROOT for name in names if name != ROOT
        }

    def _add_allowed_qos(self) -> None:
        for name, more in sorted(self._wanted.also_qos.items(), key=lambda one: self.depth(one[0])):
            what = ("account", name)
            if what not in self.present.objects and what not in self.values:
                continue  # a budget may name an account that Slurm does not have
            allowed = self._allowed(name)
            if not more <= allowed:
                self._update(what, qos=list_text(allowed | more, INHERITED))

    def _allowed(self, account: str) -> frozenset[str]:
        """Return the QOS that an account will allow, its own or those of the accounts above."""
        lists: list[str] = []
        for name in self.line(account):
            own = self.final(("account", name), "qos")
            if own not in {"", INHERITED}:
                lists.append(own)
                if not own.startswith(("+", "-")):
                    break
        allowed: set[str] = set()
        for text in reversed(lists):
            for part in text.split(","):
                if part.startswith("-"):
                    allowed.discard(part[1:])
                else:
                    allowed.add(part.removeprefix("+"))
        return frozenset(allowed)

    def line(self, account: str) -> list[str]:
        """Return an account and those that will be above it, up to the root."""
        return _line(account, self.parent_of.get)

    def line_now(self, account: str) -> list[str]:
        """Return an account and those that are above it."""
        return _line(account, lambda name: self.now(("account", name), "parent"))

    def depth(self, account: str) -> int:
        """Return how far below the root an account will be."""
        return len(self.line(account))


def _line(account: str, above: Callable[[str], str | None]) -> list[str]:
    line = [account]
    while (name := above(line[-1])) and name not in line:
        line.append(name)
    return line
