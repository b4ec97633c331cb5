"""What the controller's settings say about priorities, read from the texts Slurm prints."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy.billing import TRES_TABLE, read_weights
from slurm_gpu_policy.policy.priority import Settings, Weights

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNSET: Final = frozenset({"", "(null)", "N/A", "None"})
_ENDLESS: Final = frozenset({"UNLIMITED", "INFINITE"})
_INFINITE: Final = 2**32 - 1
_TIME: Final = r"(?:(\d+)-)?(\d+):(\d+):(\d+)"


@record
class PrioritySettings:
    """Everything ``scontrol show config`` says about priorities; units in the names."""

    multifactor: bool
    """False under priority/basic, where nothing here applies."""
    weights: Weights
    flags: frozenset[str]
    """PriorityFlags in upper case; FAIR_TREE is the default and never printed."""
    fair_tree: bool
    max_age_seconds: int
    favor_small: bool
    half_life_seconds: int
    """0 where usage does not decay."""
    calc_period_seconds: int
    reset_period: str
    """``NONE``, ``NOW``, ``DAILY``, ``WEEKLY``, ``MONTHLY``, ``QUARTERLY`` or ``YEARLY``."""
    dampening: int


def read_settings(settings: Mapping[str, str]) -> PrioritySettings:
    """Read ``ClusterConfig.settings``; a key that is missing has Slurm's default.

    Without slurmdbd Slurm takes the weights of age and fair share for 0 (PM:1811-1818).

    Raises:
        ValueError: a text has a form that Slurm does not print; the message names its key.
    """
    flags = frozenset(_words(settings.get("PriorityFlags", "")))
    with_database = settings.get(
        "AccountingStorageType", "accounting_storage/slurmdbd"
    ).lower() in {"accounting_storage/slurmdbd", "slurmdbd"}
    return PrioritySettings(
        multifactor=settings.get("PriorityType", "priority/multifactor").endswith("multifactor"),
        weights=Weights(
            age=_count(settings, "PriorityWeightAge") if with_database else 0,
            association=_count(settings, "PriorityWeightAssoc"),
            fair_share=_count(settings, "PriorityWeightFairShare") if with_database else 0,
            job_size=_count(settings, "PriorityWeightJobSize"),
            partition=_count(settings, "PriorityWeightPartition"),
            qos=_count(settings, "PriorityWeightQOS"),
            tres=_tres_weights(settings),
        ),
        flags=flags,
        fair_tree="NO_FAIR_TREE" not in flags,
        max_age_seconds=_seconds(settings, "PriorityMaxAge", 7 * 86400),
        favor_small=settings.get("PriorityFavorSmall", "No").lower() in {"yes", "1", "true"},
        half_life_seconds=_seconds(settings, "PriorityDecayHalfLife", 7 * 86400),
        calc_period_seconds=_seconds(settings, "PriorityCalcPeriod", 300),
        reset_period=settings.get("PriorityUsageResetPeriod", "NONE").upper(),
        dampening=_count(settings, "FairShareDampeningFactor", 1),
    )


def calculation(  # noqa: PLR0913 - the cluster's sizes
    read: PrioritySettings,
    *,
    cluster_cpus: int,
    nodes: int,
    max_association_priority: int = 0,
    max_qos_priority: int = 0,
    max_partition_factor: int = 1,
) -> Settings:
    """Return what :func:`policy.priority.terms` needs: the settings and the cluster's sizes.

    The highest priorities are those of all associations (accounts too), all QOS and all
    partitions.
    """
    return Settings(
        weights=read.weights,
        max_age_seconds=read.max_age_seconds,
        flags=read.flags,
        favor_small=read.favor_small,
        cluster_cpus=cluster_cpus,
        nodes=nodes,
        max_association_priority=max_association_priority,
        max_qos_priority=max_qos_priority,
        max_partition_factor=max(1, max_partition_factor),
    )


def _words(text: str) -> tuple[str, ...]:
    return () if text in _UNSET else tuple(word.strip().upper() for word in text.split(","))


def _count(settings: Mapping[str, str], key: str, default: int = 0) -> int:
    text = settings.get(key, "")
    if text in _UNSET:
        return default
    if not (text.isascii() and text.isdigit()):
        msg = f"{key} is no number: {text!r}"
        raise ValueError(msg)
    return int(text)


def _seconds(settings: Mapping[str, str], key: str, default: int) -> int:
    """Return the seconds in ``[D-]HH:MM:SS``, or in a bare number."""
    text = settings.get(key, "")
    if text in _UNSET:
        return default
    if text.upper() in _ENDLESS:
        return _INFINITE
    if text.isascii() and text.isdigit():
        return int(text)
    match = re.fullmatch(_TIME, text, re.ASCII)
    if match is None:
        msg = f"{key} is no duration: {text!r}"
        raise ValueError(msg)
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _tres_weights(settings: Mapping[str, str]) -> dict[str, float]:
    """Return PriorityWeightTRES in the order of AccountingStorageTRES, which is Slurm's own."""
    text = settings.get("PriorityWeightTRES", "")
    if text in _UNSET:
        return {}
    weights = {}
    for part in text.split(","):
        name, sign, weight = part.partition("=")
        if not sign:
            msg = f"PriorityWeightTRES is no list of weights: {text!r}"
            raise ValueError(msg)
        weights[name.strip()] = weight
    kept = [word.lower() for word in _words(settings.get("AccountingStorageTRES", ""))]
    order = {name: place for place, name in reversed(tuple(enumerate([*TRES_TABLE, *kept])))}
    read = read_weights(weights)
    return {name: read[name] for name in sorted(read, key=lambda each: order.get(each, len(order)))}
