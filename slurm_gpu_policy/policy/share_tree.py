"""The tree of shares: who divides what with whom, before any usage is looked at.

AM is ``src/common/assoc_mgr.c`` of slurm-25.11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from slurm_gpu_policy.model.record import record

if TYPE_CHECKING:
    from collections.abc import Sequence


@record
class Member:
    """One association of the tree: an account (``user`` empty) or a user in one.

    ``parent`` names the account above an account and is empty for root; a user's is ``account``.
    ``usage`` is the raw usage of the last cycle in weighted TRES-seconds, not truncated.
    """

    account: str
    user: str = ""
    partition: str = ""
    parent: str = ""
    shares: int | None = 1
    """``None`` for ``fairshare=parent``."""
    usage: float = 0.0


@record
class Standing:
    """What the algorithms make of one member, in the words of ``sshare``."""

    member: Member
    norm_shares: float
    norm_usage: float
    effective_usage: float
    level_fs: float
    """``inf`` without usage; ``nan`` where Slurm has none (root, and without fair tree)."""
    fair_share: float | None
    """From 0 to 1; under fair tree ``None`` for accounts."""


@record
class ShareTree:
    """Members by their place in ``members``, parents before children in ``order``.

    ``sharers`` are those who divide a member's shares among them: its children, and in place of
    ``fairshare=parent`` accounts also theirs. ``divider`` is the other direction. Both keep the
    members' order, which decides between tied accounts.
    """

    members: tuple[Member, ...]
    root: int
    parent: tuple[int, ...]
    divider: tuple[int, ...]
    sharers: tuple[tuple[int, ...], ...]
    level_shares: tuple[int, ...]
    """What a member's shares are a part of; 0 for root."""
    order: tuple[int, ...]


def grow(members: Sequence[Member]) -> ShareTree:
    """Return the tree of *members* (AM:943-975, 1123-1163).

    Raises:
        ValueError: there is not exactly one root, an account stands twice, or a member is not
            below root.
    """
    parent, root = _parents(members)
    children = _below(parent, root)
    order = [root]
    for index in order:  # grows while it is walked
        order += children[index]
    if len(order) != len(members):
        lost = next(iter(set(range(len(members))).difference(order)))
        _refuse(f"account {members[lost].account!r} is not below root")
    divider = list(parent)
    for index in order[1:]:
        above = parent[index]
        # A child of a fairshare=parent account divides with that account's own siblings.
        if above != root and members[above].shares is None:
            divider[index] = divider[above]
    sharers = _below(divider, root)
    levels = [sum(members[child].shares or 0 for child in each) for each in sharers]
    return ShareTree(
        members=tuple(members),
        root=root,
        parent=tuple(parent),
        divider=tuple(divider),
        sharers=tuple(map(tuple, sharers)),
        level_shares=tuple(
            0 if index == root else levels[above] for index, above in enumerate(divider)
        ),
        order=tuple(order),
    )


def _below(above: Sequence[int], root: int) -> list[list[int]]:
    """Return the members under each, in their order."""
    found: list[list[int]] = [[] for _ in above]
    for index, place in enumerate(above):
        if index != root:
            found[place].append(index)
    return found


def _parents(members: Sequence[Member]) -> tuple[list[int], int]:
    """Return each member's parent, root's being root, and root."""
    accounts: dict[str, int] = {}
    for index, member in enumerate(members):
        if not member.user:
            if member.account in accounts:
                _refuse(f"account {member.account!r} stands twice")
            accounts[member.account] = index
    parent, roots = [], []
    for index, member in enumerate(members):
        if not member.user and not member.parent:
            roots.append(index)
            parent.append(index)
            continue
        above = accounts.get(member.account if member.user else member.parent)
        if above is None:
            _refuse(f"the account above {member.user or member.account!r} is not in the tree")
        parent.append(above)
    if len(roots) != 1:
        _refuse(f"the tree has {len(roots)} roots, and Slurm's has one")
    return parent, roots[0]


def _refuse(why: str) -> NoReturn:
    msg = f"the associations make no tree: {why}"
    raise ValueError(msg)
