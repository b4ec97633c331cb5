"""Keeps GrpTRESMins in Slurm equal to what is left (rule B-008); policy/slurm_budget.py says why.

What is ours is remembered in the books, before it is set: a limit that stood there before us is
somebody else's, and stays. Ours are overwritten whoever changes them, and taken away with the
budget, or where limits are used no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.model.limit_use import LimitChange
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.ledger.over_budget import over_budget_qos
from slurm_gpu_policy.policy.ledger.slurm_budget import GPUS, Rooms, limit, reset_is_near, rooms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.ledger import LedgerState
    from slurm_gpu_policy.model.limit_use import LimitUse
    from slurm_gpu_policy.model.snapshot import Snapshot
    from slurm_gpu_policy.services.ledger.books import LedgerPort
    from slurm_gpu_policy.services.ports import LimitsPort

Key = tuple[str, str, str, str]
"""Account, user, QOS and TRES: what one limit is of."""

_MARK: Final = "slurm_limit:"
_BETWEEN: Final = "|"
_MOST_CHANGES: Final = 500
"""At once; sacctmgr takes some milliseconds for each, and the next tick does more."""
_WITHOUT_END: Final = 10**15
"""GPU-minutes: no limit, and still one that goes before those of the account."""


class SlurmLimits:
    """Keeps them; one object for the life of a controller."""

    def __init__(self, port: LimitsPort, ledger: LedgerPort) -> None:
        self._port = port
        self._ledger = ledger
        self._safe: dict[Key, int] = {}
        """Limits that were right while jobs ran, when Slurm's two numbers had their least cut."""
        self._ours: set[Key] | None = None

    def run(self, snapshot: Snapshot, policy: Policy, state: LedgerState) -> tuple[str, ...]:
        """Set what differs, and return what Slurm cannot be told, in words.

        Raises:
            NotAllowed, SlurmError: as :meth:`LimitsPort.set_limits`.
            RecordsUnavailable: the database is away; nothing was changed.
        """
        wanted = rooms(snapshot, policy, state)
        level = rules.level_of(rules.BUDGET_SLURM, policy)
        if level != "enforce" and wanted.rooms:
            remark = f"limits in Slurm are not used: {rules.BUDGET_SLURM} is at {level}"
            wanted = Rooms(remarks=(remark,))
        ours = self._known()
        if not wanted.rooms and not ours:
            return wanted.remarks
        changes, remarks = self._differences(snapshot, policy, wanted, ours)
        self._write(snapshot, changes[:_MOST_CHANGES], ours)
        return (*wanted.remarks, *remarks)

    def forget(self) -> None:
        """Forget what another leader may have changed since."""
        self._ours = None
        self._safe = {}

    def _known(self) -> set[Key]:
        if self._ours is None:
            with self._ledger.reading() as books:
                marks = books.marks(_MARK)
            self._ours = {_key(name) for name, value in marks.items() if value}
        return self._ours

    def _differences(
        self, snapshot: Snapshot, policy: Policy, wanted: Rooms, ours: set[Key]
    ) -> tuple[list[tuple[Key, LimitChange]], list[str]]:
        accounts = {room.level[0] for room in wanted.rooms} | {key[0] for key in ours if key[0]}
        uses = {(one.account, one.user): one for one in self._uses(accounts)}
        remarks: list[str] = []
        changes: list[tuple[Key, LimitChange]] = []
        near = reset_is_near(
            snapshot.config.settings if snapshot.config else {},
            snapshot.time,
            policy.pricing.timezone if policy.pricing else "UTC",
        )
        kept: set[Key] = set()
        for room in wanted.rooms:
            use = uses.get(room.level)
            key: Key = (*room.level, "", room.tres)
            if use is None:
                continue  # Slurm has no such association: nothing can run there
            if room.tres not in use.used:
                remarks.append(f"AccountingStorageTRES lacks {room.tres}: no limits in Slurm")
                continue
            kept.add(key)
            present = use.limits.get(room.tres)
            if present is not None and key not in ours:
                remarks.append(
                    f"{_whose(use)} has a GrpTRESMins of {room.tres}={present} that is not ours: "
                    "it stays"
                )
                continue
            target = limit(room, use, reset_is_near=near)
            is_running = bool(use.running.get(room.tres, 0))
            if is_running and present == target + 1 == self._safe.get(key):
                continue  # only the cut has changed
            self._safe[key] = target if is_running else -1
            if present != target:
                changes.append((key, LimitChange(room.tres, target, *room.level)))
        if wanted.rooms:
            changes += self._over_budget(snapshot, policy, ours, kept)
        changes += _removals(ours - kept, uses)
        self._forget_gone(ours, kept, uses)
        return changes, remarks

    def _uses(self, accounts: set[str]) -> tuple[LimitUse, ...]:
        if not accounts:
            return ()
        return tuple(one for one in self._port.limit_uses(accounts) if not one.partition)

    def _over_budget(
        self, snapshot: Snapshot, policy: Policy, ours: set[Key], kept: set[Key]
    ) -> list[tuple[Key, LimitChange]]:
        """Rule B-007: a limit of the QOS itself goes before the account's (22.05, 26.05)."""
        name = over_budget_qos(policy)
        qos = next((one for one in snapshot.qos if one.name == name), None)
        if qos is None:
            return []
        key: Key = ("", "", name, GPUS)
        kept.add(key)
        if GPUS in qos.grp_tres_mins or key in ours:
            return []
        return [(key, LimitChange(GPUS, _WITHOUT_END, qos=name))]

    def _write(
        self, snapshot: Snapshot, changes: Sequence[tuple[Key, LimitChange]], ours: set[Key]
    ) -> None:
        if not changes:
            return
        new = [key for key, change in changes if change.minutes is not None and key not in ours]
        self._remember(dict.fromkeys(new, 1))
        cluster = snapshot.config.name if snapshot.config else ""
        self._port.set_limits(cluster, [change for _, change in changes])
        self._remember({key: 0 for key, change in changes if change.minutes is None})

    def _forget_gone(
        self, ours: set[Key], kept: set[Key], uses: Mapping[tuple[str, str], LimitUse]
    ) -> None:
        """Forget limits of ours that are not there any more, whoever took them away."""
        gone = [
            key for key in ours - kept if not key[2] and key[3] not in _limits(uses, key[0], key[1])
        ]
        self._remember(dict.fromkeys(gone, 0))

    def _remember(self, marks: Mapping[Key, int]) -> None:
        if not marks:
            return
        with self._ledger.writing() as books:
            for key, value in marks.items():
                books.set_mark(_MARK + _BETWEEN.join(key), value)
        ours = self._known()
        for key, value in marks.items():
            (ours.add if value else ours.discard)(key)


def _key(name: str) -> Key:
    account, user, qos, tres = name.removeprefix(_MARK).split(_BETWEEN)
    return account, user, qos, tres


def _limits(uses: Mapping[tuple[str, str], LimitUse], account: str, user: str) -> Mapping[str, int]:
    use = uses.get((account, user))
    return {} if use is None else use.limits


def _removals(
    keys: set[Key], uses: Mapping[tuple[str, str], LimitUse]
) -> list[tuple[Key, LimitChange]]:
    return [
        (key, LimitChange(key[3], None, key[0], key[1], key[2]))
        for key in sorted(keys)
        if key[2] or key[3] in _limits(uses, key[0], key[1])
    ]


def _whose(use: LimitUse) -> str:
    return f"{use.user} in account {use.account}" if use.user else f"account {use.account}"
