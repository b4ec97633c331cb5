"""What fair shares and priorities will be, from what they are and what runs meanwhile."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slurm_gpu_policy.policy.priority_settings import read_settings
from slurm_gpu_policy.policy.usage import after_cycles, cycle_times
from slurm_gpu_policy.services.standing import members

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slurm_gpu_policy.model.snapshot import Snapshot
    from slurm_gpu_policy.policy.usage import Running


def forecast(snapshot: Snapshot, until: int, running: Iterable[Running] = ()) -> Snapshot:
    """Return the snapshot as it will be right after Slurm's calculation at *until*.

    *snapshot* has :data:`~slurm_gpu_policy.services.standing.PRIORITY_PARTS` and is from right
    after a calculation, or from between two with nothing running; *running* are the jobs that
    use something from then on. :func:`~slurm_gpu_policy.services.standing.fair_shares` and
    ``priorities`` of the result are the forecast. Jobs that wait now are taken to wait still.
    """
    settings = read_settings(snapshot.config.settings if snapshot.config else {})
    last = snapshot.calculated_at or snapshot.time
    period = settings.calc_period_seconds
    # The last one is where the caller says, a second beside the rhythm or not.
    cycles = [*cycle_times(last, period, until - period // 2), until]
    later = after_cycles(members(snapshot), running, settings.half_life_seconds, last, cycles)
    return replace(
        snapshot,
        time=until,
        calculated_at=until,
        associations=tuple(
            replace(one, usage=member.usage)
            for one, member in zip(snapshot.associations, later, strict=True)
        ),
    )
