"""Who may see which account's money, and move it (rule B-012)."""

from __future__ import annotations

from dataclasses import field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.model.record import record

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from slurm_gpu_policy.model.ledger import Fund

_NO_PARENTS: Mapping[str, str] = MappingProxyType({})
WHO_OPERATES: Final = (
    "operators may (AdminLevel of Slurm, or `operators` in the policy file), and nobody else"
)
WHO_GRANTS: Final = (
    "operators may (AdminLevel of Slurm, or `operators` in the policy file), and coordinators "
    "below an account of theirs that has a budget itself"
)


@record
class Rights:
    """What one user may see and do; made of what Slurm says, never of what a request says."""

    user: str
    operates: bool = False
    parents: Mapping[str, str] = field(default_factory=lambda: _NO_PARENTS)
    """By account: the account above it; of all accounts that Slurm has."""
    accounts: frozenset[str] = frozenset()
    """Where the user has an association."""
    coordinated: frozenset[str] = frozenset()
    """Accounts that Slurm names the user a coordinator of; they coordinate those below too."""

    def line(self, account: str) -> tuple[str, ...]:
        """Return an account and all above it, up to the root."""
        line = [account] if account else []
        while line and (above := self.parents.get(line[-1])) and above not in line:
            line.append(above)
        return tuple(line)

    def is_below(self, account: str, top: str) -> bool:
        """Whether an account is *top*, or stands below it."""
        return top in self.line(account)

    def manages(self, account: str) -> bool:
        """Whether it is the user's to manage: an operator's, or a coordinator's of it or above.

        What Slurm has no account for, the cluster's own funds among it, is the operators' alone.
        """
        return self.operates or not self.coordinated.isdisjoint(self.line(account))

    def moves(
        self, source: tuple[str, str], target: tuple[str, str], limited: Collection[tuple[str, str]]
    ) -> bool:
        """Whether the user may move money between two levels (an account, and a user or ``""``).

        A job draws on every level of its line, so what a lower one may spend is not there a second
        time: moved up, it would raise what operators granted above. Of the *limited* levels, those
        above the one have to be above the other too.
        """
        if not (self.manages(source[0]) and self.manages(target[0])):
            return False
        above = self._above(source) & frozenset(limited)
        return self.operates or above <= self._above(target)

    def distributes(self, level: tuple[str, str], limited: Collection[tuple[str, str]]) -> bool:
        """Whether the user may grant to a level, take back there, and close its budgets.

        A coordinator may where one of their accounts above it is *limited*: whatever is granted
        below, no more than what that account has can be spent.
        """
        return self.operates or any(
            above in limited and self.manages(above[0]) for above in self._above(level)
        )

    def _above(self, level: tuple[str, str]) -> frozenset[tuple[str, str]]:
        line = self.line(level[0])
        return frozenset((account, "") for account in (line if level[1] else line[1:]))

    def sees(self, account: str) -> bool:
        """Whether the user may see an account's totals: who manages it, or spends from it.

        Jobs draw on all accounts above their own, so their users may know how those stand.
        """
        return self.manages(account) or any(self.is_below(own, account) for own in self.accounts)

    def sees_of(self, account: str, user: str) -> bool:
        """Whether the user may see what *user* spent in an account; everybody sees their own."""
        return user == self.user or self.manages(account)

    def sees_fund(self, fund: Fund) -> bool:
        """Whether the user may see how a fund stands."""
        if not fund.account:
            return self.operates
        if fund.user:
            return self.sees_of(fund.account, fund.user)
        return self.sees(fund.account)

    def draws_on(self, fund: Fund) -> bool:
        """Whether jobs of the user are paid from a fund."""
        if fund.user:
            return fund.user == self.user
        return any(self.is_below(own, fund.account) for own in self.accounts)
