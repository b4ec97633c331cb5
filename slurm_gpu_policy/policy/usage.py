"""How usage accrues and decays, as Slurm's decay thread does it.

PM is ``src/plugins/priority/multifactor/priority_multifactor.c`` of slurm-25.11. Slurm keeps long
doubles, we doubles: they agree to fifteen digits.
"""

from __future__ import annotations

from dataclasses import field, replace
from datetime import datetime, timedelta
from sys import float_info
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.model.record import record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from slurm_gpu_policy.policy.share_tree import Member

_NONE: Mapping[str, float] = MappingProxyType({})
_LN2: Final = 0.693
"""Slurm's three digits of ln 2 (PM:1405)."""
_NOT_COUNTED: Final = "energy"
"""A TRES whose seconds Slurm does not keep (PM:856, 942)."""

Key = tuple[str, str, str]
"""An association: account, user, partition."""


@record
class Usage:
    """What one association or QOS has used, decayed: weighted TRES-seconds, wall and TRES."""

    raw: float = 0.0
    wall_seconds: float = 0.0
    tres_seconds: Mapping[str, float] = field(default_factory=lambda: _NONE)

    def __add__(self, other: Usage) -> Usage:
        """Return both together."""
        tres = dict(self.tres_seconds)
        for name, seconds in other.tres_seconds.items():
            tres[name] = tres.get(name, 0.0) + seconds
        return Usage(
            self.raw + other.raw, self.wall_seconds + other.wall_seconds, MappingProxyType(tres)
        )

    def decayed(self, factor: float) -> Usage:
        """Return what is left after a cycle's *factor* (PM:186-225).

        A QOS with the flag NoDecay keeps all of its usage: leave it alone (PM:228-236).
        """
        tres = {name: seconds * factor for name, seconds in self.tres_seconds.items()}
        return Usage(self.raw * factor, self.wall_seconds * factor, MappingProxyType(tres))


@record
class Running:
    """A job that uses up its association's share until ``end_time``; Unix seconds.

    ``billing`` is the job's, not truncated (policy/billing.py), ``usage_factor`` its QOS's.
    """

    account: str
    user: str
    start_time: int
    billing: float
    partition: str = ""
    """Of its association, where that has one."""
    end_time: int | None = None
    """``None``: it runs on."""
    usage_factor: float = 1.0


def decay_per_second(half_life_seconds: float) -> float:
    """Return the factor of one second, 1 where nothing decays (PM:1405-1409).

    This is Slurm's ``1 - 0.693/half life`` and not ``2 ** (-1/half life)``: after a half life of a
    day .50007 is left, after one of a minute .49806.
    """
    return 1 - _LN2 / half_life_seconds if half_life_seconds > 0 else 1.0


def decay_over(half_life_seconds: float, elapsed_seconds: float) -> float:
    """Return the factor of a cycle that begins *elapsed_seconds* after the last (PM:1438-1441).

    Never 0. The first cycle ever, and one that the clock puts before the last, decay nothing.
    """
    if elapsed_seconds <= 0:
        return 1.0
    factor: float = decay_per_second(half_life_seconds) ** elapsed_seconds
    return max(float_info.min, factor)


def new_usage(  # noqa: PLR0913 - what Slurm multiplies
    run_seconds: int,
    billing: float,
    half_life_seconds: float,
    *,
    usage_factor: float = 1.0,
    no_decay: bool = False,
    tres: Mapping[str, int] | None = None,
) -> Usage:
    """Return what a job adds in a period of which it ran *run_seconds* (PM:1071-1278).

    All of the period's usage decays as if it were as old as the period's begin (PM:1171).
    *no_decay* is for a QOS with that flag; associations always decay. *usage_factor* is the
    job's QOS's, also for the partition's QOS (PM:1234-1240); below 0 it does not count. *tres*
    is what the job holds, memory in MiB; Slurm keeps TRES only where it enforces limits.
    """
    run = float(max(0, run_seconds))
    worth = run if no_decay else run * decay_per_second(half_life_seconds) ** run
    raw = worth * billing
    if usage_factor >= 0:
        raw *= usage_factor
        worth *= usage_factor
    return Usage(
        raw=raw,
        wall_seconds=worth,
        tres_seconds=MappingProxyType(
            {name: worth * count for name, count in (tres or {}).items() if name != _NOT_COUNTED}
        ),
    )


def after_cycles(
    members: Sequence[Member],
    running: Iterable[Running],
    half_life_seconds: float,
    last_cycle: int,
    cycles: Iterable[int],
) -> tuple[Member, ...]:
    """Return *members* with the usage they will have after the cycle at the last of *cycles*.

    *last_cycle* (0: there was none) and *cycles* are Unix seconds, ascending. What a job used
    counts for its association and all accounts above. A job that ends between two cycles is
    charged when it ends, before the later one's decay (PM:2041-2046); other jobs after it.

    Raises:
        ValueError: a job's association, or the account above one, is not among *members*.
    """
    usages = [member.usage for member in members]
    places = {
        (member.account, member.user, member.partition): place
        for place, member in enumerate(members)
    }
    jobs = [(job, _chain(members, places, job)) for job in running]
    for now in cycles:
        period = now - last_cycle
        for job, chain in jobs:
            if job.end_time is not None and last_cycle < job.end_time < now:
                _charge(usages, chain, job, last_cycle, job.end_time, half_life_seconds)
        if last_cycle:
            factor = decay_over(half_life_seconds, period)
            usages = [usage * factor for usage in usages]
        for job, chain in jobs:
            if job.start_time <= now and (job.end_time is None or job.end_time >= now):
                _charge(usages, chain, job, last_cycle, now, half_life_seconds)
        last_cycle = now
    return tuple(
        replace(member, usage=usage) for member, usage in zip(members, usages, strict=True)
    )


def cycle_times(last_cycle: int, calc_period_seconds: int, until: int) -> range:
    """Return when cycles begin after *last_cycle* up to and with *until*: PriorityCalcPeriod."""
    return range(last_cycle + calc_period_seconds, until + 1, calc_period_seconds)


def next_reset(period: str, last_reset: datetime, now: datetime) -> datetime | None:
    """Return when all usage is next set to 0; ``None`` for NONE and NOW (PM:790-844).

    *period* is PriorityUsageResetPeriod in upper case, the times are the controller's local time.
    A reset that fell due while the controller was down is made up for once.
    """
    day = last_reset.replace(hour=0, minute=0, second=0, microsecond=0)
    if period in {"DAILY", "WEEKLY"}:
        step = timedelta(days=1 if period == "DAILY" else 7)
        # Slurm's weeks begin on Sunday.
        due = day + timedelta(days=1 if period == "DAILY" else 7 - day.isoweekday() % 7)
        while due + step < now:
            due += step
        return due
    months = {"MONTHLY": 1, "QUARTERLY": 3, "YEARLY": 12}.get(period)
    if months is None:
        return None
    month = (day.month - 1) // months * months + months
    return day.replace(year=day.year + month // 12, month=month % 12 + 1, day=1)


def _charge(  # noqa: PLR0913, PLR0917 - the period, and whose
    usages: list[float],
    chain: tuple[int, ...],
    job: Running,
    begin: int,
    end: int,
    half_life: float,
) -> None:
    run = end - max(begin, job.start_time)
    raw = new_usage(run, job.billing, half_life, usage_factor=job.usage_factor).raw
    for index in chain:
        usages[index] += raw


def _chain(members: Sequence[Member], places: Mapping[Key, int], job: Running) -> tuple[int, ...]:
    """Return the places of a job's association and of the accounts above it, up to root."""
    chain: list[int] = []
    key: Key = (job.account, job.user, job.partition)
    while len(chain) <= len(members):
        if key not in places:
            msg = f"no association {'/'.join(part for part in key if part)!r} for a running job"
            raise ValueError(msg)
        chain.append(places[key])
        member = members[chain[-1]]
        above = member.account if member.user else member.parent
        if not above:
            return tuple(chain)
        key = (above, "", "")
    msg = f"the account {job.account!r} is above itself"
    raise ValueError(msg)
