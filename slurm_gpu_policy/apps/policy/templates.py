"""``gpu-policy templates``: the script templates that gpu-submit can fill."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.errors import RenderError
from slurm_gpu_policy.terminal.text import note, print_json, safe, say

if TYPE_CHECKING:
    from slurm_gpu_policy.adapters.rendering.templates import Param, Template


@click.command("templates")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list (see docs/cli.md).")
def command(*, as_json: bool) -> None:
    """List the script templates: the site's own, and the built-in ones.

    One that cannot be used is named on standard error.

    `--json` prints a list of objects: `name`, `summary`, `origin` (`built-in` or a path),
    `command` (`required`, `optional` or `none`), `interactive`, and `params`, a list of `name`,
    `kind`, `default` (null: must be given) and `description`.
    """
    renderer = bootstrap.make_renderer(bootstrap.load_policy())
    templates: list[Template] = []
    for name in renderer.template_names():
        try:
            templates.append(renderer.template(name))
        except RenderError as error:  # the others are as good as before
            note("gpu-policy", f"{name} cannot be used: {error}")
    if as_json:
        print_json([_template_json(template) for template in templates])
        return
    for template in templates:
        origin = "" if template.origin == "built-in" else f" ({template.origin})"
        say(f"{template.name}{origin}: {safe(template.summary)}")
        for param in template.params:
            say(f"  {_shown(param)}")


def _shown(param: Param) -> str:
    value = "…" if param.default is None else param.default
    kind = "" if param.kind == "text" else f" ({param.kind})"
    must = " (must be given)" if param.default is None else ""
    return safe(f"--param {param.name}={value}{kind}: {param.description.strip()}{must}")


def _template_json(template: Template) -> dict[str, Any]:
    return {
        "name": template.name,
        "summary": template.summary,
        "origin": template.origin,
        "command": template.command,
        "interactive": template.interactive,
        "params": [
            {
                "name": param.name,
                "kind": param.kind,
                "default": param.default,
                "description": param.description.strip(),
            }
            for param in template.params
        ],
    }
