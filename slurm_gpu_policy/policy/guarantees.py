"""How much of their guaranteed GPUs accounts have taken, in a tree of accounts (rules Q-7xx).

A job takes from the guarantee of its own account, or of the nearest account above that has one;
what does not fit there may take from those further up, as far as these have not promised their
GPUs to accounts below them. So the load of an account X is

    load(X) = GPUs of jobs under X that are under no guaranteed account below X
              + the sum over these next guaranteed accounts C of max(guarantee(C), load(C))

and a job fits if, with it, some account X on its way up has load(X) <= guarantee(X). A set of
jobs in which each fits is *feasible*. Loads only grow with the set, so each part of a feasible set
is feasible, and it does not matter in which order jobs are looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.account import Association


class Guarantees:
    """Guarantees, and the load on them so far."""

    def __init__(self, policy: Policy, associations: Iterable[Association]) -> None:
        self.gpus: Mapping[str, int] = {
            name.lower(): account.guaranteed_gpus
            for name, account in policy.accounts.items()
            if account.guaranteed_gpus is not None
        }
        self._parents = {item.account: item.parent for item in associations if not item.user}
        self._ways: dict[str, tuple[str, ...]] = {}
        self.load: dict[str, int] = dict.fromkeys(self.gpus, 0)
        for name in sorted(self.gpus, key=lambda name: -len(self.way(name))):  # the lowest first
            above = self.way(name)[1:2]
            for parent in above:
                self.load[parent] += max(self.gpus[name], self.load[name])

    def way(self, account: str) -> tuple[str, ...]:
        """Return the guaranteed accounts from *account* upward, itself included."""
        known = self._ways.get(account)
        if known is not None:
            return known
        found: list[str] = []
        seen: set[str] = set()
        name = account.lower()
        while name and name not in seen:
            seen.add(name)
            if name in self.gpus:
                found.append(name)
            name = self._parents.get(name, "")
        self._ways[account] = tuple(found)
        return self._ways[account]

    def room_for(self, account: str, gpus: int) -> str:
        """Return the account whose guarantee *gpus* more would fit into; ``""`` for none."""
        more = gpus
        for name in self.way(account):
            after = self.load[name] + more
            if after <= self.gpus[name]:
                return name
            more = after - max(self.gpus[name], self.load[name])
        return ""

    def take(self, account: str, gpus: int) -> None:
        """Add the GPUs of a job, whether they fit or not."""
        more = gpus
        for name in self.way(account):
            before = max(self.gpus[name], self.load[name])
            self.load[name] += more
            more = max(self.gpus[name], self.load[name]) - before
            if not more:
                return
