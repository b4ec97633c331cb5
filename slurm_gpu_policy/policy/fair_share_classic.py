"""Fair share without fair tree (``PriorityFlags=NO_FAIR_TREE``): classic and DEPTH_OBLIVIOUS.

PM is ``src/plugins/priority/multifactor/priority_multifactor.c`` of slurm-25.11. Slurm counts in
long doubles, we in doubles: factors are continuous here, so that only digits past the
fifteenth differ.
"""

from __future__ import annotations

from math import log, nan
from typing import TYPE_CHECKING

from slurm_gpu_policy.policy.share_tree import Member, ShareTree, Standing, grow

if TYPE_CHECKING:
    from collections.abc import Sequence

_DEPTH_FACTOR = 5.0
"""How much a parent's imbalance damps its children's (PM:1675-1774; fixed in the code)."""


def classic_fair_share(
    members: Sequence[Member], *, dampening: int = 1, depth_oblivious: bool = False
) -> tuple[Standing, ...]:
    """Return the standing of each member, in the order given; accounts have a factor too.

    *dampening* is FairShareDampeningFactor. The factors are those of ``sshare`` (a later release
    shows none for accounts), for a settled tree: Slurm takes the accounts' effective usage at the
    start of a cycle, before it adds new usage, and the users' when it is asked for. With
    DEPTH_OBLIVIOUS that matters: a new user of whom nobody asked yet (by a job, or ``sshare``)
    counts among its siblings with a usage of 4294967294.

    Raises:
        ValueError: the members make no tree (:func:`policy.share_tree.grow`).
    """
    tree = grow(members)
    norm_shares = _norm_shares(tree)
    whole = members[tree.root].usage
    norm_usage = [min(1.0, member.usage / whole) if whole else 0.0 for member in members]
    effective = _effective_usage(tree, norm_shares, norm_usage, depth_oblivious=depth_oblivious)
    return tuple(
        Standing(
            member=member,
            norm_shares=shares,
            norm_usage=used,
            effective_usage=usage,
            level_fs=nan,
            fair_share=classic_factor(effective[of], norm_shares[of], dampening),
        )
        for member, shares, used, usage, of in zip(
            members, norm_shares, norm_usage, effective, _whose_factor(tree), strict=True
        )
    )


def _whose_factor(tree: ShareTree) -> list[int]:
    """Return whose usage and shares make each factor: of a ``parent`` user its divider's.

    That is the factor of its jobs. Where the divider is root, sshare 22.05 prints another one
    (from the user's own usage), later releases this one.
    """
    return [
        tree.divider[index] if member.user and member.shares is None else index
        for index, member in enumerate(tree.members)
    ]


def classic_factor(effective_usage: float, norm_shares: float, dampening: int = 1) -> float:
    """Return ``2 ** -(usage / shares / dampening)``, 0 without shares (PM:1295-1316)."""
    if norm_shares <= 0:
        return 0.0
    return float(2.0 ** -(effective_usage / norm_shares / dampening))


def _norm_shares(tree: ShareTree) -> list[float]:
    """Return shares of the whole cluster: the product up to root (AM:369-410).

    Those of ``fairshare=parent`` are their divider's, and such an account is no factor in its
    children's.
    """
    members, level_shares, parent = tree.members, tree.level_shares, tree.parent
    found = [1.0] * len(members)
    for index in tree.order[1:]:
        if members[index].shares is None:
            found[index] = found[tree.divider[index]]
            continue
        product, at = 1.0, index
        while at != tree.root:
            shares = members[at].shares
            if shares is not None:
                product = product * (shares / level_shares[at]) if level_shares[at] else 0.0
            at = parent[at]
        found[index] = product
    return found


def _effective_usage(
    tree: ShareTree, norm_shares: list[float], norm_usage: list[float], *, depth_oblivious: bool
) -> list[float]:
    """Return usage_efctv of all, from root down (PM:2275-2295, 1776-1793)."""
    members = tree.members
    found = [1.0] * len(members)
    for index in tree.order[1:]:
        above = tree.divider[index]
        shares, level = members[index].shares, tree.level_shares[index]
        if above == tree.root:
            found[index] = norm_usage[index]
        elif shares is None:
            found[index] = found[above]
        elif depth_oblivious:
            found[index] = _depth_oblivious(tree, index, norm_shares, norm_usage, found)
        elif not level:
            found[index] = found[above]
        else:
            used = norm_usage[index]
            found[index] = used + (found[above] - used) * (shares / level)
    return found


def _depth_oblivious(
    tree: ShareTree,
    index: int,
    norm_shares: list[float],
    norm_usage: list[float],
    effective: list[float],
) -> float:
    """Return usage_efctv so that an account's depth does not matter (PM:1675-1774).

    The ratio of usage to shares is the parent's, times one's own among siblings, the latter
    damped where the parent is far from 1 and one's own would bring it back.
    """
    above = tree.divider[index]
    shares, used = norm_shares[index], norm_usage[index]
    if not (shares and norm_shares[above] and effective[above] and used):
        return used
    of_parent = effective[above] / norm_shares[above]
    siblings = sum(
        norm_usage[sibling]
        for sibling in tree.sharers[above]
        if tree.members[sibling].shares is not None
    )
    local = (used / shares) / (siblings / norm_shares[above])
    damping = 1.0
    if of_parent and local and log(of_parent) * log(local) < 0:
        damping = 1 / (1 + (_DEPTH_FACTOR * log(of_parent)) ** 2)
    return float(of_parent * local**damping * shares)
