"""Jinja2 for templates with control flow; imported only where one is used."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, Undefined, UndefinedError
from jinja2.loaders import FunctionLoader
from jinja2.sandbox import ImmutableSandboxedEnvironment

from slurm_gpu_policy.adapters.rendering import templates
from slurm_gpu_policy.adapters.rendering.filling import FILTERS, filled, undefined
from slurm_gpu_policy.adapters.rendering.quoting import Quoted
from slurm_gpu_policy.errors import RenderError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from slurm_gpu_policy.adapters.rendering.filling import Value
    from slurm_gpu_policy.adapters.rendering.templates import Template

_UNDEFINED = re.compile(r"'(\w+)' is undefined")


class _Environment(ImmutableSandboxedEnvironment):
    """Puts pieces together as quoted text, since each of them was quoted or is the template's.

    That makes macros, ``{% set %}`` blocks and ``super()`` usable without a second filter.
    """

    @staticmethod
    def concat(pieces: Iterable[str]) -> Quoted:
        return Quoted("".join(pieces))


def fill(template: Template, values: Mapping[str, Value], folders: tuple[str, ...] = ()) -> str:
    """Return the text of *template* with *values*.

    *folders* are where ``{% extends %}`` and ``{% include %}`` look, before the built-in ones.

    Raises:
        RenderError: as :func:`filling.fill`.
    """
    environment = _environment(template, folders)
    try:
        return environment.get_template(template.path).render(values)
    except RenderError:
        raise
    except TemplateSyntaxError as error:
        msg = f"{error.filename or template.path}, line {error.lineno}: {error.message}"
        raise RenderError(msg) from error
    except UndefinedError as error:
        path, line = _place(error.__traceback__, template.path)
        if match := _UNDEFINED.fullmatch(str(error)):
            msg = undefined(template, line, match[1], values)
        else:
            msg = f"{path}, line {line}: {error}"
        raise RenderError(msg) from error
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, OSError) as error:
        path, line = _place(error.__traceback__, template.path)
        msg = f"{path}, line {line}: {error}"
        raise RenderError(msg) from error


def _environment(template: Template, folders: tuple[str, ...]) -> _Environment:
    def load(name: str) -> tuple[str, str, Any]:
        found = template if name == template.path else templates.find(name, folders)
        return found.source, found.path, lambda: True

    environment = _Environment(
        loader=FunctionLoader(load),
        undefined=StrictUndefined,
        autoescape=False,  # shell, not HTML: _finalize refuses what is not quoted
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update({name: _strict(each) for name, each in FILTERS.items()})
    return environment


def _strict(quote: Callable[[object], Quoted]) -> Callable[[object], Quoted]:
    """Let a filter meet an undefined value as an undefined value, not as one of a wrong type."""

    def strict(value: object) -> Quoted:
        if isinstance(value, Undefined):
            str(value)  # raises UndefinedError
        return quote(value)

    return strict


def _finalize(value: object) -> str | int:
    if isinstance(value, Undefined):
        str(value)  # raises UndefinedError
    return filled(value)


def _place(trace: TracebackType | None, path: str) -> tuple[str, int]:
    """Return the last line of a template in a traceback (Jinja2 rewrites it to show them)."""
    place = (path, 1)
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name == path or name.endswith(templates.SUFFIX):
            place = (name, trace.tb_lineno)
        trace = trace.tb_next
    return place
