"""``gpu-policy approve``: an approver's word on a job that waits for an approval."""

from __future__ import annotations

import click

from slurm_gpu_policy.apps.policy.verdict import cast_vote


@click.command("approve")
@click.argument("job", metavar="JOB")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it goes into the audit log.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object (see docs/cli.md).")
def command(*, job: str, reason: str, as_json: bool) -> None:
    """Approve a job that is held because it is above a threshold of the site (rule V-901).

    Only approvers may, and nobody their own job. An array is approved as a whole. The last
    approval that it takes lets the job go at once. Of two words of one approver the later counts.

    `--json` prints an object: `job_id`, `state` (`pending`, `approved`, `denied` or `expired`),
    `approvals`, `approvals_needed`, `asks_for` (in words) and `level` (enforcement of V-901; other
    than under `enforce`, nothing was held and nothing is done).
    """
    cast_vote("approve", job, reason, as_json=as_json)
