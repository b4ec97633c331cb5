"""Measure gpu-submit and the snapshot against their peers, in one run, as ratios of medians.

    bench/run.py [--adapter commands|pyslurm] [--rounds 30] [--jobs 1000] [--queue 10000]

Needs the local cluster and an empty queue. All jobs are held or to begin an hour later, so that
nothing runs beside the measurement, and are cancelled at the end. Each round measures every
contender once, in turn, so that whatever else the machine does meets all of them alike. Exits
with 1 where a ratio is above its limit.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import arithmetic
import controller
import job_submit
import pricing

import slurm_gpu_policy

LATER = "now+1hour"
LIKE_OURS = ("-b", LATER, "-t", "1", "--gres=gpu:h100:1", "-o", "/dev/null")
BIN = Path(sys.executable).parent
SUBMITIT = """
import sys, submitit
executor = submitit.SlurmExecutor(folder=sys.argv[1])
executor.update_parameters(time=1, additional_parameters={"begin": "now+1hour"})
executor.submit(print, "x")
"""
SIMPLE_SLURM = """
from simple_slurm import Slurm
Slurm(begin="now+1hour", time="1", output="/dev/null").sbatch("true")
"""
LOAD = """
import json, resource, sys, time
from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.model.snapshot import Part
slurm = bootstrap.connect(bootstrap.load_policy(sys.argv[1]))
slurm.read(Part.PARTITIONS)
times = []
for _ in range(int(sys.argv[2])):
    start = time.perf_counter()
    jobs = slurm.read(Part.JOBS).jobs
    times.append(time.perf_counter() - start)
    count = len(jobs)
    del jobs
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"times": times, "jobs": count, "peak_kib": peak}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--adapter", default="commands", choices=["commands", "pyslurm"])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--batch-rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--queue", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        bench = Bench(Path(folder), options)
        try:
            report = {
                "machine": machine(options.adapter),
                "one submission": bench.one_submission(),
                "many submissions": bench.many_submissions(),
                "snapshot": bench.snapshot(),
                "arithmetic": arithmetic.measure(),
                "pricing": pricing.measure(),
                **({n: m.measure() for n, m in with_databases(options.adapter).items()}),
                **({"job_submit": job_submit.measure()} if options.adapter == "commands" else {}),
                **({"controller": controller.measure()} if options.adapter == "commands" else {}),
            }
        finally:
            subprocess.run(["scancel", "--me"], check=False)
    print(json.dumps(report, indent=2))
    above = [f"{name} is {ratio}, above {limit}" for name, ratio, limit in ratios(report)
             if ratio > limit]  # fmt: skip
    sys.exit("; ".join(above) or 0)


def ratios(report: dict) -> list[tuple[str, float, float]]:
    """Return what is compared: name, ratio found, and the most it may be."""
    adapter = report["machine"]["adapter"]
    most = {"commands": 0.8, "pyslurm": 1.2}[adapter]
    one = report["one submission"]["gpu-submit / submitit"]
    return [
        (f"one gpu-submit to one submitit ({adapter})", one, most),
        ("gpu-submit --jobs to a loop of sbatch", report["many submissions"]["ratio"], 1.0),
        *(
            (f"snapshot of {size} to squeue", found["ratio"], 1.5)
            for size, found in report["snapshot"].items()
        ),
        *arithmetic.limits(report["arithmetic"]),
        *pricing.limits(report["pricing"]),
        *job_submit.limits(report.get("job_submit")),
        *(limit for n, m in with_databases(adapter).items() for limit in m.limits(report[n])),
        *(controller.limits(report["controller"]) if "controller" in report else ()),
    ]


def with_databases(adapter: str) -> dict:
    """The parts of the ledger, by name; pyslurm's chroot has no SQLAlchemy, which they need."""
    if adapter != "commands":
        return {}
    import ledger  # noqa: PLC0415
    import ledger_store  # noqa: PLC0415

    return {"ledger": ledger, "ledger store": ledger_store}


class Bench:
    """The three measurements; ``folder`` holds their files."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder = folder
        self.options = options
        self.policy = folder / "policy.yaml"
        self.policy.write_text(f"slurm: {{adapter: {options.adapter}}}\n")
        always = ("--policy", str(self.policy), "-H", "-t", "1", "--parsable")
        self.batch = [str(BIN / "gpu-submit"), *always]

    def one_submission(self) -> dict:
        """Whole processes, from start to exit, each submitting one job."""
        contenders = {
            "gpu-submit": [*self.batch, "--gpus", "1", "--", "true"],
            "sbatch": ["sbatch", *LIKE_OURS, "--wrap=true"],
            "simple_slurm": [sys.executable, "-c", SIMPLE_SLURM],
            "submitit": [sys.executable, "-c", SUBMITIT, str(self.folder / "submitit")],
        }  # fmt: skip
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for round_number in range(self.options.rounds + 1):
            for name, argv in contenders.items():
                seconds = timed(argv, self.folder)
                if round_number:  # the first fills caches, of us and of the others
                    times[name].append(seconds)
        result = {name: milliseconds(values) for name, values in times.items()}
        ours = statistics.median(times["gpu-submit"])
        for peer in ("sbatch", "simple_slurm", "submitit"):
            result[f"gpu-submit / {peer}"] = round(ours / statistics.median(times[peer]), 2)
        # Accounts and QOS come from slurmdbd, which is slow; their answer is kept five minutes.
        cold = [
            timed(contenders["gpu-submit"], self.folder, XDG_CACHE_HOME=str(self.folder / f"c{n}"))
            for n in range(5)
        ]
        result["gpu-submit, nothing cached"] = milliseconds(cold)
        self._clear()
        return result

    def many_submissions(self) -> dict:
        """N different jobs by one ``gpu-submit --jobs FILE``, against a shell loop of N sbatch."""
        count = self.options.jobs
        lines = [f"echo job {number}" for number in range(count)]
        path = self.folder / "jobs.txt"
        path.write_text("\n".join(lines) + "\n")
        loop = "\n".join(shlex.join(("sbatch", *LIKE_OURS, f"--wrap={line}")) for line in lines)
        script = self.folder / "loop.sh"
        script.write_text(loop)
        ours, theirs = [], []
        for _ in range(self.options.batch_rounds):
            ours.append(
                timed(
                    [*self.batch, "--jobs", str(path)],
                    self.folder,
                )
            )
            self._clear()
            theirs.append(timed(["bash", str(script)], self.folder))
            self._clear()
        return {
            "jobs": count,
            "gpu-submit --jobs, seconds": round(statistics.median(ours), 2),
            "loop of sbatch, seconds": round(statistics.median(theirs), 2),
            "ratio": round(statistics.median(ours) / statistics.median(theirs), 2),
        }

    def snapshot(self) -> dict:
        """Part.JOBS of a growing queue, against squeue printing the same fields."""
        sizes = [self.options.queue // 4, self.options.queue // 2, self.options.queue]
        result: dict = {}
        path = self.folder / "queue.txt"
        path.write_text("".join(f"echo job {number}\n" for number in range(sizes[0])))
        present = 0
        for size in sizes:
            while present < size:
                timed(
                    [*self.batch, "--jobs", str(path)],
                    self.folder,
                )
                present += sizes[0]
            result[f"{size} jobs"] = self._one_snapshot()
        return result

    def _one_snapshot(self) -> dict:
        squeue = ["squeue", "-h", "-a", "-O", same_fields()]
        theirs, ours, peak = [], [], 0
        for _ in range(3):
            theirs += [timed(squeue, self.folder) for _ in range(3)]
            done = subprocess.run(
                [sys.executable, "-c", LOAD, str(self.policy), "3"],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            found = json.loads(done.stdout)
            ours += found["times"]
            peak = max(peak, found["peak_kib"])
        return {
            "read(Part.JOBS)": milliseconds(ours),
            "squeue, same fields": milliseconds(theirs),
            "ratio": round(statistics.median(ours) / statistics.median(theirs), 2),
            "peak memory, MiB": round(peak / 1024, 1),
        }

    def _clear(self) -> None:
        subprocess.run(["scancel", "--me"], check=True)
        while subprocess.run(
            ["squeue", "-h", "--me"], capture_output=True, text=True, check=True
        ).stdout.strip():
            time.sleep(0.2)


def same_fields() -> str:
    """The fields our snapshot asks squeue for."""
    from slurm_gpu_policy.adapters.slurm.parse_jobs import draw_mark, squeue_format  # noqa: PLC0415

    return squeue_format(draw_mark())


def timed(argv: list[str], folder: Path, **env: str) -> float:
    """Seconds of wall time of a whole process; its failure is ours."""
    with (folder / "out").open("wb") as out:
        start = time.perf_counter()
        done = subprocess.run(
            argv,
            stdout=out,
            stderr=subprocess.PIPE,
            cwd=folder,
            check=False,
            env={**os.environ, **env},
        )
        seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{shlex.join(argv)[:200]} failed: {done.stderr.decode()}")
    return seconds


def milliseconds(values: list[float]) -> dict:
    ordered = sorted(values)
    return {
        "median_ms": round(statistics.median(values) * 1000, 1),
        "best_ms": round(ordered[0] * 1000, 1),
        "worst_ms": round(ordered[-1] * 1000, 1),
        "runs": len(values),
    }


def machine(adapter: str) -> dict:
    version = subprocess.run(["sbatch", "-V"], capture_output=True, text=True, check=True).stdout
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024**3
    return {
        "adapter": adapter,
        "slurm": version.strip(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "memory_gib": memory,
        "load_before": os.getloadavg()[0],
    }


if __name__ == "__main__":
    if not shutil.which("sbatch"):
        sys.exit("bench: there is no sbatch here; raise the cluster first: make cluster")
    # Everybody's modules are compiled, as those of a finished installation are.
    for place in (sysconfig.get_path("purelib"), str(Path(slurm_gpu_policy.__file__).parent)):
        compileall.compile_dir(place, quiet=2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
