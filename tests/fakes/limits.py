"""Slurm's GrpTRESMins in memory: what is set, used, and still to be used by what runs."""

from __future__ import annotations

from slurm_gpu_policy.model.limit_use import LimitUse


class FakeLimits:
    """Implements LimitsPort. ``used`` and ``running`` are seconds per (account, user) and TRES."""

    def __init__(self, *levels) -> None:
        self.limits = {level: {} for level in levels}
        self.qos: dict = {}
        self.used: dict = {}
        self.running: dict = {}
        self.counted = ("gres/gpu", "billing")
        self.batches: list = []
        self.failing: Exception | None = None

    def limit_uses(self, accounts):
        return tuple(
            LimitUse(
                *level,
                limits=dict(limits),
                used={tres: self.used.get((level, tres), 0) // 60 for tres in self.counted},
                running={tres: self.running.get((level, tres), 0) // 60 for tres in self.counted},
            )
            for level, limits in self.limits.items()
            if level[0] in accounts
        )

    def set_limits(self, cluster, changes):
        if self.failing is not None:
            raise self.failing
        self.batches.append(tuple(changes))
        for change in changes:
            level = (change.account, change.user)
            here = self.qos if change.qos else self.limits[level]
            key = (change.qos, change.tres) if change.qos else change.tres
            here[key] = change.minutes
            if change.minutes is None:
                del here[key]
