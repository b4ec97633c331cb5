"""``gpu-policy``: a group whose commands are imported when they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from slurm_gpu_policy import __version__
from slurm_gpu_policy.apps.policy.lazy import LazyGroup
from slurm_gpu_policy.terminal.border import run_app

if TYPE_CHECKING:
    from collections.abc import Mapping

# command -> its line in the help; the module of the same name has it as `command`
COMMANDS: Mapping[str, str] = {
    "queue": "Show the queue: who runs where, and why others wait.",
    "explain": "Say all about one job: why it waits, where it runs, how it ended.",
    "priority": "Show what each waiting job's priority is made of.",
    "fairshare": "Show the account tree: shares, usage, who is over and who is under.",
    "watch": "Follow jobs until they end.",
    "approvals": "Show what waits for an approval.",
    "approve": "Let a job go that waits for an approval.",
    "deny": "Refuse a job that waits for an approval.",
    "set-priority": "Give a job a priority class (operators).",
    "budget": "Show budgets and what is left of them; statements, grants, refunds.",
    "ledger": "Check the books against themselves and Slurm's accounting (operators).",
    "optimize": "Show in what ways a job could run: the cheapest, the soonest.",
    "status": "Say how the controller is.",
    "audit": "Show who did what to which job, and by which rule.",
    "notify": "Try whether notices to people arrive (operators).",
    "check": "Say whether the site's policy file is right.",
    "plan": "Show what Slurm would get from the policy file.",
    "apply": "Make Slurm what the policy file wants.",
    "init": "Write a starting policy file from what the cluster has.",
    "doctor": "Find out what is wrong between this program and Slurm.",
    "templates": "List the script templates and their parameters.",
    "workloads": "List the workload classes and what they choose.",
    "version": "Print the version.",
}


@click.group(
    cls=LazyGroup,
    lines=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="gpu-policy", message="%(prog)s %(version)s")
def cli() -> None:
    """Who goes first on the GPUs, what it costs, where it fits, and why.

    Exit codes: 0 done; 1 Slurm refused, or knows no such job; 2 wrong use; 4 Slurm cannot be
    reached; 5 the policy file is wrong.
    """


def main() -> int:
    """Entry point of the console script."""
    return run_app(cli, "gpu-policy")
