"""The steps from what Slurm has of accounts and QOS to what the policy file wants.

Three rules. A value that the file does not name stays as it is. Only what ``gpu-policy apply``
itself made is ever removed, and only while nobody else uses it. The steps are in an order in
which Slurm takes each of them, and any first part of them is a sound state from which a new
plan goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.model.plan import (
    INHERITED,
    NONE,
    UNLIMITED,
    YES,
    Change,
    FieldChange,
    Made,
    Plan,
)
from slurm_gpu_policy.policy.planning.conflicts import conflicts
from slurm_gpu_policy.policy.planning.outlook import CLOSED, ROOT, Outlook, names_in
from slurm_gpu_policy.policy.planning.removals import Removals
from slurm_gpu_policy.policy.planning.wanting import list_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from slurm_gpu_policy.model.plan import ObjectId, Present, Uses, Wanted

_SHARED = ("description", "organization")
"""What an account has in common with those of its name on the database's other clusters."""


def difference(wanted: Wanted, present: Present, made: Made, uses: Uses) -> Plan:
    """Return the steps that make *present* what is *wanted*; none where it is so already."""
    outlook = Outlook(wanted, present, made)
    problems = conflicts(wanted, outlook)
    if problems:
        return Plan(problems=problems)
    removals = Removals(wanted, made, uses, outlook)
    steps = _Steps(outlook)
    changes = (
        *steps.qos(),
        *steps.accounts(),
        *steps.users(),
        *steps.default_accounts(removals.gone),
        *steps.coordinators(removals.gone),
        *steps.removals(removals.gone),
        *steps.records(removals.gone, made),
    )
    return Plan(changes=changes, remarks=(*removals.remarks, *_left_out(wanted, outlook)))


def _left_out(wanted: Wanted, outlook: Outlook) -> Iterator[str]:
    """Yield who has a list of QOS of their own that lacks one which their account is given."""
    for what in sorted({*outlook.present.objects, *outlook.values}):
        if what[0] != "user":
            continue
        own = outlook.final(what, "qos")
        lacks = wanted.also_qos.get(what[1], frozenset()) - names_in(own)
        if own not in {"", INHERITED} and lacks:
            names = ", ".join(sorted(lacks))
            yield f"user {what[2]} in account {what[1]} may not use {names}: see their own QOS"


class _Steps:
    """The steps, kind by kind."""

    def __init__(self, outlook: Outlook) -> None:
        self._outlook = outlook
        self._present, self._values = outlook.present, outlook.values

    def _set(self, what: ObjectId, leave_out: tuple[str, ...] = ()) -> Iterator[Change]:
        there = self._present.objects[what]
        fields = tuple(
            FieldChange(name, there.get(name, ""), value)
            for name, value in sorted(self._values[what].items())
            if name not in leave_out and there.get(name, "") != value
        )
        if fields:
            yield Change("set", what, fields)

    def _create(self, what: ObjectId, leave_out: tuple[str, ...] = ()) -> Change:
        values = dict(self._values[what])
        if what[0] == "account":
            values.setdefault("parent", ROOT)
        fields = (
            FieldChange(name, "", value)
            for name, value in sorted(values.items())
            if name not in leave_out and value not in {INHERITED, UNLIMITED, NONE}
        )
        return Change("create", what, tuple(fields))

    def qos(self) -> Iterator[Change]:
        """QOS first, and whom they preempt last: no step may make a loop, nor name what is not."""
        mine = sorted(what for what in self._values if what[0] == "qos")
        for what in mine:
            if what not in self._present.objects:
                yield self._create(what, ("preempts",))
            else:
                yield from self._set(what, ("preempts",))
        before = {what: names_in(self._outlook.now(what, "preempts")) for what in mine}
        after = {
            what: names_in(self._values[what].get("preempts", self._outlook.now(what, "preempts")))
            for what in mine
        }
        for what in mine:
            if (fewer := before[what] & after[what]) != before[what]:
                yield _preempting(what, before[what], fewer)
                before[what] = fewer
        for what in mine:
            if before[what] != after[what]:
                yield _preempting(what, before[what], after[what])

    def accounts(self) -> Iterator[Change]:
        """Accounts from the root downwards: new ones, then what is to change."""
        mine = [what for what in self._values if what[0] == "account"]
        mine.sort(key=lambda what: (self._outlook.depth(what[1]), what))
        new = [what for what in mine if what not in self._present.objects]
        for what in new:
            record = self._present.records.get(what[1])
            yield self._create(what, () if record is None else _SHARED)
            if record is not None:  # Slurm keeps the words it has, of another cluster's account
                yield from self._set_shared(what, record)
        for what in mine:
            if what not in new:
                yield from self._set(what)

    def _set_shared(self, what: ObjectId, record: Mapping[str, str]) -> Iterator[Change]:
        fields = tuple(
            FieldChange(name, record.get(name, ""), self._values[what][name])
            for name in _SHARED
            if name in self._values[what] and self._values[what][name] != record.get(name, "")
        )
        if fields:
            yield Change("set", what, fields)

    def users(self) -> Iterator[Change]:
        """Users in accounts: new ones, then what is to change."""
        mine = sorted(what for what in self._values if what[0] == "user")
        new = [what for what in mine if what not in self._present.objects]
        yield from (self._create(what) for what in new)
        for what in mine:
            if what not in new:
                yield from self._set(what)

    def default_accounts(self, gone: set[ObjectId]) -> Iterator[Change]:
        """Give users whose default account is taken away one that stays."""
        there = {*self._present.objects, *self._values}
        chosen = {w[2] for w, values in self._values.items() if values.get("default") == YES}
        for what in sorted(gone):
            if what[0] != "user" or self._outlook.now(what, "default") != YES or what[2] in chosen:
                continue
            stays = sorted(
                (one not in self._values, one)
                for one in there
                if one[0] == "user" and one[2] == what[2] and one not in gone
            )
            if stays:
                because = f"account {what[1]}, which was it, goes"
                yield Change("set", stays[0][1], (FieldChange("default", "no", YES),), because)

    def coordinators(self, gone: set[ObjectId]) -> Iterator[Change]:
        """Take coordinators out, then make those that are missing.

        A coordinator is one in all accounts below too, and Slurm shows both alike: who may be
        one here only by an account above must be made one where that comes to an end.
        """
        out = sorted(what for what in gone if what[0] == "coordinator")
        for what in out:
            yield Change("remove", what)
        for what in sorted(what for what in self._values if what[0] == "coordinator"):
            _kind, account, user = what
            line = self._outlook.line(account)
            above = {("coordinator", name, user) for name in line[1:]}
            moves = line != self._outlook.line_now(account)
            if what not in self._present.objects or moves or above & set(out):
                yield Change("create", what)

    def removals(self, gone: set[ObjectId]) -> Iterator[Change]:
        """Users before their accounts, accounts from below, QOS last.

        Of a user's accounts the default one goes last: Slurm takes it away only alone.
        """
        users = sorted(
            (what for what in gone if what[0] == "user"),
            key=lambda what: (self._outlook.now(what, "default") == YES, what),
        )
        accounts = sorted(
            (what for what in gone if what[0] == "account"),
            key=lambda what: (-self._outlook.depth(what[1]), what),
        )
        qos = sorted(what for what in gone if what[0] == "qos")
        yield from (Change("remove", what) for what in (*users, *accounts, *qos))

    def records(self, gone: set[ObjectId], made: Made) -> Iterator[Change]:
        """What the database keeps of accounts that we made and that are gone."""
        for what in sorted(made.objects):
            account = ("account", *what[1:])
            if what[0] != "record" or what[1] not in self._present.records:
                continue
            is_here = account in self._present.objects and account not in gone
            if not is_here and not self._outlook.is_wanted(account):
                yield Change("remove", what)


def _preempting(what: ObjectId, before: frozenset[str], after: frozenset[str]) -> Change:
    field = FieldChange("preempts", list_text(before), list_text(after))
    return Change("set", what, (field,))


# --- what apply remembers -------------------------------------------------------------------


def remember(made: Made, change: Change, wanted: Wanted, present: Present) -> Made:
    """Return what must be remembered before *change* is begun.

    Written before, so that a run that is killed leaves nothing that it made and does not know.
    """
    objects, closed = set(made.objects), dict(made.closed)
    what = change.what
    if change.verb == "create" and (what not in present.objects or _is_by_us(what, made)):
        objects.add(what)
        if what[0] == "account" and what[1] not in present.records:
            objects.add(("record", what[1]))
    is_account = what[0] == "account" and change.verb != "remove"
    if is_account and what[1] in wanted.closed and change.value("submitted_jobs") == CLOSED:
        before = present.objects.get(what, {}).get("submitted_jobs", UNLIMITED)
        closed.setdefault(what[1], wanted.objects[what].get("submitted_jobs", before))
    return Made(frozenset(objects), closed)


def _is_by_us(what: ObjectId, made: Made) -> bool:
    """Whether somebody is a coordinator already by what we made in another account."""
    return any(one[0] == what[0] == "coordinator" and one[2] == what[2] for one in made.objects)


def forget(made: Made, wanted: Wanted, present: Present) -> Made:
    """Return *made* without what is neither there nor wanted any more.

    *present* is what was read last; what is wanted and not there yet may be in the making.
    """

    def matters(what: ObjectId) -> bool:
        if what[0] == "record":
            return what[1] in present.records or ("account", what[1]) in wanted.objects
        return what in present.objects or what in wanted.objects

    return Made(
        frozenset(one for one in made.objects if matters(one)),
        {
            name: before
            for name, before in made.closed.items()
            if name in wanted.closed
            or present.objects.get(("account", name), {}).get("submitted_jobs") == CLOSED
        },
    )


def without(made: Made, what: ObjectId) -> Made:
    """Return *made* without one object, and without the closing of an account that is gone."""
    closed = {name: before for name, before in made.closed.items() if what != ("account", name)}
    return Made(made.objects - {what}, closed)


def after(present: Present, plan: Plan) -> Mapping[ObjectId, Mapping[str, str]]:
    """Return the objects that will be there once the plan is carried out."""
    objects = {what: dict(values) for what, values in present.objects.items()}
    for change in plan.changes:
        if change.verb == "remove":
            objects.pop(change.what, None)
        else:
            values = objects.setdefault(change.what, {})
            values.update({field.name: field.after for field in change.fields})
    return objects
