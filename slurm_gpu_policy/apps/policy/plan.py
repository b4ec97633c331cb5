"""``gpu-policy plan``: what ``gpu-policy apply`` would change in Slurm."""

from __future__ import annotations

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.apps.policy.plan_report import draft_json, refuse_problems, show_draft
from slurm_gpu_policy.terminal.border import DONE, SLURM_REFUSED
from slurm_gpu_policy.terminal.text import print_json


@click.command("plan")
@click.option("--check", is_flag=True, help="End with 1 if anything would change.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object (see docs/cli.md).")
def command(*, check: bool, as_json: bool) -> int:
    """Show what Slurm would get from the policy file: accounts, users, QOS, limits, Lua files.

    Nothing is changed. What the policy file does not name stays as it is, and what others made
    in Slurm is not touched. With `--check` it ends with 1 where anything differs (drift).

    `--json` prints an object: `cluster`; `changes`, a list in the order of the steps, each with
    `verb` (`create`, `set`, `remove`), `kind` (`account`, `user`, `coordinator`, `qos`,
    `record`), `name` (list: the account, then the user), `fields` (list of `field`, `before`,
    `after`; texts, times in seconds, "" where it is new) and `words`; `files`, a list of `path`,
    `exists` and `diff` (a unified one); and `remarks`, a list of sentences.
    """
    policy = bootstrap.load_policy()
    planning = bootstrap.make_planning(policy, bootstrap.connect(policy))
    draft = planning.draft()
    refuse_problems(draft)
    if as_json:
        print_json(draft_json(draft))
    else:
        show_draft(draft)
    return SLURM_REFUSED if check and not draft.is_empty else DONE
