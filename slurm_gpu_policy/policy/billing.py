"""What Slurm bills for a job's TRES: TRESBillingWeights and the MAX_TRES flags.

AM is ``src/common/assoc_mgr.c`` of slurm-25.11.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

TRES_TABLE: Final = ("cpu", "mem", "energy", "node", "billing", "fs/disk", "vmem", "pages")
"""The TRES every cluster has, in the order Slurm adds them; a site's own follow."""
_OF_A_NODE: Final = frozenset({"cpu", "mem", "node"})
_WEIGHT: Final = r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?:([KMGTPkmgtp]).*)?"
_UNITS: Final = "KMGTP"


def billing(
    tres: Mapping[str, int], weights: Mapping[str, str], flags: frozenset[str] = frozenset()
) -> float:
    """Return the billing of *tres* (memory in MiB), not truncated, as usage accrues it.

    *weights* are a partition's as Slurm prints them (``Mem``: ``0.25G``); none bills the CPUs.
    *flags* are PriorityFlags: with MAX_TRES the dearest of what is on a node counts alone, with
    MAX_TRES_GRES (from 25.05 on) GRES are added to it (AM:7161-7232). ``gres/gpu`` and
    ``gres/gpu:h100`` are two TRES; with weights for both, a GPU is billed twice.

    Raises:
        ValueError: a weight is no number.
    """
    if not weights:
        return float(tres.get("cpu", 0))
    dearest = added = 0.0
    for name, weight in read_weights(weights).items():
        if name == "billing":
            continue
        amount = tres.get(name, 0) * weight
        if _shares_a_node(name, flags):
            dearest = max(dearest, amount)
        else:
            added += amount
    return dearest + added


def shown_billing(amount: float) -> int:
    """Return the billing that Slurm shows and limits count: truncated (JM:9613)."""
    return int(amount)


def read_weights(texts: Mapping[str, str]) -> dict[str, float]:
    """Return weights per TRES name in lower case, in the order Slurm adds them.

    Those outside :data:`TRES_TABLE` keep the order given.

    Raises:
        ValueError: a weight is no number.
    """
    given = {name.lower(): text for name, text in texts.items()}
    places = {name: place for place, name in enumerate(TRES_TABLE)}
    ordered = sorted(given, key=lambda name: places.get(name, len(TRES_TABLE)))
    return {name: read_weight(name, given[name]) for name in ordered}


def read_weight(name: str, text: str) -> float:
    """Return the weight of one unit of the TRES *name*, a MiB of memory.

    A suffix says for how many units the weight is: ``0.25G`` of memory is 0.25 a GiB. Memory's
    unit is the MiB already, so ``M`` changes nothing, nor does ``K`` (``get_convert_unit_val``).

    Raises:
        ValueError: *text* is no number.
    """
    match = re.fullmatch(_WEIGHT, text)
    if match is None:
        msg = f"the weight of {name} is no number: {text!r}"
        raise ValueError(msg)
    value = float(match[1])
    if match[2] is None:
        return value
    base = 2 if name.lower() == "mem" or name.lower().startswith("bb/") else 0
    steps = _UNITS.index(match[2].upper()) + 1 - base
    return value / 1024**steps if steps > 0 else value


def _shares_a_node(name: str, flags: frozenset[str]) -> bool:
    if name in _OF_A_NODE:
        return "MAX_TRES" in flags or "MAX_TRES_GRES" in flags
    return name.startswith("gres/") and "MAX_TRES" in flags
