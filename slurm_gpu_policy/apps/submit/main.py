"""``gpu-submit``: from a researcher's shell to a job, with reasons.

The path from here to ``sbatch`` imports only what it uses: a submission must not take longer
than the job's user notices (``make bench`` says how long it takes).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.adapters.identity import current_user
from slurm_gpu_policy.apps.submit.options import (
    REQUEST_OPTIONS,
    RUN_OPTIONS,
    click_options,
    parameter,
)
from slurm_gpu_policy.errors import RequestError
from slurm_gpu_policy.model.snapshot import TO_DECIDE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_gpu_policy.apps.submit.call import Planned
    from slurm_gpu_policy.config.schema import Policy

PREFIX = "GPU_POLICY"
_SBATCH_NAMES = {"array-inx": "array", "timelimit": "time", "mem-per-node": "mem"}
"""sbatch's variables whose names differ from the option's."""
_LEVELS = {ParameterSource.COMMANDLINE: 0, ParameterSource.ENVIRONMENT: 1}
_SBATCH_VARIABLE = 2
_SETTING = 3
"""Where options come from; the lower number counts."""
_OTHER_CLUSTERS = ("SLURM_CLUSTERS", "SBATCH_CLUSTERS")
"""Variables by which sbatch and squeue would talk to another cluster."""
_SETTINGS = {
    option.name: parameter(option) for option in (*REQUEST_OPTIONS, *RUN_OPTIONS) if option.setting
}
_LARGEST_SCRIPT = 4 * 1024 * 1024
"""Slurm's own default limit of a batch script (slurm.conf, max_script_size)."""


class SubmitCommand(click.Command):
    """Tells ``gpu-submit … -- COMMAND`` from ``gpu-submit … SCRIPT``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, and note in ``ctx.meta`` whether ``--`` stood before the words."""
        if ctx.default_map is None:
            from slurm_gpu_policy.config.loader import load_user_options  # noqa: PLC0415

            ctx.default_map = load_user_options(_SETTINGS)
        whole = list(args)
        rest = super().parse_args(ctx, args)
        words = ctx.params["words"]
        before = len(whole) - len(words) - 1
        ctx.meta["command"] = before >= 0 and whole[before] == "--"
        return rest


def _run(words: tuple[str, ...], **params: Any) -> int:
    """Carry out one call and return the exit code."""
    ctx = click.get_current_context()
    jobs_file = params["jobs"]
    if jobs_file and words:
        msg = "--jobs FILE has the commands; a command or script beside it is too much"
        raise click.UsageError(msg)
    policy = bootstrap.load_policy(params["policy"])
    slurm = bootstrap.connect(policy)
    # Slurm answers while we import and read on.
    slurm.read_ahead(*TO_DECIDE, user=current_user())
    if jobs_file:
        from slurm_gpu_policy.apps.submit.batch import read_jobs  # noqa: PLC0415

        planned = read_jobs(jobs_file, lambda args, line: _parse_line(ctx, args, line, policy))
    else:
        planned = [read_request(ctx, policy)]
    from slurm_gpu_policy.apps.submit.call import Call, say  # noqa: PLC0415 - Slurm is at work

    # A script that says --wait for itself means it; the line is left out for sbatch.
    params["wait"] = params["wait"] or any(
        name == "wait" for one in planned for name, _ in one.request.script_options
    )
    use = bootstrap.make_submit(policy, slurm, on_wait=say)
    return Call(params, policy, slurm, use).carry_out(planned)


def read_request(ctx: click.Context, policy: Policy, label: str = "") -> Planned:
    """Return the request of one parsed command line, and its contradictions with the script."""
    from slurm_gpu_policy.apps.submit.call import Planned  # noqa: PLC0415
    from slurm_gpu_policy.apps.submit.request import build_request  # noqa: PLC0415

    _refuse_other_clusters()
    words: tuple[str, ...] = ctx.params["words"]
    script: str | None = None
    script_options: tuple[tuple[str, str | None], ...] = ()
    if words and not ctx.meta["command"]:
        script, words = _read_script(words[0]), words[1:]
        from slurm_gpu_policy.adapters.rendering.directives import (  # noqa: PLC0415
            parse_directives,
        )

        script_options = tuple((item.name, item.value) for item in parse_directives(script))
    elif not words and not _given(ctx, "template") and not _given(ctx, "workload"):
        msg = "what shall run? Give -- COMMAND, or a script file (see gpu-submit --help)"
        raise click.UsageError(msg)
    values, soft = _option_values(ctx, {name for name, _ in script_options})
    request, notes = build_request(
        values,
        many={one.name: ctx.params[parameter(one)] for one in REQUEST_OPTIONS if one.many},
        words=words,
        script=script,
        script_options=script_options,
        user=current_user(),
        policy=policy,
        soft=soft,
    )
    return Planned(request, notes, label)


def _option_values(ctx: click.Context, spoken: set[str]) -> tuple[dict[str, str], frozenset[str]]:
    """Return the values of options by long name, and the names of those that nobody typed.

    *spoken* are the options of the user's script, which knows better than a settings file.
    """
    from slurm_gpu_policy.apps.submit.request import replaces  # noqa: PLC0415

    levels: dict[int, dict[str, str]] = {level: {} for level in range(4)}
    for option in REQUEST_OPTIONS:
        value = ctx.params[parameter(option)]
        if option.many or value is None or value is False:
            continue
        if value == "":
            msg = f"--{option.name} has an empty value: leave it out"
            raise RequestError(msg)
        source = ctx.get_parameter_source(parameter(option))
        level = _LEVELS.get(source, _SETTING) if source else _SETTING
        levels[level][option.name] = "" if value is True else value
    levels[_SBATCH_VARIABLE] = dict(_sbatch_environment())
    values: dict[str, str] = {}
    for level, found in levels.items():
        # What says the same in another form yields too: --mem to a typed --mem-per-gpu.
        above = set(values) | (spoken if level == _SETTING else set())
        values |= {n: v for n, v in found.items() if not replaces(n, v) & above}
    return values, frozenset(values.keys() - levels[0].keys())


def _sbatch_environment() -> Iterator[tuple[str, str]]:
    """Yield the options that sbatch would take from its own variables (sbatch(1)).

    They count below ours and above the script, as with sbatch, and a decision must know them.
    """
    names = {option.name for option in REQUEST_OPTIONS if not option.flag and not option.many}
    for variable, value in os.environ.items():
        if variable.startswith("SBATCH_"):
            word = variable.removeprefix("SBATCH_").lower().replace("_", "-")
            name = _SBATCH_NAMES.get(word, word)
            if name in names or name == "exclusive":
                yield name, value


def _refuse_other_clusters() -> None:
    """Refuse to decide for this cluster what sbatch would send to another."""
    for name in _OTHER_CLUSTERS:
        if os.environ.get(name):
            msg = (
                f"{name}={os.environ[name]} sends jobs to another cluster, and gpu-submit decides "
                "for this one: unset it, or submit there"
            )
            raise RequestError(msg)


def _given(ctx: click.Context, name: str) -> bool:
    return bool(ctx.params[name])


def _parse_line(parent: click.Context, args: list[str], line: int, policy: Policy) -> Planned:
    """Parse one line of a jobs file; options of the command line are its defaults."""
    defaults = {
        parameter(option): parent.params[parameter(option)]
        for option in REQUEST_OPTIONS
        if parent.params[parameter(option)] not in {None, False, ()}
    }
    if not args[0].startswith("-"):
        args = ["--", *args]  # a command as it is, whatever `--` it has itself
    elif "--" not in args:
        msg = "it begins with an option, so its command must stand behind `--`"
        raise RequestError(msg)
    # The environment has had its say: it is in the defaults, below the command line.
    context = cli.make_context(
        "gpu-submit", args, parent=parent, default_map=defaults, auto_envvar_prefix=None
    )
    for option in RUN_OPTIONS:
        source = context.get_parameter_source(parameter(option))
        if source is ParameterSource.COMMANDLINE:
            msg = f"--{option.name} is for the command line, not for a line of the jobs file"
            raise RequestError(msg)
    with context:
        return read_request(context, policy, f"line {line}")


def _read_script(path: str) -> str:
    """Return a script's text, bytes that are no UTF-8 kept as surrogates; ``-`` is stdin."""
    if path == "-":
        data = sys.stdin.buffer.read(_LARGEST_SCRIPT + 1)
    else:
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs 4 ms
                data = file.read(_LARGEST_SCRIPT + 1)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            msg = f"the script {path!r} cannot be read: {why} (a command goes behind `--`)"
            raise RequestError(msg) from error
    if len(data) > _LARGEST_SCRIPT:
        msg = f"the script {path!r} is larger than the 4 MiB that Slurm takes"
        raise RequestError(msg)
    return data.decode("utf-8", "surrogateescape")


_HELP = """Submit a GPU job: a COMMAND behind --, or a SCRIPT of your own.

Without --gpus a command gets the site's default number of GPUs (1); a script gets what its own
#SBATCH lines say. They are kept; an option that contradicts one replaces it and is named.

`--json` prints one object for each job: `job_id` (null if there is none), `decision` (`admit`,
`hold` or `refuse`), `reasons` (a list of `rule`, `message`, `value`, `limit`, `remedy`), `gpus` (of
one array task), `gpu_type`, `partition`, `account`, `qos`, `nodes`, `time_limit_seconds`,
`array_tasks`, `estimated_cost` (`amount` as text and `currency`; 0.00 without a price) and
`estimated_start` (ISO-8601, or null where Slurm cannot say).

Exit codes: 0 done; 1 Slurm refused it; 2 wrong use; 3 the site's policy refused it; 4 Slurm cannot
be reached; 5 the policy file is wrong. --wait ends with the job's own code.
"""

cli = SubmitCommand(
    "gpu-submit",
    callback=_run,
    params=[
        *click_options(REQUEST_OPTIONS),
        *click_options(RUN_OPTIONS),
        click.Argument(
            ["words"], nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND [ARGS] | SCRIPT [ARGS]"
        ),
    ],
    help=_HELP,
    epilog="Every option but --jobs and --policy can be set in "
    "~/.config/slurm-gpu-policy/submit.yaml (gpu-type: h100) "
    "or in the environment (GPU_POLICY_GPU_TYPE=h100).",
    context_settings={
        "allow_interspersed_args": False,
        "auto_envvar_prefix": PREFIX,
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
