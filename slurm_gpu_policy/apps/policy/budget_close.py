"""``gpu-policy budget close``: the end of a budget."""

from __future__ import annotations

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.apps.policy.money import say_written, write, writing_options


@click.command("close")
@click.argument("account")
@click.option("--user", metavar="USER", help="This user's own budget in it.")
@click.option("--budget", metavar="NAME", help="Which budget, where there are several.")
@writing_options
def command(
    *, account: str, user: str | None, budget: str | None, reason: str, request_id: str | None
) -> None:
    """End ACCOUNT's budget now: what is left of it expires, a debt is written off.

    Until its period ends there is an empty one in its place, so that nothing new starts; running
    jobs run on, and what they cost from now on is its debt. The next period of a budget of the
    policy file begins as any other, unless it is taken out there. For operators, and for
    coordinators below an account of theirs that has a budget itself.
    """
    policy = bootstrap.load_policy()
    asked = {
        "request": "close",
        "account": account,
        "user": user,
        "budget": budget,
        "reason": reason,
    }
    say_written(write(policy, asked, request_id), policy.currency)
