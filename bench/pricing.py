"""Measure what pricing runs takes against a plain loop with fractions, in one run.

    bench/pricing.py [--rounds 5]

Needs no cluster. The plain loop is what one would write first: hour by hour, each asked of the
zone, a Fraction summed. It prices a fiftieth of the runs and must find the same, to the
millionth; each round measures both, in turn. Exits with 1 where a figure is above its limit.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import time
from datetime import datetime
from fractions import Fraction
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from slurm_gpu_policy.model.prices import Band, Prices, Tariff, Use
from slurm_gpu_policy.policy.prices.pricing import cost, costs
from slurm_gpu_policy.units import MICRO

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS = 100_000
PLAIN = 50
"""The plain loop has one of so many runs."""
MOST_SECONDS = 2.0
MOST_GROWTH = 12.0
"""Of the time, from a tenth of the runs to all of them."""
HOUR = 3600
DAY = 86_400
START = 1_899_000_000
"""Three weeks before the spring night of 2030."""
EVERY_DAY = frozenset(range(7))
DEAR = Prices(
    {"h100": 2_500_000, "a100": 1_000_000, "": 2_500_000},
    cpu=10_000,
    memory_gib=2_000,
    qos={"low": MICRO // 2},
    partitions={"old": MICRO * 4 // 5},
    bands=(
        Band(frozenset({5, 6}), 0, DAY, MICRO // 4),
        Band(EVERY_DAY, 20 * HOUR, 8 * HOUR, MICRO // 2),
    ),
    timezone="Europe/Berlin",
)
BOOK = tuple(
    Tariff(since, Prices(**{name: getattr(DEAR, name) for name in DEAR.__match_args__}))
    for since in (0, START + 20 * DAY, START + 40 * DAY)
)

Run = tuple[Use, int, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    report = measure(parser.parse_args().rounds)
    print(json.dumps(report, indent=2))
    above = [f"{name} is {found}, above {most}" for name, found, most in limits(report)
             if found > most]  # fmt: skip
    sys.exit("; ".join(above) or 0)


def measure(rounds: int = 5) -> dict[str, Any]:
    """Return medians in milliseconds, for all runs and each with its month's end as a cut."""
    found = runs(random.Random(7))  # noqa: S311 - the same work each time
    few = found[::PLAIN]
    if [cost(*run, BOOK).micros for run in few] != [plain(*run) for run in few]:
        sys.exit("bench: the plain loop finds other costs")
    contenders: dict[str, Callable[[], object]] = {
        "runs": lambda: [cost(*run, BOOK) for run in found],
        "runs in two parts": lambda: [
            costs(use, (start, (start + end) // 2, end), BOOK) for use, start, end in found
        ],
        "a tenth": lambda: [cost(*run, BOOK) for run in found[::10]],
        "plain": lambda: [plain(*run) for run in few],
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            begin = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - begin)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "runs": RUNS,
        "milliseconds": {name: round(1000 * value, 1) for name, value in medians.items()},
        "ratio": round(medians["runs"] / (medians["plain"] * PLAIN), 4),
        "growth": round(medians["runs"] / medians["a tenth"], 2),
    }


def limits(report: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Return what is compared: name, figure found, and the most it may be."""
    seconds = report["milliseconds"]["runs in two parts"] / 1000
    return [
        ("pricing 100,000 runs in two parts, in seconds", seconds, MOST_SECONDS),
        ("pricing to a plain loop with fractions", report["ratio"], 0.5),
        ("pricing ten times the runs", report["growth"], MOST_GROWTH),
    ]


def runs(draw: random.Random) -> list[Run]:
    """Return runs of two months, most of them short."""
    found = []
    for _ in range(RUNS):
        start = START + draw.randrange(60 * DAY)
        use = Use(
            {draw.choice(("h100", "a100")): draw.randrange(1, 9)},
            cpus=draw.randrange(1, 65),
            memory_mb=draw.randrange(1000, 500_000),
            partition=draw.choice(("gpu", "old")),
            qos=draw.choice(("normal", "low")),
        )
        found.append((use, start, start + int(draw.expovariate(1 / 7200))))
    return found


def plain(use: Use, start: int, end: int) -> int:
    """Return what a run costs in micro-units: hour by hour, as one would write it first."""
    zone = ZoneInfo(DEAR.timezone)
    total = Fraction(0)
    while start < end:
        until = min(end, start - start % HOUR + HOUR)
        wall = datetime.fromtimestamp(start, zone)
        second = wall.hour * HOUR
        factor = Fraction(1)
        for band in DEAR.bands:
            day, before = wall.weekday() in band.days, (wall.weekday() - 1) % 7 in band.days
            over = band.end <= band.start
            if (day and second >= band.start and (over or second < band.end)) or (
                over and before and second < band.end
            ):
                factor = Fraction(band.factor, MICRO)
                break
        rate = Fraction(use.cpus * DEAR.cpu) + Fraction(use.memory_mb * DEAR.memory_gib, 1024)
        rate += sum(count * DEAR.gpus[kind] for kind, count in use.gpus.items())
        rate *= Fraction(DEAR.qos.get(use.qos, MICRO), MICRO)
        rate *= Fraction(DEAR.partitions.get(use.partition, MICRO), MICRO)
        total += rate * factor * Fraction(until - start, HOUR)
        start = until
    return math.ceil(total)


if __name__ == "__main__":
    main()
