"""Finding templates and reading what they say of themselves.

A template says so in Jinja comments, before its first line of text::

    {# summary: Serve a model over HTTP #}
    {# command: optional #}
    {# param model : the model's name (there is no default, so it must be given) #}
    {# param port int = 0 : port to listen on; 0 takes a free one #}
    {# param engine vllm|ollama = vllm : the server #}
    {# option ntasks-per-node = 1 #}

``command`` is ``required`` (unless said otherwise), ``optional`` or ``none``. ``mode:
interactive`` marks a launcher that runs in the user's terminal. ``array: NAME`` makes one array
task of each line of the file that the parameter NAME names.
"""

from __future__ import annotations

import os
import os.path
import re
from typing import TYPE_CHECKING, Literal

from slurm_gpu_policy import resources
from slurm_gpu_policy.adapters.rendering.sbatch_grammar import LONG
from slurm_gpu_policy.errors import RenderError
from slurm_gpu_policy.model.record import record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SUFFIX = ".sh.j2"
BUILT_IN = "built-in"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
_COMMENT = re.compile(r"\s*\{#-?(.*?)-?#\}", re.DOTALL)
# Texts: re compiles and keeps those that are used; a template without parameters uses none.
_PARAM = (
    r"(?P<name>[A-Za-z_]\w*)(?:\s+(?P<kind>[\w.-]+(?:\|[\w.-]+)*))?"
    r"\s*(?:=(?P<default>[^:]*))?(?::(?P<description>.*))?"
)
_INTEGER = r"[0-9]{1,18}"
_OPTION = r"([a-z0-9-]+)\s*(?:=(.*))?"

RESERVED = frozenset(
    {
        "command",
        "cpus_per_task",
        "environment",
        "gpu_type",
        "gpus",
        "gpus_per_node",
        "header",
        "name",
        "nodes",
        "options",
        "sweep_cases",
        "sweep_count",
    }
)
"""Names of the values every template is given; parameters have other names."""


@record
class Param:
    """A parameter of a template; without a default it must be given.

    ``kind`` is ``text``, ``int`` (a whole number, 0 or more) or the words allowed, by ``|``.
    """

    name: str
    default: str | None
    description: str
    kind: str = "text"

    def value(self, text: str) -> str | int:
        """Return *text* as the template gets it.

        Raises:
            ValueError: *text* is not of the parameter's kind.
        """
        if self.kind == "int":
            if not re.fullmatch(_INTEGER, text, re.ASCII):
                msg = f"{self.name} is a whole number, not {text!r}"
                raise ValueError(msg)
            return int(text)
        if self.kind != "text" and text not in (words := self.kind.split("|")):
            msg = f"{self.name} is {' or '.join(words)}, not {text!r}"
            raise ValueError(msg)
        return text


@record
class Template:
    """A template and what it says of itself. ``origin`` is ``built-in`` or the file's path."""

    name: str
    path: str
    origin: str
    source: str
    summary: str = ""
    params: tuple[Param, ...] = ()
    options: tuple[tuple[str, str | None], ...] = ()
    command: Literal["required", "optional", "none"] = "required"
    interactive: bool = False
    array: str | None = None
    """The parameter that names a file of which each line is an array task."""

    def arguments(self, given: Iterable[tuple[str, str]]) -> dict[str, str | int]:
        """Return a value for each parameter.

        Raises:
            RenderError: one is missing, unknown, given twice, or not of its kind.
        """
        values = {each.name: each.default for each in self.params if each.default is not None}
        seen: set[str] = set()
        for name, value in given:
            if name in seen:
                msg = f"the parameter {name!r} of the template {self.name!r} is given twice"
                raise RenderError(msg)
            seen.add(name)
            values[name] = value
        names = [each.name for each in self.params]
        if unknown := sorted(seen.difference(names)):
            msg = f"the template {self.name!r} has no parameter {unknown[0]!r}; {self._takes()}"
            raise RenderError(msg)
        if missing := [name for name in names if name not in values]:
            msg = f"the template {self.name!r} needs --param {missing[0]}=…; {self._takes()}"
            raise RenderError(msg)
        try:
            return {each.name: each.value(values[each.name]) for each in self.params}
        except ValueError as error:
            msg = f"the template {self.name!r}: {error}"
            raise RenderError(msg) from error

    def _takes(self) -> str:
        if not self.params:
            return "it takes none"
        shown = (
            f"{each.name} (required)" if each.default is None else f"{each.name}={each.default}"
            for each in self.params
        )
        return "it takes " + ", ".join(shown)


def find(name: str, folders: Sequence[str]) -> Template:
    """Return the template *name* of the first folder that has it, the built-in one at last.

    Raises:
        RenderError: there is none, or what it says of itself is wrong.
    """
    if not _NAME.fullmatch(name):
        msg = f"{name!r} is no name of a template: letters, digits, - _ and . only"
        raise RenderError(msg)
    for folder in (*folders, built_in_folder()):
        path = os.path.join(folder, name + SUFFIX)  # noqa: PTH118
        try:
            with open(path, encoding="utf-8") as file:  # noqa: PTH123
                source = file.read()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            msg = f"cannot read the template {path}: {error}"
            raise RenderError(msg) from error
        return read(name, path, source, origin=path if folder in folders else BUILT_IN)
    known = ", ".join(names(folders))
    msg = f"there is no template {name!r}; there are: {known}"
    raise RenderError(msg)


def built_in_folder() -> str:
    """Return the folder of the templates we bring along."""
    return os.path.join(resources.folder("templates"), "sbatch")  # noqa: PTH118


def names(folders: Sequence[str]) -> list[str]:
    """Return the names of all templates, sorted."""
    found: set[str] = set()
    for folder in (*folders, built_in_folder()):
        try:
            entries = os.listdir(folder)  # noqa: PTH208
        except FileNotFoundError:
            continue
        except OSError as error:
            msg = f"cannot read the templates' folder {folder}: {error}"
            raise RenderError(msg) from error
        found.update(
            name
            for entry in entries
            if entry.endswith(SUFFIX) and _NAME.fullmatch(name := entry.removesuffix(SUFFIX))
        )
    return sorted(found)


def read(name: str, path: str, source: str, origin: str = BUILT_IN) -> Template:
    """Read what *source* says of itself.

    Raises:
        RenderError: a comment that looks like a declaration and is none we know.
    """
    said: dict[str, str] = {}
    params: dict[str, Param] = {}
    options: dict[str, str | None] = {}
    at = 0
    while match := _COMMENT.match(source, at):
        at = match.end()
        text = match[1].strip()
        try:
            if text.startswith("param "):
                param = _read_param(text.removeprefix("param").strip())
                params[param.name] = param
            elif text.startswith("option "):
                option, value = _read_option(text.removeprefix("option").strip())
                options[option] = value
            else:
                key, colon, value = text.partition(":")
                if colon and key.strip() in {"summary", "mode", "command", "array"}:
                    said[key.strip()] = " ".join(value.split())
        except ValueError as error:
            line = source.count("\n", 0, match.start(1)) + 1
            msg = f"{path}, line {line}: {error}"
            raise RenderError(msg) from error
    command = said.get("command", "required")
    problem = _problem(said, params)
    if problem or command not in {"required", "optional", "none"}:
        problem = problem or f"command is required, optional or none, not {command!r}"
        msg = f"{path}: {problem}"
        raise RenderError(msg)
    return Template(
        name=name,
        path=path,
        origin=origin,
        source=source,
        summary=said.get("summary", ""),
        params=tuple(params.values()),
        options=tuple(options.items()),
        command=command,  # type: ignore[arg-type]  # checked two lines up
        interactive=said.get("mode") == "interactive",
        array=said.get("array"),
    )


def _problem(said: Mapping[str, str], params: Mapping[str, Param]) -> str | None:
    if said.get("mode", "batch") not in {"batch", "interactive"}:
        return f"mode is batch or interactive, not {said['mode']!r}"
    if "array" in said and said["array"] not in params:
        return f"array names the parameter {said['array']!r}, which is not declared"
    return None


def _read_param(text: str) -> Param:
    match = re.fullmatch(_PARAM, text, re.ASCII | re.DOTALL)
    if match is None:
        msg = f"cannot read {text!r}: write {{# param NAME KIND = DEFAULT : DESCRIPTION #}}"
        raise ValueError(msg)
    name, default = match["name"], match["default"]
    if name in RESERVED:
        msg = f"a parameter cannot be called {name!r}: every template has a value of that name"
        raise ValueError(msg)
    param = Param(
        name,
        default.strip() if default is not None else None,
        " ".join((match["description"] or "").split()),
        match["kind"] or "text",
    )
    if param.default is not None:
        param.value(param.default)
    return param


def _read_option(text: str) -> tuple[str, str | None]:
    match = re.fullmatch(_OPTION, text, re.ASCII | re.DOTALL)
    if match is None or match[1] not in LONG:
        msg = f"{text!r} is no option of sbatch: write {{# option NAME = VALUE #}}"
        raise ValueError(msg)
    return match[1], match[2].strip() if match[2] is not None else None
