"""``gpu-policy notify``: try the ways in which people are told."""

from __future__ import annotations

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.adapters.clock import SystemClock
from slurm_gpu_policy.adapters.notify.way import send_now
from slurm_gpu_policy.bootstrap import service
from slurm_gpu_policy.errors import NotifyFailed
from slurm_gpu_policy.model.notice import Notice
from slurm_gpu_policy.policy.rules import BUDGET_WARNING
from slurm_gpu_policy.terminal.border import DONE, UNREACHABLE
from slurm_gpu_policy.terminal.text import complain, print_json, safe, say

_PROGRAM = "gpu-policy"


@click.command("notify")
@click.option("--test", "user", required=True, metavar="USER", help="Send this user a test.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list (see docs/cli.md).")
def command(*, user: str, as_json: bool) -> int:
    """Send a test notice by all ways that the policy file sets up, and say what became of it.

    It is sent from here, by the policy file's `notify`, without `gpu-policyd`; run it as the
    controller's user, who can read the files named there. `to_operators` get it too. Ends with 4
    where any way failed, or none is set up.

    `--json` prints a list of objects: `way` (`mail` or `webhook`), `address` ("" for a webhook),
    `sent` (boolean) and `message` (why not; "" where it was sent).
    """
    now = SystemClock().now()
    notice = Notice(
        to=(user,),
        subject=f"A test for {user}",
        text="Somebody tries whether notices arrive. This one has: there is nothing to do.",
        rule=BUDGET_WARNING,
        severity="critical",
        key=f"test:{user}:{now}",
        time=now,
    )
    rows = [
        {"way": way.name, "address": address, "sent": not failure, "message": str(failure or "")}
        for way in service.make_ways(bootstrap.load_policy())
        for address, failure in send_now(way, notice)
    ]
    if not rows:
        msg = "the policy file sets up no way to tell people: notify.mail or notify.webhook"
        raise NotifyFailed(msg)
    if as_json:
        print_json(rows)
    for row in rows:
        name = " to ".join(filter(None, (str(row["way"]), safe(str(row["address"])))))
        if not row["sent"]:
            complain(_PROGRAM, f"{name}: {row['message']}")
        elif not as_json:
            say(f"{name}: sent")
    return DONE if all(row["sent"] for row in rows) else UNREACHABLE
