"""``gpu-policy priority``: what the priorities of waiting jobs are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.errors import SlurmRefused
from slurm_gpu_policy.services.standing import of_jobs, read_priorities
from slurm_gpu_policy.terminal.table import Column, print_table
from slurm_gpu_policy.terminal.text import print_json, say
from slurm_gpu_policy.units import counted

if TYPE_CHECKING:
    from slurm_gpu_policy.services.standing import Ranked

_COLUMNS = (
    Column("JOB", style="bold"),
    Column("USER"),
    Column("PARTITION"),
    Column("QOS", rank=4),
    Column("PRIORITY", right=True, style="bold"),
    Column("FAIR SHARE", right=True),
    Column("QOS", right=True),
    Column("AGE", right=True),
    Column("SIZE", right=True, rank=2),
    Column("PARTITION", right=True, rank=3),
    Column("ACCOUNT", right=True, rank=1),
    Column("TRES", right=True),
    Column("SITE", right=True),
    Column("NICE", right=True),
)


@click.command("priority")
@click.argument("jobs", metavar="[JOB]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list (see docs/cli.md).")
def command(*, jobs: tuple[str, ...], as_json: bool) -> None:
    """Show what the priority of each waiting job, or of each JOB, is made of; the highest first.

    A job has a row for each partition (and QOS) it may start in. Held jobs, and jobs that may
    not start yet (--begin, a dependency), have no priority and no row. Each column from FAIR
    SHARE on is the points of one term; PRIORITY is their sum less NICE, as Slurm rounds it. All
    of it is computed from the jobs, the accounts' usage and Slurm's settings, as Slurm does it;
    ages are those of Slurm's last calculation where this is known (on the controller's machine,
    to root and SlurmUser), otherwise of this moment.

    `--json` prints a list of objects: `job_id` (int), `partition`, `qos`, `priority` (int),
    `terms`: an object of points `site` (int), `age`, `association`, `fair_share`, `job_size`,
    `partition`, `qos`, `nice` (int, subtracted) and `tres` (an object: TRES name to points). Of a
    priority that somebody has set by hand all terms are 0.
    """
    found = read_priorities(bootstrap.connect(bootstrap.load_policy()))
    if jobs:
        found, unknown = of_jobs(found, jobs)
        if unknown:
            msg = (
                f"job {unknown[0]} has no priority: it runs, is held, may not start yet or is "
                f"unknown; see `gpu-policy explain {unknown[0]}`"
            )
            raise SlurmRefused(msg)
    if as_json:
        print_json([ranked_json(one) for one in found])
        return
    if found:
        print_table(_COLUMNS, [_row(one) for one in found])
    number = len({one.job.job_id for one in found})
    say(f"{counted(number, 'job')} {'has' if number == 1 else 'have'} a priority")


def ranked_json(one: Ranked) -> dict[str, Any]:
    """Return the documented JSON object of one row; scripts rely on it."""
    terms = one.terms
    return {
        "job_id": one.job.job_id,
        "partition": one.partition,
        "qos": one.qos,
        "priority": one.priority,
        "terms": {
            "site": terms.site,
            "age": terms.age,
            "association": terms.association,
            "fair_share": terms.fair_share,
            "job_size": terms.job_size,
            "partition": terms.partition,
            "qos": terms.qos,
            "nice": terms.nice,
            "tres": dict(terms.tres),
        },
    }


def _row(one: Ranked) -> tuple[str, ...]:
    terms = one.terms
    points = (
        terms.fair_share,
        terms.qos,
        terms.age,
        terms.job_size,
        terms.partition,
        terms.association,
        sum(terms.tres.values()),
    )
    return (
        one.job.display_id,
        one.job.user,
        one.partition,
        one.qos,
        str(one.priority),
        *(f"{number:.1f}" for number in points),
        f"{terms.site:+d}" if terms.site else "0",
        str(-terms.nice),
    )
