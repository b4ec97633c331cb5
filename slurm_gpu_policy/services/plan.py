"""What ``gpu-policy apply`` would do, and doing it: read, differ, remember, do, look again."""

from __future__ import annotations

import re
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from slurm_gpu_policy.errors import (
    NotAllowed,
    PolicyLayerError,
    SlurmRefused,
    SlurmTimeout,
    SlurmUnavailable,
)
from slurm_gpu_policy.model.account import Association
from slurm_gpu_policy.model.plan import FileChange, Made, Plan, Present, Uses, Wanted
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.model.snapshot import Part
from slurm_gpu_policy.policy import limits_table
from slurm_gpu_policy.policy.planning.plan import after, difference, forget, remember, without
from slurm_gpu_policy.policy.planning.wanting import wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.plan import Change, ObjectId
    from slurm_gpu_policy.model.snapshot import Snapshot
    from slurm_gpu_policy.services.ports import FilePort, MadePort, ManagePort, ReadPort

_PARTS = tuple(one for one in limits_table.PARTS if one is not Part.ASSOCIATIONS)
"""Of the cluster; the account tree comes from :meth:`ManagePort.managed`, always fresh."""
_GENERATION = re.compile(r"-- generation [0-9a-f]{8,}")
"""Begins the first line of every Lua file that we have written."""
_HEAD = "-- generation {mark}: written by `gpu-policy apply`, which replaces what is changed here\n"


@record
class Draft:
    """What Slurm would get, and what it was worked out from."""

    cluster: str
    plan: Plan
    files: tuple[FileChange, ...]
    remarks: tuple[str, ...]
    wanted: Wanted
    present: Present
    made: Made

    @property
    def is_empty(self) -> bool:
        """Whether all is as the policy file wants it."""
        return not (self.plan.changes or self.files or self.plan.problems)


@record
class Step:
    """One step that was tried: a change or a file, and Slurm's words where it was refused."""

    step: Change | FileChange
    refused: str = ""


class Planning:
    """The use case of ``gpu-policy plan`` and ``gpu-policy apply``."""

    def __init__(  # noqa: PLR0913 - what it needs of the world, and the two it serves
        self,
        *,
        slurm: ReadPort,
        manage: ManagePort,
        made: MadePort,
        files: FilePort,
        policy: Policy,
        script: str,
    ) -> None:
        """*script* is the path of our own job_submit.lua."""
        self._slurm, self._manage, self._made, self._files = slurm, manage, made, files
        self._policy, self._script = policy, script

    def alone(self) -> AbstractContextManager[None]:
        """See :meth:`slurm_gpu_policy.services.ports.MadePort.alone`."""
        return self._made.alone()

    def draft(self) -> Draft:
        """Return what Slurm would get now; changes nothing."""
        snapshot = self._slurm.read(*_PARTS)
        cluster = snapshot.config.name if snapshot.config else ""
        present = self._manage.managed(cluster)
        wants = wanted(self._policy)
        made = forget(self._made.load(cluster), wants, present)
        plan = difference(wants, present, made, self._uses(snapshot, wants, made))
        notes: list[str] = []
        files: tuple[FileChange, ...] = ()
        if not plan.problems:
            notes += _settings_to_mind(self._policy, wants, snapshot)
            if self._policy.apply.job_submit:
                there = after(present, plan)
                files = tuple(self._file_changes(snapshot, there, wants.closed, notes))
        return Draft(
            cluster=cluster,
            plan=plan,
            files=files,
            remarks=(*plan.remarks, *notes),
            wanted=wants,
            present=present,
            made=made,
        )

    def carry_out(self, draft: Draft, told: Callable[[Step], None]) -> tuple[Step, ...]:
        """Do what *draft* says, telling each step when it is over, and return all of them.

        What Slurm refuses is told and the rest goes on. Hold :meth:`alone` around both.

        Raises:
            NotAllowed: the caller may not; nothing more was done.
            SlurmUnavailable: Slurm does not answer (any more); the next apply goes on from here.
        """
        steps = []
        made = draft.made
        for change in draft.plan.changes:
            made, words = self._do(draft, change, made)
            steps.append(Step(change, words))
            told(steps[-1])
        for file in draft.files:
            try:
                self._files.write(file.path, file.after)
                steps.append(Step(file))
            except PolicyLayerError as error:
                steps.append(Step(file, str(error)))
            told(steps[-1])
        if draft.plan.changes:
            made = forget(made, draft.wanted, self._manage.managed(draft.cluster))
            self._made.save(draft.cluster, made)
        return tuple(steps)

    def _do(self, draft: Draft, change: Change, made: Made) -> tuple[Made, str]:
        """Do one step; return what is then to be remembered, and Slurm's words of refusal."""
        intended = remember(made, change, draft.wanted, draft.present)
        if intended != made:
            self._made.save(draft.cluster, intended)
        try:
            done = self._manage.carry_out(draft.cluster, change)
        except (SlurmRefused, NotAllowed, SlurmUnavailable) as error:
            if not isinstance(error, SlurmTimeout) and intended != made:
                self._made.save(draft.cluster, made)  # certainly not done
            if isinstance(error, SlurmRefused):
                return made, str(error)
            raise
        if change.verb == "create" and not done and intended != made:
            self._made.save(draft.cluster, made)
            return made, "somebody else has made it meanwhile: it is left to them"
        if change.verb == "remove":
            intended = without(intended, change.what)
            self._made.save(draft.cluster, intended)
        return intended, ""

    def _uses(self, snapshot: Snapshot, wants: Wanted, made: Made) -> Uses:
        partitions = {one.qos.lower(): one.name for one in snapshot.partitions if one.qos}
        for one in snapshot.partitions:
            partitions |= {name.lower(): one.name for name in one.allow_qos | one.deny_qos}
        mine = {one for one in made.objects if one[0] != "record"}
        if mine <= wants.objects.keys():  # nothing to take away: the queue may be long
            return Uses(partitions=partitions)
        jobs: set[ObjectId] = set()
        for job in self._slurm.read(Part.JOBS).jobs:
            account, user = job.account.lower(), job.user.lower()
            jobs |= {("account", account), ("user", account, user), ("qos", job.qos.lower())}
        return Uses(jobs=frozenset(jobs), partitions=partitions)

    def _file_changes(
        self,
        snapshot: Snapshot,
        there: Mapping[ObjectId, Mapping[str, str]],
        closed: frozenset[str],
        notes: list[str],
    ) -> Iterator[FileChange]:
        table = limits_table.table_text(
            self._policy, _with_accounts(snapshot, there), closed=closed
        )
        yield from self._file_change(self._policy.apply.limits_table, table, notes)
        settings = snapshot.config.settings if snapshot.config else {}
        conf = settings.get("SLURM_CONF", "")
        ours = self._files.read(self._script)
        if not conf.startswith("/") or ours is None:
            notes.append("job_submit.lua is not looked at: Slurm does not say where slurm.conf is")
            return
        path = f"{conf.rpartition('/')[0]}/job_submit.lua"
        if self._files.read(path) == ours:  # put there by hand, and as good
            return
        mark = sha256(ours.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        yield from self._file_change(path, _HEAD.format(mark=mark) + ours, notes)

    def _file_change(self, path: str, text: str, notes: list[str]) -> Iterator[FileChange]:
        now = self._files.read(path)
        if now == text:
            return
        if now is not None and not _GENERATION.match(now):
            notes.append(
                f"{path} is not ours (its first line has no `-- generation`) and is left alone: "
                "move it away, and apply puts ours there"
            )
            return
        yield FileChange(path, now, text)


def _with_accounts(snapshot: Snapshot, there: Mapping[ObjectId, Mapping[str, str]]) -> Snapshot:
    """Return the snapshot with the account tree as it will be, always in the same order."""
    tree = tuple(
        Association(account=what[1], user="", parent=values.get("parent", ""))
        for what, values in sorted(there.items())
        if what[0] == "account"
    )
    return replace(snapshot, associations=tree)


def _settings_to_mind(policy: Policy, wants: Wanted, snapshot: Snapshot) -> Iterator[str]:
    """Yield what in slurm.conf keeps from working what the policy file wants; that is not ours."""
    settings = snapshot.config.settings if snapshot.config else {}
    if policy.apply.job_submit and "lua" not in _words(settings.get("JobSubmitPlugins", "")):
        yield (
            "slurm.conf has no JobSubmitPlugins=lua: Slurm does not look at job_submit.lua until "
            "it stands there and slurmctld is restarted"
        )
    preempts = wants.also_preempts or any(
        values.get("preempts") for values in wants.objects.values()
    )
    if preempts and settings.get("PreemptType") != "preempt/qos":
        yield "slurm.conf has no PreemptType=preempt/qos: no QOS preempts another until it has"
    enforced = _words(settings.get("AccountingStorageEnforce", ""))
    if wants.objects and not {"all", "safe", "limits"} & enforced:
        yield "slurm.conf has no AccountingStorageEnforce=limits: limits in Slurm hold nobody"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.lower().split(","))
