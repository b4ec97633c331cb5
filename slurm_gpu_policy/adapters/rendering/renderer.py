"""The renderer: a decided request becomes a script and its options."""

from __future__ import annotations

import os.path
from dataclasses import replace
from typing import TYPE_CHECKING

from slurm_gpu_policy.adapters.rendering import filling, script, sweep, templates
from slurm_gpu_policy.adapters.rendering.directives import header
from slurm_gpu_policy.adapters.rendering.options import Option, sbatch_options
from slurm_gpu_policy.adapters.rendering.quoting import Quoted, check_text
from slurm_gpu_policy.adapters.rendering.sbatch_grammar import BATCH_ONLY
from slurm_gpu_policy.errors import RenderError
from slurm_gpu_policy.model.submission import Submission

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from slurm_gpu_policy.adapters.rendering.filling import Value
    from slurm_gpu_policy.adapters.rendering.options import Asked
    from slurm_gpu_policy.adapters.rendering.templates import Template
    from slurm_gpu_policy.model.decision import Decision
    from slurm_gpu_policy.model.request import Request

DEFAULT_TEMPLATE = "batch"


class Renderer:
    """Renders with a site's templates, else with the built-in ones.

    ``folders`` hold ``NAME.sh.j2`` files; the first one that has a template wins.
    """

    def __init__(self, folders: Sequence[str] = ()) -> None:
        self.folders = tuple(folders)

    def list_templates(self) -> tuple[templates.Template, ...]:
        """Return every template there is, the site's in place of built-in ones of that name."""
        return tuple(map(self.template, self.template_names()))

    def template_names(self) -> tuple[str, ...]:
        """Return the names of all templates, also of those that cannot be used."""
        return tuple(templates.names(self.folders))

    def template(self, name: str) -> Template:
        """Return one template.

        Raises:
            RenderError: there is none of that name, or it cannot be read.
        """
        return templates.find(name, self.folders)

    def expand(self, request: Request) -> Request:
        """Return *request* with what its template adds, so that it is priced as it will run.

        Reads the parameter file of a sweep. Applying it twice changes nothing.

        Raises:
            RenderError: as :meth:`render`.
        """
        if request.script is not None:
            return request
        template = self._template(request)
        arguments = template.arguments(request.params)
        if template.array and request.array is None:
            lines = sweep.read_lines(str(arguments[template.array]))
            limit = arguments.get("max_parallel")
            limit = limit if isinstance(limit, int) else 0
            request = replace(request, array=sweep.array(len(lines), limit))
        per_node = dict(template.options).get("ntasks-per-node") or ""
        if per_node.isdecimal() and request.nodes:
            ntasks = int(per_node) * request.nodes
            if request.ntasks not in {None, ntasks}:
                msg = (
                    f"the template {template.name!r} runs {per_node} task(s) on each node, that is "
                    f"{ntasks} on {request.nodes}, and --ntasks={request.ntasks} was given: "
                    "leave out --ntasks"
                )
                raise RenderError(msg)
            request = replace(request, ntasks=ntasks)
        return request

    def render(self, request: Request, decision: Decision, token: str) -> Submission:
        """Return the script and options for an admitted request.

        Raises:
            RenderError: unknown template, a missing or unknown parameter, a broken template.
            RequestError: a value no script can carry, a script sbatch would refuse, or options
                that exclude each other.
        """
        _check(request)
        if request.script is not None:
            return self._own_script(request, decision, token)
        template = self._template(request)
        request = self.expand(request)
        _check_command(template, request)
        name = request.name or _default_name(template, request)
        asked = self._ask(
            replace(request, name=name), decision, token, template.name, template.options
        )
        values = self._values(template, request, decision, asked.options)
        text = filling.fill(template, values, self.folders)
        _check_text(template, text)
        return Submission(
            script=text,
            options=asked.options,
            token=token,
            interactive=template.interactive,
        )

    def _template(self, request: Request) -> Template:
        return templates.find(request.template or DEFAULT_TEMPLATE, self.folders)

    def _ask(
        self,
        request: Request,
        decision: Decision,
        token: str,
        template: str,
        extra: Iterable[Option] = (),
    ) -> Asked:
        return sbatch_options(request, decision, token, template=template, extra=extra)

    def _own_script(self, request: Request, decision: Decision, token: str) -> Submission:
        if request.template not in {None, DEFAULT_TEMPLATE}:
            msg = (
                f"the template {request.template!r} starts a command, and a script was given: "
                "leave out --template, or give the script as a command after --"
            )
            raise RenderError(msg)
        if request.params:
            msg = f"--param {request.params[0][0]} is for templates, and a script was given"
            raise RenderError(msg)
        text = request.script or ""
        asked = self._ask(request, decision, token, "")
        named = {name for name, _ in asked.options} | asked.replaced
        text = script.with_our_lines(
            text,
            asked.options,
            asked.replaced,
            request.environment,
            ignore_foreign="ignore-pbs" in dict((*asked.options, *request.script_options)),
        )
        return Submission(
            script=text,
            options=asked.options,
            token=token,
            script_options=tuple(
                (name, value) for name, value in request.script_options if name not in named
            ),
            script_args=request.command,
        )

    def _values(
        self,
        template: Template,
        request: Request,
        decision: Decision,
        options: Sequence[Option],
    ) -> dict[str, Value]:
        arguments = template.arguments(request.params)
        for name, value in arguments.items():
            check_text(str(value), f"the parameter {name}")
        nodes = decision.nodes if decision.nodes > 1 else request.nodes or 1
        values: dict[str, Value] = {
            "command": request.command,
            "cpus_per_task": decision.cpus or request.cpus_per_task or 1,
            "environment": Quoted(script.exports(request.environment)),
            "gpu_type": decision.gpu_type,
            "gpus": decision.gpus,
            "gpus_per_node": -(-decision.gpus // nodes),
            "header": header(options),
            "name": request.name,
            "nodes": nodes,
            "options": tuple(
                f"--{name}" if value is None else f"--{name}={value}"
                for name, value in options
                if not (template.interactive and name in BATCH_ONLY)
            ),
            **arguments,
        }
        if template.array:
            path = str(arguments[template.array])
            lines = sweep.read_lines(path)
            values["sweep_cases"] = sweep.cases(lines, path)
            values["sweep_count"] = len(lines)
        return values


def _check(request: Request) -> None:
    """Refuse what no command line can carry, wherever it stands."""
    for number, word in enumerate(request.command):
        check_text(word, f"word {number + 1} of the command")
    for name, value in request.options:
        check_text(value or "", f"the value of --{name}")
    for what, text in (("job name", request.name), ("script", request.script or "")):
        check_text(text, f"the {what}")


def _check_command(template: Template, request: Request) -> None:
    if template.command == "required" and not (request.command and request.command[0]):
        msg = f"the template {template.name!r} runs a command, and none was given: add -- COMMAND"
        raise RenderError(msg)
    if template.command == "none" and request.command:
        msg = f"the template {template.name!r} takes no command, and one was given"
        raise RenderError(msg)
    if template.interactive and request.array:
        msg = f"the template {template.name!r} is interactive and cannot run as an array"
        raise RenderError(msg)


def _default_name(template: Template, request: Request) -> str:
    if template.command == "required":
        return os.path.basename(request.command[0].rstrip("/"))[:64] or template.name  # noqa: PTH119
    return template.name


def _check_text(template: Template, text: str) -> None:
    """Refuse a rendered script that sbatch would refuse."""
    if not text.startswith("#!"):
        msg = f"{template.path}: the script must begin with an interpreter line (#!/bin/bash)"
        raise RenderError(msg)
