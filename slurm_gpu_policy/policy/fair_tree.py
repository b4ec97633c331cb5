"""Fair tree as Slurm's code does it, which is not what its documentation says of ties.

FT is ``src/plugins/priority/multifactor/fair_tree.c`` of slurm-25.11. Slurm counts in 80-bit
long doubles. A double gives the same order except where two siblings differ, or do not, in its
last bits: those are compared again in 64-bit significands (:func:`_extended`), because a tie is
a rank shared.
"""

from __future__ import annotations

from fractions import Fraction
from math import inf, nan
from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.policy.share_tree import Member, ShareTree, Standing, grow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Member", "Standing", "fair_tree"]

_NO_LEVEL: Final = 4294967294.0
"""slurm.h NO_VAL, which is also the level of an account with fairshare=parent (FT:187-194)."""
_NEAR: Final = 4e-15
"""Levels nearer than this, relatively, are compared as Slurm's long doubles."""
Level = float | Fraction


def fair_tree(members: Sequence[Member]) -> tuple[Standing, ...]:
    """Return the standing of each member, in the order given.

    The order among siblings decides which of two tied accounts is visited first: give it as
    Slurm's list of associations has it (by lineage from 23.11 on, as sacctmgr has it before).

    Raises:
        ValueError: the members make no tree (:func:`policy.share_tree.grow`).
    """
    tree = grow(members)
    norm_shares = _norm_shares(tree)
    effective = _effective_usage(tree)
    levels = _levels(tree, norm_shares, effective)
    fair_share = _ranked(tree, levels, norm_shares)
    whole = members[tree.root].usage
    return tuple(
        Standing(
            member=member,
            norm_shares=norm_shares[index],
            norm_usage=min(1.0, member.usage / whole) if whole else 0.0,
            effective_usage=effective[index],
            level_fs=nan if index == tree.root else float(levels[index]),
            fair_share=fair_share[index],
        )
        for index, member in enumerate(tree.members)
    )


def _norm_shares(tree: ShareTree) -> list[float]:
    """Return shares as a part of the level's; a ``parent``'s are its divider's (AM:351-366)."""
    members, level_shares = tree.members, tree.level_shares
    found = [
        (member.shares or 0) / level if level else 0.0
        for member, level in zip(members, level_shares, strict=True)
    ]
    for index in tree.order:
        if members[index].shares is None:
            found[index] = found[tree.divider[index]]
    return found


def _effective_usage(tree: ShareTree) -> list[float]:
    """Return usage as a part of the divider's, 0 where it has none (FT:77-88); root's is 1."""
    members = tree.members
    usages = [member.usage for member in members]
    found = [
        usage / usages[above] if usages[above] else 0.0
        for usage, above in zip(usages, tree.divider, strict=True)
    ]
    found[tree.root] = 1.0
    return found


def _levels(tree: ShareTree, norm_shares: list[float], effective: list[float]) -> list[Level]:
    """Return level_fs of all, as doubles (FT:171-206)."""
    found: list[Level] = []
    for member, shares, usage in zip(tree.members, norm_shares, effective, strict=True):
        if member.shares is None:
            found.append(inf if member.user else _NO_LEVEL)
        elif shares == 0:
            found.append(0.0)
        else:
            found.append(shares / usage if usage else inf)
    return found


def _ranked(tree: ShareTree, levels: list[Level], norm_shares: list[float]) -> list[float | None]:
    """Return each user's rank by the number of users, as the code finds it (FT:327-398).

    Users of one level share a rank. Of tied accounts Slurm means to merge the children, but
    counts no tie (FT:258-266): they are visited one after the other, and only the first child
    of the second goes on with the rank of the last user of the first.
    """
    is_user = [bool(member.user) for member in tree.members]
    rank = rank_without_ties = users = is_user.count(True)
    found: list[float | None] = [None] * len(is_user)
    # Each entry is what is left of one level: its siblings, whether the first is tied to what
    # was visited before, and the level last seen.
    stack: list[tuple[Iterator[int], bool, Level]] = [
        (_sorted(tree, tree.root, levels, norm_shares), False, _NO_LEVEL)
    ]
    while stack:
        siblings, account_tied, previous = stack.pop()
        for index in siblings:
            level = levels[index]
            tied = account_tied or previous == level
            account_tied, previous = False, level
            if is_user[index]:
                if not tied:
                    rank = rank_without_ties
                found[index] = rank / users
                rank_without_ties -= 1
            elif tree.sharers[index]:
                stack.append((siblings, False, previous))
                stack.append((_sorted(tree, index, levels, norm_shares), tied, _NO_LEVEL))
                break
    return found


def _sorted(
    tree: ShareTree, above: int, levels: list[Level], norm_shares: list[float]
) -> Iterator[int]:
    """Yield the sharers of *above* as they are visited (FT:136-159).

    High levels come first, users before accounts of their level, else the order given (a stable
    sort). Levels that doubles cannot tell apart are replaced in *levels* by exact ones.
    """
    members = tree.members

    def by_level(index: int) -> tuple[Level, bool]:
        return -levels[index], not members[index].user

    siblings = sorted(tree.sharers[above], key=by_level)
    # Two infinite levels differ by no number, and that is not near.
    run = [siblings[0]] if siblings else []
    unsure: list[int] = []
    for index in siblings[1:]:
        level = levels[index]
        if level and levels[run[-1]] - level <= level * _NEAR:
            run.append(index)
            continue
        if len(run) > 1:
            unsure += _unlike(run, norm_shares, members)
        run = [index]
    if len(run) > 1:
        unsure += _unlike(run, norm_shares, members)
    whole = members[above].usage
    for index in unsure:
        member = members[index]
        if member.shares is not None and member.usage and whole:
            levels[index] = _level_extended(norm_shares[index], member.usage, whole)
    if unsure:
        siblings = sorted(tree.sharers[above], key=by_level)
    return iter(siblings)


def _unlike(run: list[int], norm_shares: list[float], members: tuple[Member, ...]) -> list[int]:
    """Return the near ones, unless they are tied whatever the precision."""
    alike = {(norm_shares[index], members[index].usage) for index in run}
    return run if len(alike) > 1 else []


def _level_extended(shares: float, usage: float, whole: float) -> Fraction:
    """Return ``shares / (usage / whole)`` with both quotients rounded as long doubles."""
    part = _extended(Fraction(usage) / Fraction(whole))
    return _extended(Fraction(shares) / part)


def _extended(value: Fraction) -> Fraction:
    """Return a positive *value* rounded to 64 significant bits, halves to even (x87 extended)."""
    numerator, denominator = value.numerator, value.denominator
    shift = 64 - (numerator.bit_length() - denominator.bit_length())
    scaled = value * Fraction(2) ** shift
    # Between 2**63 and 2**65: one bit too many where it has 65.
    if scaled >= 2**64:
        scaled, shift = scaled / 2, shift - 1
    return round(scaled) / Fraction(2) ** shift
