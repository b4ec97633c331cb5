"""What the policy file wants of accounts and QOS that cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.model.plan import YES
from slurm_gpu_policy.policy.planning.outlook import ROOT, names_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from slurm_gpu_policy.model.plan import ObjectId, Present, Wanted
    from slurm_gpu_policy.policy.planning.outlook import Outlook


def conflicts(wanted: Wanted, outlook: Outlook) -> tuple[str, ...]:
    """Return a sentence for each, as ``gpu-policy check`` has them: field, found, wanted."""
    return (
        *_tree(wanted, outlook.parent_of),
        *_qos_names(wanted, outlook.present),
        *_loops(wanted, outlook),
        *_people(wanted, outlook.present),
    )


def _tree(wanted: Wanted, parent_of: Mapping[str, str]) -> Iterator[str]:
    known = {*parent_of, ROOT}
    for what, values in sorted(wanted.objects.items()):
        if what[0] != "account" or "parent" not in values:
            continue
        field, parent = f"accounts.{what[1]}.parent", values["parent"]
        if what[1] == ROOT:
            yield f"{field}: found {parent!r}, wanted nothing: it is the account above all others"
        elif parent not in known:
            yield f"{field}: found {parent!r}, wanted an account of this file or of Slurm"
        elif _is_above_itself(what[1], parent_of):
            yield f"{field}: found {parent!r}, wanted an account that is not below {what[1]} itself"


def _is_above_itself(account: str, parent_of: Mapping[str, str]) -> bool:
    seen: set[str] = set()
    name = parent_of[account]
    while name in parent_of and name not in seen:
        if name == account:
            return True
        seen.add(name)
        name = parent_of[name]
    return name == account


def _qos_names(wanted: Wanted, present: Present) -> Iterator[str]:
    objects = {*present.objects, *wanted.objects}
    known = {what[1] for what in objects if what[0] == "qos"}
    for what, values in sorted(wanted.objects.items()):
        place = _place(what)
        for field in ("qos", "default_qos", "preempts"):
            for name in sorted(names_in(values.get(field, "")) - known):
                yield f"{place}.{field}: found {name!r}, wanted a QOS of this file or of Slurm"
        own = names_in(values.get("qos", "")) | wanted.also_qos.get(what[1], frozenset())
        default = values.get("default_qos")
        if names_in(values.get("qos", "")) and default is not None and default not in own:
            yield f"{place}.default_qos: found {default!r}, wanted one of: {', '.join(sorted(own))}"


def _loops(wanted: Wanted, outlook: Outlook) -> Iterator[str]:
    objects = {*outlook.present.objects, *wanted.objects}
    names = {what[1] for what in objects if what[0] == "qos"}
    preempts = {name: names_in(outlook.final(("qos", name), "preempts")) for name in names}
    for name in sorted(names):
        named = "preempts" in wanted.objects.get(("qos", name), {})
        if not named and name not in wanted.also_preempts:
            continue
        reached: set[str] = set()
        ahead = set(preempts[name])
        while ahead:
            one = ahead.pop()
            if one not in reached:
                reached.add(one)
                ahead |= preempts.get(one, frozenset())
        if name in reached:
            found = ", ".join(sorted(preempts[name]))
            wish = f"QOS that do not preempt {name} in turn"
            yield f"qos.{name}.preempts: found {found}, wanted {wish}"


def _people(wanted: Wanted, present: Present) -> Iterator[str]:
    known = present.users | {what[2] for what in wanted.objects if what[0] == "user"}
    default_of: dict[str, str] = {}
    for what, values in sorted(wanted.objects.items()):
        if what[0] == "coordinator" and what[2] not in known:
            yield (
                f"accounts.{what[1]}.coordinators: found {what[2]!r}, wanted a user whom Slurm "
                "knows or an account of this file lists"
            )
        if what[0] == "user" and values.get("default") == YES:
            other = default_of.setdefault(what[2], what[1])
            if other != what[1]:
                yield (
                    f"{_place(what)}.default: found 'true', wanted it at one account only: "
                    f"{other} has it"
                )


def _place(what: ObjectId) -> str:
    if what[0] == "qos":
        return f"qos.{what[1]}"
    return f"accounts.{what[1]}" + (f".users.{what[2]}" if what[0] == "user" else "")
