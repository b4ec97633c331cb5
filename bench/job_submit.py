"""Measure what job_submit.lua costs a submission: two clusters, with the plugin and without.

    bench/job_submit.py [--kind native|pyslurm] [--rounds 300]

Needs root, and no cluster: it raises two of its own. Each round submits one job to each by sbatch,
as an ordinary user, the order changing; the table has 2,000 accounts, as has that of what they have
left, and every rule is in force.
What is compared is whole sbatch processes; what slurmctld itself spends on a submission is its own
figure (sdiag). Exits with 1 where the ratio is above its limit.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

MOST = 1.05
USER = "u1"
# The policy has nothing to say about this job, after looking at all of it. The first rounds start
# the programs and read the table; they do not count.
LOOP = """
import json, os, subprocess, sys, time
rounds, confs = int(sys.argv[1]), sys.argv[2:]
job = ["sbatch", "-H", "-t1", "--gres=gpu:h100:1", "-o", "/dev/null", "--wrap=true"]
times = {conf: [] for conf in confs}
for number in range(-5, rounds):
    for conf in confs if number % 2 else reversed(confs):
        env = {**os.environ, "SLURM_CONF": conf}
        start = time.perf_counter()
        subprocess.run(job, env=env, check=True, capture_output=True)
        if number >= 0:
            times[conf].append(time.perf_counter() - start)
print(json.dumps(list(times.values())))
"""
POLICY: dict[str, Any] = {
    "enforcement": "enforce",
    "gpu_types": {"h100": {"price_per_hour": "2.50"}},
    "limits": {
        "everyone": {"gpus_per_job": 8, "gpus": 16, "time": "7d"},
        "users": {f"user{number}": {"gpus_per_job": 4} for number in range(2000)},
        "accounts": {f"account{number}": {"gpus_per_job": 8} for number in range(2000)},
    },
    "approvals": {
        "thresholds": [{"gpus": 64}, {"cost": "1000"}],
        "approvers": {"groups": ["board"]},
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", default="native", choices=["native", "pyslurm"])
    parser.add_argument("--rounds", type=int, default=300)
    options = parser.parse_args()
    report = measure(options.rounds, options.kind)
    print(json.dumps(report, indent=2))
    sys.exit("; ".join(f"{name} is {ratio}, above {most}"
                       for name, ratio, most in limits(report) if ratio > most) or 0)  # fmt: skip


def limits(report: dict[str, Any] | None) -> list[tuple[str, float, float]]:
    """Return what is compared: name, ratio found, and the most it may be; nothing without it."""
    return (
        []
        if report is None
        else [("sbatch with job_submit.lua to sbatch without", report["ratio"], MOST)]
    )


def measure(rounds: int = 300, kind: str = "native") -> dict[str, Any]:
    """Return medians in milliseconds of one sbatch, and by how much the plugin makes it longer."""
    # Not at the top: bench/run.py is also started where the tests' packages are not installed.
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from slurm_gpu_policy.adapters.clock import SystemClock  # noqa: PLC0415
    from slurm_gpu_policy.model.ledger import Fund, FundView, LedgerState  # noqa: PLC0415
    from slurm_gpu_policy.policy.ledger.budget_table import budget_table  # noqa: PLC0415
    from slurm_gpu_policy.policy.limits_table import table_text  # noqa: PLC0415
    from tests.builders import make_association, make_policy, make_snapshot  # noqa: PLC0415
    from tests.clusters import CHROOT_PYTHON, ROOT, PrivateCluster  # noqa: PLC0415

    tree = [make_association("root", "", parent="")]
    tree += [make_association(f"account{number}", "", parent="root") for number in range(2000)]
    snapshot = make_snapshot(associations=tuple(tree), time=SystemClock().now())
    names = [one.account for one in tree]
    views = tuple(
        FundView(Fund("b", name, unit="gpu_seconds", available=10**9, fund_id=number), 0, 0, 0)
        for number, name in enumerate((*names, "nlp", "nlp-finetune"))
    )
    state = LedgerState(snapshot.time, views=views, parents=dict.fromkeys(names, "root"))
    # Of a setting that stands twice Slurm takes the later one: `defaults` does next to nothing.
    settings = ["JobSubmitPlugins=defaults"]
    with (
        PrivateCluster("benchlua", kind=kind) as ours,
        PrivateCluster("benchnone", kind=kind, settings=settings) as bare,
    ):
        left = ours.state / "budgets.lua"
        policy = make_policy(**POLICY, ledger={"table": str(left), "keep": "true"})
        text = table_text(policy, snapshot)
        ours.limits.write_text(text)
        left.write_text(budget_table(snapshot, policy, state))
        clusters = {"job_submit.lua": ours, "no plugin": bare}
        python = [f"{ROOT}/.venv/bin/python"] if kind == "native" else [*CHROOT_PYTHON]
        said = ours.run(
            *(*python, "-c", LOOP, str(rounds), *(one.conf for one in clusters.values())),
            user=USER,
            cwd="/",
            timeout=600,
        )
        times = dict(zip(clusters, json.loads(said.stdout), strict=True))
        inside = {name: _microseconds(cluster) for name, cluster in clusters.items()}
    medians = {name: statistics.median(values) for name, values in times.items()}
    # Of neighbours in time, which whatever else the machine does meets alike.
    pairs = zip(times["job_submit.lua"], times["no plugin"], strict=True)
    more = statistics.median(with_it - without for with_it, without in pairs)
    return {
        "kind": kind,
        "rounds": rounds,
        "table_bytes": len(text),
        "sbatch_ms": {name: round(value * 1000, 3) for name, value in medians.items()},
        "more_ms": round(more * 1000, 3),
        "ratio": round(1 + more / medians["no plugin"], 3),
        "slurmctld_us": inside,
    }


def _microseconds(cluster: Any) -> int:
    """Return what slurmctld spent on an average submission."""
    text = cluster.run("sdiag").stdout
    found = re.search(r"REQUEST_SUBMIT_BATCH_JOB\s.*ave_time:(\d+)", text)
    return int(found[1]) if found else -1


if __name__ == "__main__":
    main()
