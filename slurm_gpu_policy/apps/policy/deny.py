"""``gpu-policy deny``: an approver's word on a job that waits for an approval."""

from __future__ import annotations

import click

from slurm_gpu_policy.apps.policy.verdict import cast_vote


@click.command("deny")
@click.argument("job", metavar="JOB")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it goes into the audit log.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object (see docs/cli.md).")
def command(*, job: str, reason: str, as_json: bool) -> None:
    """Deny a job that waits for an approval: one denial outweighs all approvals (rule V-904).

    The job is cancelled, or stays held where the site chose `on_denial: keep`; then the same
    approver can still approve it.

    `--json` prints the same object as `gpu-policy approve --json`.
    """
    cast_vote("deny", job, reason, as_json=as_json)
