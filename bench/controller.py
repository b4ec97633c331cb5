"""Measure a tick of gpu-policyd with 10,000 waiting jobs: its time, and its calls to Slurm.

    bench/controller.py [--jobs 10000] [--rounds 5]

Needs root, and no cluster: it raises one of its own. "changing" are ticks that set 1,000 site
factors each (updates_per_tick), "at rest" those that find nothing to do. Exits with 1 where a
figure is above its limit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

MOST_SECONDS = 3.0
MOST_CALLS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    report = measure(options.jobs, options.rounds)
    print(json.dumps(report, indent=2))
    above = [f"{name} is {found}, above {most}" for name, found, most in limits(report)
             if found > most]  # fmt: skip
    sys.exit("; ".join(above) or 0)


def measure(jobs: int = 10_000, rounds: int = 5) -> dict:
    """Return medians of seconds and the most calls, of ticks that change and ticks at rest."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.clusters import PrivateCluster  # noqa: PLC0415 - where bench/ is run from
    from tests.e2e.daemons import Site, queue_many  # noqa: PLC0415

    with PrivateCluster("bench") as cluster, tempfile.TemporaryDirectory() as folder:
        full = ("-N2", "--gres=gpu:h100:8", "-t", "7-0", "-o", "/dev/null", "--wrap=sleep 9999")
        cluster.sbatch(*full)
        queue_many(cluster, jobs, "--gres=gpu:h100:1")
        site = Site(cluster, Path(folder), ordering={"kind": "priority"})
        changing = [site.tick() for _ in range(rounds)]
        while site.tick()["actions"]:
            pass
        at_rest = [site.tick() for _ in range(rounds)]
    return {
        "jobs": jobs,
        "changing, median seconds": _median(changing),
        "at rest, median seconds": _median(at_rest),
        "most calls": max(tick["slurm_calls"] for tick in changing + at_rest),
    }


def limits(report: dict) -> list[tuple[str, float, float]]:
    """Return what is held to a limit: name, figure found, and the most it may be."""
    return [
        ("a tick that changes 1,000 jobs (s)", report["changing, median seconds"], MOST_SECONDS),
        ("a tick at rest (s)", report["at rest, median seconds"], MOST_SECONDS),
        ("calls of a tick", report["most calls"], MOST_CALLS),
    ]


def _median(ticks: list[dict]) -> float:
    return round(statistics.median(tick["duration_seconds"] for tick in ticks), 2)


if __name__ == "__main__":
    main()
