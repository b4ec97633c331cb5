"""A site with a fake database, on which policies are planned and applied step by step."""

from __future__ import annotations

import json
from functools import lru_cache

from slurm_gpu_policy.model.plan import Made, Uses
from slurm_gpu_policy.policy.planning.plan import difference, forget, remember, without
from slurm_gpu_policy.policy.planning.wanting import wanted
from tests.builders import make_policy

from .accounts import FakeAccounts

CLUSTER = "fake"


@lru_cache(maxsize=64)
def wanted_by(policy):
    return wanted(make_policy(**json.loads(policy)))


class Site:
    """A fake database, what apply remembers of it, and apply itself."""

    def __init__(self, slurm=None):
        self.slurm = slurm or FakeAccounts()
        self.made = Made()
        self.used = set()

    def plan(self, **policy):
        self.wants = wanted_by(json.dumps(policy))
        present = self.slurm.managed(CLUSTER)
        made = forget(self.made, self.wants, present)
        uses = Uses(jobs=frozenset(self.slurm.jobs))
        return difference(self.wants, present, made, uses)

    def apply(self, *, steps=None, **policy):
        """Apply a policy, or only its first *steps*, and return the plan."""
        plan = self.plan(**policy)
        assert not plan.problems, plan.problems
        present = self.slurm.managed(CLUSTER)
        for change in plan.changes[:steps]:
            self.made = remember(self.made, change, self.wants, present)
            self.slurm.carry_out(CLUSTER, change)
            if change.verb == "remove":
                self.made = without(self.made, change.what)
        if steps is None:
            self.made = forget(self.made, self.wants, self.slurm.managed(CLUSTER))
        return plan

    def values(self, *what):
        return self.slurm.objects[what]

    def has(self, *what):
        return what in self.slurm.objects
