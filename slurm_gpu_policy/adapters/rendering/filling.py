"""Filling a template, without Jinja2 where that is enough.

Importing Jinja2 costs more than everything else `gpu-submit` imports together, and most
templates are text with holes. Those are filled here, exactly as Jinja2 would
(``tests/unit/adapters/rendering/test_filling.py`` compares); anything else in a template,
control flow above all, goes to ``sandbox``. Either way a hole is filled only with text that a
filter has quoted.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from slurm_gpu_policy.adapters.rendering.quoting import (
    Quoted,
    bash_word,
    bash_words,
    comment_text,
)
from slurm_gpu_policy.errors import RenderError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slurm_gpu_policy.adapters.rendering.templates import Template

Value = str | int | tuple[str, ...]

_TAG = re.compile(r"\{\{|\{%|\{#")
_HOLE = re.compile(r"\{\{\s+([A-Za-z_]\w*)(?:\s*\|\s*([a-z]+))?\s+\}\}", re.ASCII)
_QUOTES = re.compile(r"\|\s*sh\b", re.ASCII)
_REMARK = re.compile(r"\{#(?![-+])(?:(?!#\}).)*(?<![-+])#\}", re.DOTALL)
_WORDS_OF_JINJA = frozenset(
    {
        "true",
        "false",
        "none",
        "True",
        "False",
        "None",
        "not",
        "in",
        "is",
        "and",
        "or",
        "if",
        "else",
        "self",
        "loop",
    }
)


def _sh(value: object) -> Quoted:
    """One word for a text, words for several; a number is a word of its own."""
    if isinstance(value, bool) or not isinstance(value, str | int | tuple | list):
        msg = f"sh quotes text, whole numbers and lists of them, not {type(value).__name__}"
        raise TypeError(msg)
    if isinstance(value, str):
        return bash_word(value)
    if isinstance(value, int):
        return Quoted(value)
    return bash_words(str(_only_text(each)) for each in value)


def _only_text(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int):
        msg = f"sh quotes lists of text and whole numbers, not of {type(value).__name__}"
        raise TypeError(msg)
    return value


def _comment(value: object) -> Quoted:
    return comment_text(str(value))


FILTERS: dict[str, Callable[[object], Quoted]] = {"sh": _sh, "comment": _comment}
"""What makes a value fit for a script."""


def filled(value: object) -> str | int:
    """Return what a hole holds, if it may: quoted text or a whole number.

    Raises:
        TypeError: a value that no filter has quoted.
    """
    if isinstance(value, Quoted) or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    msg = f"a {type(value).__name__} is not quoted: write {{{{ … | sh }}}}"
    raise TypeError(msg)


def fill(template: Template, values: Mapping[str, Value], folders: tuple[str, ...] = ()) -> str:
    """Return the text of *template* with *values*; *folders* are the site's, for includes.

    Raises:
        RenderError: a name that does not exist, a value left unquoted, a broken template.
    """
    refuse_holes_in_quotes(template)
    pieces = _pieces(template.source)
    if pieces is None:
        from slurm_gpu_policy.adapters.rendering import sandbox  # noqa: PLC0415 - see above

        return sandbox.fill(template, values, folders)
    text: list[str] = []
    for piece in pieces:
        if isinstance(piece, str):
            text.append(piece)
            continue
        name, filter_name, at = piece
        if name not in values:
            raise RenderError(undefined(template, _line(template.source, at), name, values))
        value: object = values[name]
        try:
            text.append(str(filled(FILTERS[filter_name](value) if filter_name else value)))
        except TypeError as error:
            msg = f"{template.path}, line {_line(template.source, at)}: {name}: {error}"
            raise RenderError(msg) from error
    return "".join(text)


def undefined(template: Template, line: int, name: str, values: Mapping[str, Value]) -> str:
    """Return the message about a name that a template uses and nobody defined."""
    there = ", ".join(sorted(values))
    return f"{template.path}, line {line}: there is no value {name!r}; there are: {there}"


def refuse_holes_in_quotes(template: Template) -> None:
    """Refuse ``"… {{ x | sh }} …"``: quotes around a quoted word undo its quoting.

    Raises:
        RenderError: a hole stands after an odd number of quotes on its line.
    """
    for number, line in enumerate(template.source.split("\n"), 1):
        at = line.find("{{")
        if at >= 0 and (quote := _open_quote(line, at)):
            msg = (
                f"{template.path}, line {number}: a value stands between {quote} quotes, which "
                f'undo its own: write word={{{{ … | sh }}}} on a line and use "$word" here'
            )
            raise RenderError(msg)


def _open_quote(line: str, first: int) -> str:
    """Return the quote that is open at one of the line's holes, the first at *first*."""
    quote, at = "", 0
    while at < len(line):
        if line.startswith("{{", at):
            end = line.find("}}", at)
            if quote and at >= first and _QUOTES.search(line, at, end):
                return quote
            at = len(line) if end < 0 else end + 2
            continue
        char = line[at]
        if char == "\\" and quote != "'":
            at += 1
        elif char == quote:
            quote = ""
        elif not quote and char in "\"'":
            quote = char
        elif not quote and char == "#" and (at == 0 or line[at - 1] in " \t"):
            return ""
        at += 1
    return ""


Hole = tuple[str, str | None, int]


def _pieces(source: str) -> list[str | Hole] | None:
    """Cut *source* into text and holes; ``None`` where only Jinja2 itself will do."""
    if "\r" in source:
        return None  # Jinja2 makes line breaks of them
    pieces: list[str | Hole] = []
    at = 0
    while match := _TAG.search(source, at):
        start = match.start()
        if match[0] == "{{":
            hole = _HOLE.match(source, start)
            if hole is None or hole[1] in _WORDS_OF_JINJA or hole[2] not in {None, *FILTERS}:
                return None
            pieces += [source[at:start], (hole[1], hole[2], start)]
            at = hole.end()
        elif match[0] == "{#":
            remark = _REMARK.match(source, start)
            if remark is None:
                return None
            # As lstrip_blocks and trim_blocks have it: a comment takes its line along.
            line = max(source.rfind("\n", at, start) + 1, at)
            begins_line = line == 0 or source[line - 1] == "\n"
            blank = begins_line and source[line:start].isspace()
            pieces.append(source[at : line if blank else start])
            at = remark.end()
            if source.startswith("\n", at):
                at += 1
        else:
            return None
    pieces.append(source[at:])
    return pieces


def _line(source: str, at: int) -> int:
    return source.count("\n", 0, at) + 1
