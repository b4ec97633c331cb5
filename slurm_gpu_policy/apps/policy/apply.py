"""``gpu-policy apply``: make Slurm what the policy file wants."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.apps.policy.plan_report import (
    change_json,
    change_line,
    draft_json,
    file_json,
    file_line,
    refuse_problems,
    show_draft,
)
from slurm_gpu_policy.errors import RequestError
from slurm_gpu_policy.model.plan import Change
from slurm_gpu_policy.terminal.border import DONE, SLURM_REFUSED
from slurm_gpu_policy.terminal.text import note, print_json, say
from slurm_gpu_policy.units import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_gpu_policy.services.plan import Draft, Planning, Step


@click.command("apply")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object; needs --yes.")
def command(*, yes: bool, as_json: bool) -> int:
    """Make Slurm what the policy file wants: show it, ask, do it, and look whether it is so.

    For administrators of Slurm, on the machine of slurmctld. A second apply changes nothing; one
    that was interrupted is completed by the next; two at once wait for one another. What others
    made in Slurm is not touched, and only what apply made is ever removed. Without a terminal to
    ask at, `--yes` is needed. Ends with 1 where Slurm refused a step; the others are done.

    `--json` prints an object: what `gpu-policy plan --json` has, and `done` and `refused`, lists
    of steps (as in `changes` or `files`; a refused one has `reason` too), and `left`, how many
    steps a new plan still has.
    """
    if not yes and (as_json or not sys.stdin.isatty()):
        msg = "there is nobody to ask: say --yes, and look at `gpu-policy plan` before"
        raise RequestError(msg)
    policy = bootstrap.load_policy()
    waiting = "another gpu-policy apply is at work; waiting for it"
    planning = bootstrap.make_planning(
        policy, bootstrap.connect(policy), lambda: note("gpu-policy", waiting)
    )
    with planning.alone():
        draft = planning.draft()
        refuse_problems(draft)
        if not as_json:
            show_draft(draft)
        if draft.is_empty:
            if as_json:
                print_json({**draft_json(draft), "done": [], "refused": [], "left": 0})
            return DONE
        if not yes and not click.confirm("do it?"):
            say("nothing was changed")
            return DONE
        return _carry_out(planning, draft, as_json=as_json)


def _carry_out(planning: Planning, draft: Draft, *, as_json: bool) -> int:
    steps = planning.carry_out(draft, _say_nothing if as_json else _say)
    now = planning.draft()
    refused = [one for one in steps if one.refused]
    left = len(now.plan.changes) + len(now.files)
    if as_json:
        done = [_step_json(one) for one in steps if not one.refused]
        answer = {"done": done, "refused": [_step_json(one) for one in refused], "left": left}
        print_json({**draft_json(draft), **answer})
    else:
        _sum_up(draft, now, steps)
    return SLURM_REFUSED if refused or left else DONE


def _sum_up(draft: Draft, now: Draft, steps: Sequence[Step]) -> None:
    done = sum(not one.refused for one in steps)
    say(f"{counted(done, 'step')} done, {len(steps) - done} refused on cluster {draft.cluster}")
    tried = {one.step for one in steps if one.refused}
    for change in now.plan.changes:
        if change not in tried:
            say(f"! Slurm has not taken over, or somebody has changed again: {change_line(change)}")


def _line(step: Step) -> str:
    what = step.step
    return change_line(what) if isinstance(what, Change) else file_line(what)


def _say(step: Step) -> None:
    say(f"REFUSED {_line(step)}: {step.refused}" if step.refused else f"done {_line(step)}")


def _say_nothing(_step: Step) -> None:
    pass


def _step_json(step: Step) -> dict[str, Any]:
    what = step.step
    told = change_json(what) if isinstance(what, Change) else file_json(what)
    return {**told, "reason": step.refused} if step.refused else told
