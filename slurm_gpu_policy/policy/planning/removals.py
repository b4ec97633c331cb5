"""What ``gpu-policy apply`` made, the policy file names no more, and nobody else uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.policy.planning.outlook import ROOT, names_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_gpu_policy.model.plan import Made, ObjectId, Uses, Wanted
    from slurm_gpu_policy.policy.planning.outlook import Outlook


class Removals:
    """The objects to take away, in ``gone``; why others that should go stay, in ``remarks``."""

    def __init__(self, wanted: Wanted, made: Made, uses: Uses, outlook: Outlook) -> None:
        self._wanted, self._uses, self._outlook = wanted, uses, outlook
        self._present = present = outlook.present
        self.remarks: list[str] = []
        self._dropped = {
            one for one in made.objects if one in present.objects and self._is_dropped(one)
        }
        self.gone: set[ObjectId] = {one for one in self._dropped if one[0] == "coordinator"}
        self._take_users()
        self._take_accounts()
        self._take_qos()

    def _is_dropped(self, what: ObjectId) -> bool:
        """Whether the policy file no longer names what we made."""
        if what in self._wanted.objects:
            return False
        if what[0] in {"user", "coordinator"} and ("account", what[1]) in self._wanted.objects:
            listed = self._wanted
            lists = listed.listed_users if what[0] == "user" else listed.listed_coordinators
            return what[1] in lists
        return True

    def _of_kind(self, kind: str) -> list[ObjectId]:
        return sorted(one for one in self._dropped if one[0] == kind)

    def _take_users(self) -> None:
        for what in self._of_kind("user"):
            _kind, account, user = what
            if what in self._uses.jobs:
                self.remarks.append(f"{user} stays in account {account}: they have jobs there")
            elif (account, user) in self._present.partition_bound:
                self.remarks.append(
                    f"{user} stays in account {account}: somebody gave them a partition there"
                )
            else:
                self.gone.add(what)

    def _take_accounts(self) -> None:
        going = set(self._of_kind("account"))
        while True:
            kept = {one: why for one in going if (why := self._why_kept(one[1], going))}
            if not kept:
                break
            going -= kept.keys()
            self.remarks += [f"account {one[1]} stays: {why}" for one, why in sorted(kept.items())]
        self.gone |= going

    def _why_kept(self, account: str, going: set[ObjectId]) -> str:
        if account == ROOT:
            return "it is Slurm's own"
        if ("account", account) in self._uses.jobs:
            return "it has jobs"
        users = {
            one[2]
            for one in self._present.objects
            if one[0] == "user" and one[1] == account and one not in self.gone
        }
        users |= {user for name, user in self._present.partition_bound if name == account}
        if users:
            return f"users are in it: {', '.join(sorted(users))}"
        below = [
            child
            for child, parent in self._outlook.parent_of.items()
            if parent == account and ("account", child) not in going
        ]
        return f"accounts are in it: {', '.join(sorted(below))}" if below else ""

    def _take_qos(self) -> None:
        for what in self._of_kind("qos"):
            name = what[1]
            if what in self._uses.jobs:
                self.remarks.append(f"QOS {name} stays: jobs are in it")
            elif name in self._uses.partitions:
                self.remarks.append(
                    f"QOS {name} stays: partition {self._uses.partitions[name]} names it"
                )
            elif user := next(self._who_names(name), ""):
                self.remarks.append(f"QOS {name} stays: {user} names it")
            else:
                self.gone.add(what)

    def _who_names(self, qos: str) -> Iterator[str]:
        for what in sorted({*self._present.objects, *self._wanted.objects}):
            if what in self.gone or what == ("qos", qos) or what[0] == "coordinator":
                continue
            if what[0] == "qos" and what in self._dropped:
                continue  # it goes too, or stays for a reason of its own
            fields = ("preempts",) if what[0] == "qos" else ("qos", "default_qos")
            named = {
                name for field in fields for name in names_in(self._outlook.final(what, field))
            }
            if qos in named:
                yield " ".join(what[:2]) if len(what) < 3 else f"{what[2]} in account {what[1]}"  # noqa: PLR2004
