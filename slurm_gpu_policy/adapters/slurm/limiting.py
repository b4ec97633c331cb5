"""GrpTRESMins, read from slurmctld and set through sacctmgr.

``scontrol show assoc_mgr`` prints ``gres/gpu=60(12)``, limit and what was used, for every TRES
that is counted, ``N`` where there is no limit; what running jobs may still use stands in the
same way behind ``GrpTRESRunMins``. All are whole minutes, cut (22.05.8 and 26.05.5).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.adapters.slurm import quantities as q
from slurm_gpu_policy.adapters.slurm.managing import check_names, outcome
from slurm_gpu_policy.adapters.slurm.run import reading_environment, run
from slurm_gpu_policy.adapters.slurm.words import error_in
from slurm_gpu_policy.errors import SlurmRefused
from slurm_gpu_policy.model.limit_use import LimitUse

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from slurm_gpu_policy.model.limit_use import LimitChange

_SHOW: Final = ("scontrol", "-o", "show", "assoc_mgr", "flags=assoc")
_NAMED_AT_ONCE: Final = 500
_KEY: Final = "ClusterName="
_COUNT: Final = re.compile(r"([^=,]+)=(N|\d+)\((\d+)\)", re.ASCII)
_TRES: Final = re.compile(r"[a-z]+(/[A-Za-z0-9_.:-]+)?", re.ASCII)


class CommandLimits:
    """Implements :class:`slurm_gpu_policy.services.ports.LimitsPort`."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout = timeout_seconds

    def limit_uses(self, accounts: Collection[str]) -> tuple[LimitUse, ...]:
        """See :meth:`slurm_gpu_policy.services.ports.LimitsPort.limit_uses`."""
        check_names(accounts)
        named = len(accounts) <= _NAMED_AT_ONCE
        argv = (*_SHOW, f"accounts={','.join(sorted(accounts))}") if named else _SHOW
        answer = run(argv, timeout=self._timeout, env=reading_environment())
        if answer.code != 0:
            raise error_in(answer)
        return tuple(one for one in limit_uses(answer.stdout) if one.account in accounts)

    def set_limits(self, cluster: str, changes: Sequence[LimitChange]) -> None:
        """See :meth:`slurm_gpu_policy.services.ports.LimitsPort.set_limits`."""
        lines = [" ".join(words_of(cluster, change)) for change in changes]
        text = "\n".join((*lines, "quit\n"))
        env = reading_environment()
        outcome(run(("sacctmgr", "-i", "-Q"), stdin=text.encode(), timeout=self._timeout, env=env))


def words_of(cluster: str, change: LimitChange) -> tuple[str, ...]:
    """Return what to say to sacctmgr for one limit.

    Raises:
        SlurmRefused: a name that it would unfold or rewrite.
    """
    names = [name for name in (cluster, change.account, change.user, change.qos) if name]
    check_names(names)
    if not _TRES.fullmatch(change.tres):
        msg = f"{change.tres!r} is no TRES that sacctmgr could be told of"
        raise SlurmRefused(msg)
    value = "-1" if change.minutes is None else str(change.minutes)
    limit = ("set", f"GrpTRESMins={change.tres}={value}")
    here = f"cluster={cluster}"
    if change.qos:
        return ("modify", "qos", "where", f"name={change.qos}", *limit)
    if change.user:  # `partition=`: not the associations with one partition
        where = (f"name={change.user}", f"account={change.account}", here, "partition=")
        return ("modify", "user", "where", *where, *limit)
    return ("modify", "account", "where", f"name={change.account}", here, *limit)


def limit_uses(text: str) -> Iterable[LimitUse]:
    """Read the answer of scontrol."""
    return (_limit_use(line) for line in text.splitlines() if line.startswith(_KEY))


def _limit_use(line: str) -> LimitUse:
    fields = {key: value for key, _, value in (part.partition("=") for part in line.split(" "))}
    try:
        budget = _COUNT.findall(fields["GrpTRESMins"])
        running = _COUNT.findall(fields["GrpTRESRunMins"])
        return LimitUse(
            account=fields["Account"],
            user=fields["UserName"].rpartition("(")[0],
            partition=fields["Partition"],
            limits={name: int(most) for name, most, _ in budget if most != "N"},
            used={name: int(used) for name, _, used in budget},
            running={name: int(used) for name, _, used in running},
        )
    except (KeyError, ValueError) as error:
        q.unreadable(str(error), line, "the limits of an association")
