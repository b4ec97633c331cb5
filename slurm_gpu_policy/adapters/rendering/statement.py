"""A statement as a page: one file, printable, that loads nothing from anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from slurm_gpu_policy.resources import folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def statement_html(statement: Mapping[str, Any], safe: Callable[[str], str]) -> str:
    """Return the page; *statement* is the object that ``--format json`` prints.

    Every value is escaped: names of accounts and users are other people's text. *safe* takes out
    of these what no reader would see, such as marks that turn the writing direction.
    """
    environment = Environment(
        loader=FileSystemLoader(folder("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["safe_text"] = safe
    environment.filters["hours"] = lambda seconds: f"{seconds / 3600:,.2f}"
    return environment.get_template("statement.html.j2").render(**statement) + "\n"
