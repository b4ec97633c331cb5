"""``#SBATCH`` lines: how sbatch reads them, and how to write one it reads back unchanged.

What is said here was found by asking sbatch itself (tests/e2e/test_sbatch_directives.py does):

* a line counts if it begins with ``#SBATCH`` in the first column, before the first line that is
  neither blank nor a comment; of two equal options the later one wins;
* words end at white space; ``'`` and ``"`` quote; a backslash takes the next character as it is,
  also between either quotes (before white space outside quotes it does so in 26.05 and not in
  22.05); an unquoted ``#`` begins a comment even in the middle of a word; an empty word ends the
  line;
* all lines together are one getopt_long command line: an option may find its value on the next
  line, and long names may be cut short.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from slurm_gpu_policy.adapters.rendering import sbatch_grammar as grammar
from slurm_gpu_policy.adapters.rendering.quoting import Quoted, comment_text
from slurm_gpu_policy.errors import RequestError
from slurm_gpu_policy.model.record import record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PLAIN = re.compile(r"[A-Za-z0-9_./:,=+@%^*()\[\]{}|&~!<>?;$-]+", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MAX_BYTES = 4000
"""sbatch copies a word into a buffer of 8192 bytes without looking at its length."""
_SPACE = " \t\v\f\r"
_SPACES = frozenset(_SPACE)
_NEXT_COMPONENT = frozenset({":", "hetjob", "packjob"})


@record
class Directive:
    """One option of a script. ``line`` counts from 1; ``name`` is the long name."""

    line: int
    name: str
    value: str | None


def fits_directive(value: str) -> bool:
    """Whether a ``#SBATCH`` line can carry *value*; the command line can carry any."""
    return (
        not _CONTROL.search(value) and len(value.encode("utf-8", "surrogateescape")) <= _MAX_BYTES
    )


def directive(name: str, value: str | None = None) -> Quoted:
    """Return the ``#SBATCH`` line for an option, or a comment where no such line can say it."""
    if value is None:
        return Quoted(f"#SBATCH --{name}")
    if not fits_directive(value):
        why = "a control character" if _CONTROL.search(value) else "more than a line may hold"
        shown = comment_text(value if len(value) <= 60 else value[:60] + "…")  # noqa: PLR2004
        return Quoted(
            f"# --{name} is given to sbatch on its command line, for it holds {why}: {shown}"
        )
    if not _PLAIN.fullmatch(value):
        value = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return Quoted(f"#SBATCH --{name}={value}")


def header(options: Iterable[tuple[str, str | None]]) -> Quoted:
    """Return the lines for all *options*."""
    return Quoted("\n".join(directive(name, value) for name, value in options))


def header_lines(script: str) -> list[str]:
    """Return the lines in which sbatch looks for directives: all before the first command."""
    lines = []
    for line in script.split("\n"):
        text = line.strip(_SPACE)
        if text and not text.startswith("#"):
            break
        lines.append(line)
    return lines


def directive_lines(script: str) -> list[tuple[int, str]]:
    """Return the number of each directive line, from 1, and what stands in it.

    sbatch still obeys ``#SLURM``, which it complains about.
    """
    return [
        (number, line.removeprefix(mark))
        for number, line in enumerate(header_lines(script), 1)
        for mark in ("#SBATCH", "#SLURM")
        if line.startswith(mark)
    ]


def parse_directives(script: str) -> tuple[Directive, ...]:
    """Return what sbatch would read from *script*, in the order of the lines.

    Raises:
        RequestError: sbatch would refuse the script (no interpreter line, DOS line breaks, a
            word that is no option, a quote without its end), or the job is a heterogeneous one.
    """
    check_script(script)
    words = [
        (number, word) for number, text in directive_lines(script) for word in _split(text, number)
    ]
    return tuple(_options(words))


def check_script(script: str) -> None:
    """Refuse what sbatch would refuse, in words that say what to do."""
    if not script.strip():
        msg = "the script is empty"
        raise RequestError(msg)
    if not script.startswith("#!"):
        msg = (
            "the script's first line is no interpreter line, so sbatch would refuse it: "
            "let it begin with #!/bin/bash"
        )
        raise RequestError(msg)
    if "\r\n" in script:
        line = script[: script.index("\r\n")].count("\n") + 1
        msg = (
            f"line {line} of the script ends in a DOS line break (\\r\\n), which sbatch refuses: "
            "convert the file with dos2unix"
        )
        raise RequestError(msg)
    if "\0" in script:
        msg = "the script holds a NUL byte, which sbatch refuses: is it a program, not a script?"
        raise RequestError(msg)


def foreign_directive(script: str) -> int | None:
    """Return the number of the first ``#PBS`` or ``#BSUB`` line that sbatch would obey too."""
    for number, line in enumerate(header_lines(script), 1):
        if line.startswith(("#PBS", "#BSUB")):
            return number
    return None


def _split(text: str, number: int) -> Iterator[str]:
    """Yield the words of one directive line."""
    at = 0
    while at < len(text):
        while at < len(text) and text[at] in _SPACE:
            at += 1
        if text[at : at + 1] == ":":
            raise RequestError(_heterogeneous(number))
        word, at = _word(text, at, number)
        if not word:
            return
        if word in _NEXT_COMPONENT:
            raise RequestError(_heterogeneous(number))
        yield word


def _word(text: str, at: int, number: int) -> tuple[str, int]:
    word: list[str] = []
    quote = ""
    while at < len(text) and (quote or text[at] not in _SPACE):
        char = text[at]
        if char == "\\":
            at += 1
            if not quote and text[at : at + 1] in _SPACES:
                msg = (
                    f"line {number} of the script: releases of sbatch disagree on a backslash "
                    "before white space: write quotes"
                )
                raise RequestError(msg)
            word.append(text[at : at + 1])
            at += 1
            continue
        if char == quote:
            quote = ""
        elif not quote and char in "\"'":
            quote = char
        elif not quote and char == "#":
            return "".join(word), len(text)
        else:
            word.append(char)
        at += 1
    if quote:
        msg = f"line {number} of the script: the #SBATCH line has a {quote} without its end"
        raise RequestError(msg)
    return "".join(word), at


def _options(words: list[tuple[int, str]]) -> Iterator[Directive]:
    """Read *words* as getopt_long does."""
    rest = iter(words)
    for number, word in rest:
        if word == "--":
            break  # the end of the options; sbatch takes no other words
        if word.startswith("--"):
            yield _long(number, word, rest)
        elif word.startswith("-") and word != "-":
            yield from _short(number, word[1:], rest)
        else:
            raise RequestError(_no_option(number, word))
    for number, word in rest:
        raise RequestError(_no_option(number, word))


def _long(number: int, word: str, rest: Iterator[tuple[int, str]]) -> Directive:
    text, sign, value = word[2:].partition("=")
    name = grammar.long_name(text)
    if name is None:
        # An option of a release we do not know, or an ambiguous one: sbatch has the last word.
        return Directive(number, text, value if sign else None)
    if name in grammar.FLAGS and sign:
        msg = f"line {number} of the script: --{name} takes no value"
        raise RequestError(msg)
    if name in grammar.VALUED and not sign:
        return Directive(number, name, _value(number, name, rest))
    return Directive(number, name, value if sign else None)


def _short(number: int, letters: str, rest: Iterator[tuple[int, str]]) -> Iterator[Directive]:
    while letters:
        letter, letters = letters[0], letters[1:]
        name = grammar.SHORT.get(letter)
        if name is None:
            msg = f"line {number} of the script: sbatch has no option -{letter}"
            raise RequestError(msg)
        if name in grammar.FLAGS:
            yield Directive(number, name, None)
            continue
        value: str | None = letters or None
        if value is None and name in grammar.VALUED:
            value = _value(number, name, rest)
        yield Directive(number, name, value)
        return


def _value(number: int, name: str, rest: Iterator[tuple[int, str]]) -> str:
    for _, value in rest:
        return value
    msg = f"line {number} of the script: --{name} needs a value"
    raise RequestError(msg)


def _no_option(number: int, word: str) -> str:
    return f"line {number} of the script: {word!r} is no option of sbatch"


def _heterogeneous(number: int) -> str:
    return (
        f"line {number} of the script begins a second component of a heterogeneous job, which "
        "gpu-submit does not support: submit it with sbatch"
    )
