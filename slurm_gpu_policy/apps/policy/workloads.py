"""``gpu-policy workloads``: the workload classes of this site, and what each one chooses."""

from __future__ import annotations

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.terminal.table import Column, print_table
from slurm_gpu_policy.terminal.text import NOTHING, print_json
from slurm_gpu_policy.units import format_duration

_COLUMNS = (
    Column("CLASS"),
    Column("GPU TYPES, BEST FIRST"),
    Column("TIME", right=True),
    Column("TEMPLATE"),
    Column("ON CPUS"),
    Column("FOR", wraps=True),
)


@click.command("workloads")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list (see docs/cli.md).")
def command(*, as_json: bool) -> None:
    """List the workload classes that gpu-submit --workload takes.

    `--json` prints a list of objects: `name`, `description`, `pools` (GPU types, best first),
    `default_time_seconds` (null: the partition's), `template`, and `cpu_fallback` (whether
    `--fallback cpu` is possible).
    """
    workloads = bootstrap.load_policy().workloads
    if as_json:
        print_json(
            [
                {
                    "name": name,
                    "description": one.description,
                    "pools": list(one.pools),
                    "default_time_seconds": one.default_time,
                    "template": one.template,
                    "cpu_fallback": one.cpu_fallback.allowed,
                }
                for name, one in workloads.items()
            ]
        )
        return
    print_table(
        _COLUMNS,
        [
            (
                name,
                " ".join(one.pools),
                format_duration(one.default_time) if one.default_time else NOTHING,
                one.template,
                "yes" if one.cpu_fallback.allowed else "no",
                one.description,
            )
            for name, one in workloads.items()
        ],
    )
