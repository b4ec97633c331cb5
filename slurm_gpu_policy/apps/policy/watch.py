"""``gpu-policy watch``: come back to jobs and follow them until they end."""

from __future__ import annotations

import click

from slurm_gpu_policy import bootstrap


@click.command("watch")
@click.argument("jobs", metavar="JOB…", nargs=-1, required=True)
@click.option("--follow", is_flag=True, help="Show the end of the job's output as well.")
def command(*, jobs: tuple[str, ...], follow: bool) -> int:
    """Follow jobs until they end; ends with the job's own exit code.

    Ctrl-C stops watching and leaves the jobs alone.
    """
    from slurm_gpu_policy.services.explain import parse_job_id  # noqa: PLC0415
    from slurm_gpu_policy.terminal.watching import stay  # noqa: PLC0415

    jobs = tuple(parse_job_id(job)[1] for job in jobs)
    slurm = bootstrap.connect(bootstrap.load_policy())
    return stay(slurm, jobs, show=True, follow=follow)
