"""``gpu-policyd``: options, and which way it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from slurm_gpu_policy import __version__, bootstrap
from slurm_gpu_policy.adapters.clock import SystemClock
from slurm_gpu_policy.apps.controller import once
from slurm_gpu_policy.apps.controller.daemon import Daemon
from slurm_gpu_policy.apps.controller.surface import Surface
from slurm_gpu_policy.bootstrap import service
from slurm_gpu_policy.terminal.border import DONE, run_app

if TYPE_CHECKING:
    from slurm_gpu_policy.config.schema import Policy

PROGRAM = "gpu-policyd"


@click.command(
    PROGRAM,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
@click.option("--config", "path", metavar="FILE", help="The policy file, instead of the site's.")
@click.option("--once", "is_once", is_flag=True, help="Do one tick and end.")
@click.option(
    "-n",
    "--dry-run",
    is_flag=True,
    help="Print what a tick would do now, change and write nothing, and end.",
)
@click.option("--json", "as_json", is_flag=True, help="With --once or --dry-run: print JSON.")
@click.option(
    "--tick",
    "tick_seconds",
    type=click.FloatRange(min=0.05),
    metavar="SECONDS",
    help="Time from one tick to the next, instead of the policy file's.",
)
@click.option("-v", "--verbose", is_flag=True, help="Log each tick, also one that did nothing.")
def cli(
    *,
    path: str | None,
    is_once: bool,
    dry_run: bool,
    as_json: bool,
    tick_seconds: float | None,
    verbose: bool,
) -> int:
    """Steer the queue: once a tick read Slurm, decide by the site's policy, change what differs.

    Runs in the foreground until SIGTERM; SIGHUP reads the policy file again, and a wrong one
    leaves the last good one in force. Of several controllers with the same database one leads
    and the others stand by. Only rules whose level is `enforce` change anything.

    `--json` prints an object: `time` (ISO-8601), `leading` and `dry_run` (booleans),
    `duration_seconds`, `slurm_calls` and `pending_jobs` (numbers; null where not known), `errors`
    (list of texts), and `actions`, a list of objects: `job_id` (int), `display_id`, `user`,
    `rule`, `level`, `verb`, `before`, `after`, `reason`, `outcome` (`done`, `refused`, `failed`,
    `unknown`, `skipped`; with `--dry-run` `wanted` for what a tick would do) and `words`.

    Exit codes: 0 done; 1 Slurm answered what nobody can read; 2 wrong use; 4 with `--once` or
    `--dry-run`: Slurm or the database cannot be reached; 5 the policy file is wrong.
    """
    if as_json and not (is_once or dry_run):
        msg = "--json goes with --once or --dry-run"
        raise click.UsageError(msg)
    service.need_controller_extra()
    policy = bootstrap.load_policy(path)
    if dry_run:
        return once.preview(service.make_controller(policy), as_json=as_json)
    if is_once:
        controller = service.make_controller(policy, tick_seconds=tick_seconds)
        return once.tick(controller, SystemClock(), as_json=as_json)
    logger = service.make_logger(verbose=verbose)
    metrics = service.make_metrics()
    observers = (
        service.make_log_observer(logger),
        metrics,
        service.make_ledger_metrics(metrics),
    )
    notifier = service.make_notifier(policy, logger, observers)
    controller = service.make_controller(policy, observers, tick_seconds, notifier)

    def load() -> Policy:
        return bootstrap.load_policy(path)

    surface = Surface(policy, logger, metrics, notifier)
    Daemon(controller, surface, load, SystemClock()).run()
    return DONE


def main() -> int:
    """Entry point of the console script."""
    return run_app(cli, PROGRAM)
