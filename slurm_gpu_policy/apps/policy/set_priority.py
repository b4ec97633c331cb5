"""``gpu-policy set-priority``: an operator's class for one job."""

from __future__ import annotations

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.policy.classes import CLASSES, NO_CLASS
from slurm_gpu_policy.terminal.text import print_json, say


@click.command("set-priority")
@click.argument("job", metavar="JOB")
@click.argument("name", metavar="CLASS", type=click.Choice((*CLASSES, NO_CLASS)))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object (see docs/cli.md).")
def command(*, job: str, name: str, as_json: bool) -> None:
    """Give a job the priority class critical, high, normal or low; none takes it away (V-908).

    For operators. The class is marked on the job at once; its place in the queue follows with
    the controller's next tick.

    `--json` prints an object: `job_id` and `class` (null where it was taken away).
    """
    policy = bootstrap.load_policy()
    asked = {"request": "set_priority", "job": job, "class": name}
    answer = bootstrap.ask_controller(policy, asked)
    if as_json:
        print_json(answer)
    else:
        what = f"has the priority class {answer['class']}" if answer["class"] else "has no class"
        say(f"job {answer['job_id']} {what}")
