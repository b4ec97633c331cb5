"""``gpu-policy optimize``: the ways to run a job, by cost and by start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.apps.submit.main import PREFIX, SubmitCommand, read_request
from slurm_gpu_policy.apps.submit.options import REQUEST_OPTIONS, click_options
from slurm_gpu_policy.services.optimize import Optimize
from slurm_gpu_policy.terminal.table import Column, print_table
from slurm_gpu_policy.terminal.text import NOTHING, iso, note, print_json, say, when
from slurm_gpu_policy.units import format_money

if TYPE_CHECKING:
    from slurm_gpu_policy.policy.prices.optimizing import Choice
    from slurm_gpu_policy.services.optimize import Options

_COLUMNS = (
    Column("", style="bold"),
    Column("GPUS", right=True),
    Column("TYPE"),
    Column("PARTITION"),
    Column("START"),
    Column("COST", right=True),
    Column("OPTIONS", rank=1),
)

_HELP = """Show in what ways a job could run, the cheapest first: its cost, and when it starts.

It takes gpu-submit's options for a job, and queues nothing. Tried are the GPU types and partitions
the job may use (those it names, if it names any), each now and, where hours differ in price
(rule C-404), at the cheapest start within a week; with --min-gpus also fewer GPUs, for the same
time. Starts are Slurm's own estimate (sbatch --test-only); the cost is that of the whole time
limit from there on. OPTIONS is what to give to gpu-submit for it.

`--json` prints an object: `options`, a list of objects, the cheapest first, of `cheapest` and
`soonest` (bool), `decision` (`admit` or `hold`), `gpus`, `gpu_type`, `partition`, `account`, `qos`,
`nodes`, `time_limit_seconds`, `array_tasks`, `estimated_start` (ISO-8601, or null where Slurm
cannot say), `begin` (ISO-8601; null where it need not wait), `estimated_cost` (null without a
price; `amount` as text and `currency`), `arguments` (a list of options for gpu-submit) and
`reasons` (as gpu-submit has them); and `left_out`, how many more there were.

Exit code 3: the site's policy refuses the job in every way.
"""


def _run(words: tuple[str, ...], **params: Any) -> None:
    ctx = click.get_current_context()
    if not words:  # only what it holds matters
        ctx.params["words"], ctx.meta["command"] = ("true",), True
    policy = bootstrap.load_policy()
    slurm = bootstrap.connect(policy)
    planned = read_request(ctx, policy)
    use = Optimize(
        submit=bootstrap.make_submit(policy, slurm, on_wait=lambda text: note("gpu-policy", text)),
        slurm=slurm,
        policy=policy,
    )
    found = use.options(planned.request, least_gpus=params["min_gpus"])
    if params["as_json"]:
        print_json(
            {
                "options": [_as_json(one, found) for one in found.choices],
                "left_out": found.left_out,
            }
        )
        return
    print_table(_COLUMNS, [_row(one, found, policy.currency) for one in found.choices])
    if found.left_out:
        say(f"{found.left_out} more were left out: name a GPU type or a partition")


def _row(one: Choice, found: Options, currency: str) -> tuple[str, ...]:
    decision = one.decision
    marks = ("cheapest", one is found.cheapest), ("soonest", one is found.soonest)
    start = "after approval" if decision.kind == "hold" else when(one.start)
    return (
        ", ".join(mark for mark, has in marks if has),
        str(decision.gpus),
        decision.gpu_type or NOTHING,
        decision.partition,
        start,
        NOTHING if one.micros is None else f"{format_money(one.micros)} {currency}",
        " ".join(_arguments(one)),
    )


def _arguments(one: Choice) -> list[str]:
    """Return what gpu-submit is to be given for this choice, beside the rest of the job."""
    decision, request = one.decision, one.request
    found = [f"--gpu-type={decision.gpu_type}"] if decision.gpu_type else []
    if request.gpus:
        found.append(f"--gpus={request.gpus}")
    found.append(f"--partition={decision.partition}")
    if one.begin is not None:
        found += [f"--{name}={value}" for name, value in request.options if name == "begin"]
    return found


def _as_json(one: Choice, found: Options) -> dict[str, Any]:
    decision = one.decision
    return {
        "cheapest": one is found.cheapest,
        "soonest": one is found.soonest,
        "decision": decision.kind,
        "gpus": decision.gpus,
        "gpu_type": decision.gpu_type,
        "partition": decision.partition,
        "account": decision.account,
        "qos": decision.qos,
        "nodes": decision.nodes,
        "time_limit_seconds": decision.time_seconds,
        "array_tasks": decision.tasks,
        "estimated_start": iso(one.start),
        "begin": iso(one.begin),
        "estimated_cost": None
        if one.micros is None
        else {"amount": format_money(one.micros), "currency": decision.currency},
        "arguments": _arguments(one),
        "reasons": [
            {
                "rule": reason.rule,
                "message": reason.message,
                "value": reason.value,
                "limit": reason.limit,
                "remedy": reason.remedy,
            }
            for reason in decision.reasons
        ],
    }


command = SubmitCommand(
    "optimize",
    callback=_run,
    params=[
        *click_options(REQUEST_OPTIONS),
        click.Option(
            ["--min-gpus"],
            type=click.IntRange(min=1),
            metavar="N",
            help="Also try fewer GPUs, down to N.",
        ),
        click.Option(["--json", "as_json"], is_flag=True, help="Print JSON (see docs/cli.md)."),
        click.Argument(
            ["words"], nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND [ARGS] | SCRIPT]"
        ),
    ],
    help=_HELP,
    context_settings={"allow_interspersed_args": False, "auto_envvar_prefix": PREFIX},
)
