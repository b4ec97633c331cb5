"""Why a fair share is what it is, in words: who used how much of their share, and against whom.

Two users are ranked by the pair of siblings below their first common ancestor (fair tree), so
that pair is named, and not the figures of the users themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.policy.share_tree import grow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_gpu_policy.policy.share_tree import Standing

Whose = tuple[str, str, str]
"""Account, user, and partition (``""`` unless the association is for one only)."""

_WHOLE: Final = 1 - 1e-9
_LARGE: Final = 10
_SMALL: Final = 1


class ShareWords:
    """Sentences on the standings of one tree (all of them, as fair_tree or the classic gives)."""

    def __init__(self, standings: Sequence[Standing]) -> None:
        self._standings = standings
        self._places: dict[Whose, int] = {
            (one.member.account, one.member.user, one.member.partition): place
            for place, one in enumerate(standings)
        }
        tree = grow([one.member for one in standings])
        self._divider, self._root = tree.divider, tree.root

    def standing(self, whose: Whose) -> Standing | None:
        """Return an association's standing: the one for a partition, or the general one."""
        place = self._place(whose)
        return None if place is None else self._standings[place]

    def of(self, whose: Whose) -> str:
        """Return what an association and the accounts above it used of their shares, top down.

        Who shares with nobody is left out, because that decides nothing.
        """
        said = []
        for place in self._line(whose):
            one = self._standings[place]
            if one.member.shares is not None and one.norm_shares < _WHOLE:
                said.append(_used(one))
                if not one.effective_usage:  # neither did anybody below
                    break
        return ", ".join(said)

    def against(self, mine: Whose, theirs: Whose) -> str:
        """Return the pair of siblings that decides between two associations; ``""`` for none."""
        for my_place, their_place in zip(self._line(mine), self._line(theirs), strict=False):
            if my_place != their_place:
                ahead, behind = self._standings[their_place], self._standings[my_place]
                return f"{_used(ahead)}, {_used(behind)}"
        return ""

    def _place(self, whose: Whose) -> int | None:
        return self._places.get(whose, self._places.get((whose[0], whose[1], "")))

    def _line(self, whose: Whose) -> list[int]:
        """Return an association and those above it that divide shares, top down, without root."""
        place = self._place(whose)
        line: list[int] = []
        while place is not None and place != self._root:
            line.append(place)
            place = self._divider[place]
        return line[::-1]


def _used(one: Standing) -> str:
    member = one.member
    name = f"user {member.user}" if member.user else f"account {member.account}"
    if member.shares is None:
        return f"{name} competes with its account's shares"
    if not member.shares or not one.norm_shares:
        return f"{name} has no share"
    if not one.effective_usage:
        return f"{name} used nothing of its share"
    return f"{name} used {times(one.effective_usage / one.norm_shares)} x its share"


def times(number: float) -> str:
    """Return a ratio for people: ``0.31``, ``2.4``, ``120``."""
    return f"{number:.{0 if number >= _LARGE else 1 if number >= _SMALL else 2}f}"
