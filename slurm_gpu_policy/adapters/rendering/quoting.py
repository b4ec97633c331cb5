"""Words that a shell reads back byte for byte, and the mark that says a text is one.

Text is ``str`` with undecodable bytes as surrogates (``surrogateescape``, what ``sys.argv`` and
``os.environ`` hold), so that every byte but NUL survives.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from slurm_gpu_policy.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable

_PLAIN = re.compile(r"[A-Za-z0-9@%+:,./_-]+|-[A-Za-z0-9@%+=:,./_-]*", re.ASCII)
"""No ``~``, and ``=`` in options only (elsewhere it may be an assignment)."""
_RESERVED = frozenset(
    {
        "case",
        "coproc",
        "do",
        "done",
        "elif",
        "else",
        "esac",
        "fi",
        "for",
        "function",
        "if",
        "in",
        "select",
        "then",
        "time",
        "until",
        "while",
    }
)


class Quoted(str):
    """Text that may stand in a script as it is: it was quoted, or is the renderer's own."""

    __slots__ = ()


def check_text(value: str, what: str) -> None:
    """Refuse what no command line or environment can carry.

    Raises:
        RequestError: *value* holds a NUL or a lone surrogate that stands for no byte.
    """
    if "\0" in value:
        msg = f"{what} holds a NUL byte, which no command line or environment can carry"
        raise RequestError(msg)
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        msg = f"{what} holds {value[error.start]!r}, which is no character and stands for no byte"
        raise RequestError(msg) from error


def bash_word(value: str) -> Quoted:
    r"""Return *value* as one word of bash, on one line.

    Plain or single quotes where every character can be printed; otherwise ``$'…'`` with octal
    escapes, so that no line break, control, direction mark or broken byte stands in a script.
    """
    if _PLAIN.fullmatch(value) and value not in _RESERVED:
        return Quoted(value)
    if value.isprintable():
        return Quoted("'" + value.replace("'", "'\"'\"'") + "'")
    return Quoted("$'" + "".join(map(_escape, value)) + "'")


def _escape(char: str) -> str:
    if char in "\\'":
        return "\\" + char
    if char == "\n":
        return "\\n"
    if char.isprintable():
        return char
    return "".join(f"\\{byte:03o}" for byte in char.encode("utf-8", "surrogateescape"))


def posix_word(value: str) -> Quoted:
    r"""Return *value* as one word of any Bourne shell (``$'…'`` is not POSIX before 2024).

    Line breaks stay line breaks, so this is for text below the first command of a script, where
    sbatch looks for no directives. No ``\r\n`` arises: sbatch would refuse the script.
    """
    if _PLAIN.fullmatch(value) and value not in _RESERVED:
        return Quoted(value)
    text = value.replace("'", "'\"'\"'")
    return Quoted("'" + text.replace("\r\n", "\r''\n") + "'")


def bash_words(values: Iterable[str]) -> Quoted:
    """Return the words of a command line."""
    return Quoted(" ".join(map(bash_word, values)))


def comment_text(value: str) -> Quoted:
    """Return *value* for the inside of a comment: one line, nothing unprintable."""
    return Quoted("".join(char if char.isprintable() else "?" for char in value))
