"""``gpu-submit``: from a researcher's shell to a job, with reasons.

The path from here to ``sbatch`` imports only what it uses: a submission must not take longer
than the job's user notices (``make bench`` says how long it takes).
"""

from __future__ import annotations

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
from slurm_gpu_policy.errors import Refused, RequestError
from slurm_gpu_policy.model.snapshot import TO_DECIDE
from slurm_gpu_policy.terminal.border import POLICY_REFUSED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.decision import Decision, Reason
    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.request import Request
    from slurm_gpu_policy.model.submission import Submission
    from slurm_gpu_policy.services.ports import SlurmPort
    from slurm_gpu_policy.services.submit import Submit

PREFIX = "GPU_POLICY"
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

        planned = read_jobs(jobs_file, lambda args: _parse_line(ctx, args, policy))
    else:
        planned = [_request(ctx, policy)]
    use = bootstrap.make_submit(policy, slurm, on_wait=_say)
    return Call(params, policy, slurm, use).carry_out(planned)


class Call:
    """One run of the program, once its requests are known."""

    def __init__(
        self, params: dict[str, Any], policy: Policy, slurm: SlurmPort, use: Submit
    ) -> None:
        self._params = params
        self._policy = policy
        self._slurm = slurm
        self._use = use

    def carry_out(self, planned: Sequence[tuple[Request, tuple[Reason, ...]]]) -> int:
        """Decide all, refuse before anything is done, then submit; return the exit code."""
        requests = [self._use.expand(request) for request, _ in planned]
        decisions = self._use.decide_all(requests)
        decided = list(zip(requests, decisions, (notes for _, notes in planned), strict=True))
        if any(decision.kind == "refuse" for decision in decisions):
            return self._refuse(decisions)
        prepared = [
            (self._use.prepare(request, decision), decision, notes)
            for request, decision, notes in decided
        ]
        for _, decision, notes in prepared:
            self._advise(decision, notes)
        if self._params["dry_run"]:
            for submission, decision, _ in prepared:
                self._show_only(submission, decision)
            return 0
        if prepared[0][0].interactive:
            from slurm_gpu_policy.apps.submit.interactive import run_in_terminal  # noqa: PLC0415

            return run_in_terminal([submission for submission, _, _ in prepared])
        return self._submit([(submission, decision) for submission, decision, _ in prepared])

    def _refuse(self, decisions: Sequence[Decision]) -> int:
        """Say why, before anything is submitted; one refusal stops all."""
        refused = [decision for decision in decisions if decision.kind == "refuse"]
        if self._params["json"]:
            from slurm_gpu_policy.apps.submit.output import as_json  # noqa: PLC0415

            for decision in decisions:
                click.echo(as_json(decision, None, None))
            return POLICY_REFUSED
        if self._params["explain"]:
            for decision in refused:
                self._explain(decision, None)
            return POLICY_REFUSED
        raise Refused(refused[0])

    def _advise(self, decision: Decision, notes: tuple[Reason, ...]) -> None:
        """Say on standard error what the user should know: contradictions, limits exceeded."""
        from slurm_gpu_policy.terminal.text import safe  # noqa: PLC0415

        limits = [reason for reason in decision.reasons if reason.rule.startswith("L-")]
        for reason in (*notes, *limits):
            _say(f"{reason.rule} {safe(reason.message)}")

    def _show_only(self, submission: Submission, decision: Decision) -> None:
        if self._params["json"]:
            from slurm_gpu_policy.apps.submit.output import as_json  # noqa: PLC0415

            click.echo(as_json(decision, None, self._slurm.would_start(submission)))
            return
        if self._params["explain"]:
            self._explain(decision, self._slurm.would_start(submission), error=True)
        click.echo(submission.script.encode("utf-8", "surrogateescape"), nl=False)

    def _explain(self, decision: Decision, start: int | None, *, error: bool = False) -> None:
        from slurm_gpu_policy.apps.submit.output import explanation  # noqa: PLC0415

        for line in explanation(decision, start):
            click.echo(line, err=error)

    def _submit(self, prepared: Sequence[tuple[Submission, Decision]]) -> int:
        params = self._params
        starts = [
            self._slurm.would_start(submission) if params["json"] or params["explain"] else None
            for submission, _ in prepared
        ]
        job_ids: list[JobId] = []
        failure: Exception | None = None
        for (_, decision), start, answer in zip(
            prepared, starts, self._queue(prepared), strict=True
        ):
            if isinstance(answer, Exception):
                failure = failure or answer
                if len(prepared) > 1:
                    _say(f"not submitted: {answer}")
                continue
            job_ids.append(answer)
            self._report(answer, decision, start)
        code = self._stay(job_ids) if job_ids and (params["wait"] or params["watch"]) else 0
        if failure is not None:
            raise failure
        return code

    def _queue(
        self, prepared: Sequence[tuple[Submission, Decision]]
    ) -> Iterator[JobId | Exception]:
        if len(prepared) == 1:
            yield self._use.submit(prepared[0][0])
        else:
            yield from self._use.submit_many([submission for submission, _ in prepared])

    def _report(self, job_id: JobId, decision: Decision, start: int | None) -> None:
        if self._params["json"]:
            from slurm_gpu_policy.apps.submit.output import as_json  # noqa: PLC0415

            click.echo(as_json(decision, job_id, start))
        elif self._params["parsable"]:
            click.echo(str(job_id))
        else:
            from slurm_gpu_policy.apps.submit.output import place  # noqa: PLC0415

            if self._params["explain"]:
                self._explain(decision, start)
            click.echo(f"Submitted job {job_id}: {place(decision)}")

    def _stay(self, job_ids: Sequence[JobId]) -> int:
        from slurm_gpu_policy.terminal.watching import stay  # noqa: PLC0415

        code = stay(
            self._slurm,
            [str(job_id) for job_id in job_ids],
            show=self._params["watch"],
            follow=self._params["follow"],
        )
        return code if self._params["wait"] else 0


def _request(ctx: click.Context, policy: Policy) -> tuple[Request, tuple[Reason, ...]]:
    """Return the request of one parsed command line, and its contradictions with the script."""
    from slurm_gpu_policy.apps.submit.request import build_request  # noqa: PLC0415

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
    spoken = {name for name, _ in script_options}
    values: dict[str, str] = {}
    many: dict[str, tuple[str, ...]] = {}
    for option in REQUEST_OPTIONS:
        value = ctx.params[parameter(option)]
        if option.many:
            many[option.name] = value
            continue
        if value is None or value is False:
            continue
        source = ctx.get_parameter_source(parameter(option))
        if source is ParameterSource.DEFAULT_MAP and option.name in spoken:
            continue  # the script knows better than a settings file
        if value == "":
            msg = f"--{option.name} has an empty value: leave it out"
            raise RequestError(msg)
        values[option.name] = "" if value is True else value
    return build_request(
        values,
        many=many,
        words=words,
        script=script,
        script_options=script_options,
        user=current_user(),
        policy=policy,
    )


def _given(ctx: click.Context, name: str) -> bool:
    return bool(ctx.params[name])


def _parse_line(
    parent: click.Context, args: list[str], policy: Policy
) -> tuple[Request, tuple[Reason, ...]]:
    """Parse one line of a jobs file; options of the command line are its defaults."""
    defaults = {
        parameter(option): parent.params[parameter(option)]
        for option in REQUEST_OPTIONS
        if parent.params[parameter(option)] not in {None, False, ()}
    }
    line = args if "--" in args else ["--", *args]
    with cli.make_context("gpu-submit", line, parent=parent, default_map=defaults) as ctx:
        return _request(ctx, policy)


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


def _say(text: str) -> None:
    click.echo(f"gpu-submit: {text}", err=True)


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
    help="Submit a GPU job: a COMMAND behind --, or a SCRIPT of your own.",
    epilog="Every option can be set in ~/.config/slurm-gpu-policy/submit.yaml (gpu-type: h100) "
    "or in the environment (GPU_POLICY_GPU_TYPE=h100).",
    context_settings={
        "allow_interspersed_args": False,
        "auto_envvar_prefix": PREFIX,
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
