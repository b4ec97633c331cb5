"""Price books for tests, one with nights at half price in Berlin; and decisions by prices."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from zoneinfo import ZoneInfo

from slurm_gpu_policy.model.cluster import ClusterConfig
from slurm_gpu_policy.model.prices import Band, Prices, Tariff, Use
from slurm_gpu_policy.policy.admission import decide
from slurm_gpu_policy.units import MICRO
from tests.builders import make_policy, make_request, make_snapshot

HOUR = 3600
DAY = 86400
H100 = Use({"h100": 1})
FLAT = (Tariff(0, Prices({"h100": 2_500_000, "a100": 1_000_000, "": 2_500_000})),)
EVERY_DAY = frozenset(range(7))
NIGHT = Band(EVERY_DAY, 20 * HOUR, 8 * HOUR, MICRO // 2)
WEEKEND = Band(frozenset({5, 6}), 0, DAY, MICRO // 4)
BERLIN = replace(FLAT[0].prices, bands=(NIGHT,), timezone="Europe/Berlin")


def berlin(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin")).timestamp())


NOON = berlin("2030-05-03T12:00")
"""A Friday."""


TYPES = {"h100": {"price_per_hour": "2.50"}}
NIGHTS = {
    "timezone": "Europe/Berlin",
    "hours": [{"start": "20:00", "end": "08:00", "factor": 0.5}],
}


def judge(request=None, *, at=NOON, settings=None, **policy_fields):
    policy = make_policy(**{"gpu_types": TYPES, **policy_fields})
    snapshot = make_snapshot(time=at)
    if settings:
        config = ClusterConfig("c", "22.05.8", MappingProxyType(settings))
        snapshot = replace(snapshot, config=config)
    return decide(
        request or make_request(time_seconds=HOUR), snapshot, policy, policy.cluster_defaults
    )


def reason(decision, rule):
    return next((each for each in decision.reasons if each.rule == rule), None)
