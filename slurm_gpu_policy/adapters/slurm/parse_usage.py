"""What ``scontrol show assoc_mgr`` says: the controller's own table of associations.

It alone has usage to a hundredth of a second, the associations' priorities, and the order of
the controller's own list (by ``lft``, from 23.11 on by lineage), which decides among accounts
that are tied in the fair tree. It shows this moment's usage, while what ``sshare`` derives
from usage is that of the last calculation.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from slurm_gpu_policy.adapters.slurm import quantities as q
from slurm_gpu_policy.adapters.slurm.parse_accounts import raw_shares
from slurm_gpu_policy.model.account import Association

if TYPE_CHECKING:
    from collections.abc import Mapping

ARGV = ("scontrol", "-o", "show", "assoc_mgr", "flags=assoc")
EXACT_ARGV = ("sshare", "-a", "-m", "--json")
"""From 23.11 on; 7 kB an association."""
EXACT_SINCE = (23, 11)
_YOUNG = 1e6
_FEW = 2000
_ROUNDING = 1e-9
_KEY = "ClusterName="
_LIMITS = " GrpJobs="
"""From here on a record holds limits and counts, ten times as long as what is read."""
_LAST_RUN = "priority_last_decay_ran"
_TIME_BYTES = 8
_HALF_PRINTED = 0.005
_HALF_NORM = 5e-7


def usage(text: str) -> tuple[Association, ...]:
    """Read the answer to :data:`ARGV`, in the controller's order."""
    return tuple(_association(line) for line in text.splitlines() if line.startswith(_KEY))


def _association(line: str) -> Association:
    head, _, _ = line.partition(_LIMITS)
    fields = {key: value for key, _, value in (part.partition("=") for part in head.split(" "))}
    user = fields.get("UserName", "").rpartition("(")[0]
    try:
        return Association(
            account=fields["Account"],
            user=user,
            partition=fields["Partition"],
            parent=fields["ParentAccount"].rpartition("(")[0],
            raw_shares=raw_shares(fields["SharesRaw/Norm/Level/Factor"].partition("/")[0]),
            usage=float(fields["UsageRaw/Norm/Efctv"].partition("/")[0]),
            priority=q.optional_count(fields["Priority"]) or 0,
        )
    except (KeyError, ValueError) as error:
        q.unreadable(str(error), head, "the controller's association")


def sharpened(found: tuple[Association, ...]) -> tuple[Association, ...]:
    """Return *found* with usage as exact as ``norm_usage`` (sshare) makes it.

    One is printed to a hundredth of a second, the other to a millionth of root's usage; where
    both hold, the truth is in both intervals. That matters on a young cluster only. Where usage
    has changed since the last calculation the two do not meet, and ``usage`` stands.
    """
    root = next((one for one in found if not one.user and not one.parent), None)
    whole = (root.usage if root else None) or 0.0
    sharper = []
    for one in found:
        if one.usage and one.norm_usage is not None and one is not root:
            low = max(one.usage - _HALF_PRINTED, (one.norm_usage - _HALF_NORM) * whole)
            high = min(one.usage + _HALF_PRINTED, (one.norm_usage + _HALF_NORM) * whole)
            if low < high:
                one = replace(one, usage=(low + high) / 2)  # noqa: PLW2901 - as with_shares
        sharper.append(one)
    return tuple(sharper)


def worth_exact(found: tuple[Association, ...]) -> bool:
    """Return whether hundredths may be too coarse: a young cluster, and not a huge tree."""
    root = next((one for one in found if not one.user and not one.parent), None)
    return bool(root and root.usage and root.usage < _YOUNG) and len(found) <= _FEW


def exact(found: tuple[Association, ...], text: str) -> tuple[Association, ...]:
    """Return *found* with usage from the whole numbers in :data:`EXACT_ARGV`'s answer *text*.

    ``usage_normalized`` is a part of root's usage at the last calculation. Where usage has changed
    since then, it stands as it is.
    """
    import json  # noqa: PLC0415 - 10 ms, and seldom needed

    parts = {}
    try:
        for one in json.loads(text)["shares"]["shares"]:
            is_user = "USER" in one["type"]
            name = (one["parent"], one["name"]) if is_user else (one["name"], "")
            parts[*name, one["partition"]] = float(one["usage_normalized"]["number"])
    except (KeyError, TypeError, ValueError) as error:
        q.unreadable(str(error), text, "sshare --json")
    root = next((one for one in found if not one.user and not one.parent), None)
    whole = (root.usage if root else None) or 0.0
    exacter = []
    for one in found:
        part = parts.get((one.account, one.user, one.partition))
        if part is not None and one.usage is not None and one is not root:
            usage = part * whole
            if abs(usage - one.usage) <= _HALF_PRINTED * (1 + part) + _ROUNDING:
                one = replace(one, usage=usage)  # noqa: PLW2901 - as with_shares
        exacter.append(one)
    return tuple(exacter)


def last_calculation(settings: Mapping[str, str]) -> int | None:
    """Return when Slurm last computed priorities, ``None`` where this process cannot know.

    The time is the first word of a file beside the controller's state
    (priority_multifactor.c, _write_last_decay_ran: two times in network order).
    """
    folder = settings.get("StateSaveLocation", "")
    try:
        with open(os.path.join(folder, _LAST_RUN), "rb") as file:  # noqa: PTH118, PTH123 - as kept_answers
            packed = file.read(_TIME_BYTES)
    except (OSError, ValueError):
        return None
    return int.from_bytes(packed, "big") or None if len(packed) == _TIME_BYTES else None
