"""The user's own script: left as it is, but for our lines at the end of its header."""

from __future__ import annotations

import os.path
import re
from typing import TYPE_CHECKING

from slurm_gpu_policy.adapters.rendering.directives import (
    check_script,
    directive,
    directive_lines,
    foreign_directive,
    header_lines,
    parse_directives,
)
from slurm_gpu_policy.adapters.rendering.quoting import bash_word, check_text, posix_word
from slurm_gpu_policy.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
_SHELLS = frozenset({"ash", "bash", "dash", "ksh", "ksh93", "mksh", "sh", "yash", "zsh"})
_HASH_COMMENTS = _SHELLS | frozenset(
    {
        "awk",
        "csh",
        "expect",
        "fish",
        "gawk",
        "julia",
        "make",
        "perl",
        "python",
        "r",
        "rscript",
        "ruby",
        "tclsh",
        "tcsh",
        "xonsh",
    }
)
"""Interpreters to which a line that begins with # is a comment."""
_OWNED_BY_BASH = frozenset(
    {
        "_",
        "BASHOPTS",
        "BASHPID",
        "BASH_ALIASES",
        "BASH_ARGC",
        "BASH_ARGV",
        "BASH_ARGV0",
        "BASH_CMDS",
        "BASH_COMMAND",
        "BASH_LINENO",
        "BASH_SOURCE",
        "BASH_SUBSHELL",
        "BASH_VERSINFO",
        "BASH_VERSION",
        "COMP_WORDBREAKS",
        "DIRSTACK",
        "EPOCHREALTIME",
        "EPOCHSECONDS",
        "EUID",
        "FUNCNAME",
        "GROUPS",
        "HISTCMD",
        "LINENO",
        "PPID",
        "RANDOM",
        "SECONDS",
        "SHELLOPTS",
        "SHLVL",
        "SRANDOM",
        "UID",
    }
)
"""Variables that bash sets itself, whatever one assigns."""


def interpreter(script: str) -> str:
    """Return the name of the program that runs *script*, without path and version."""
    words = script.split("\n", 1)[0].removeprefix("#!").split()
    if words and os.path.basename(words[0]) == "env":  # noqa: PTH119
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    name = os.path.basename(words[0]) if words else ""  # noqa: PTH119
    return re.sub(r"[0-9.]+$", "", name).lower() or name


def exports(environment: Sequence[tuple[str, str]], *, bash: bool = True) -> str:
    """Return a line per variable that exports it. Names in ``_gs_`` are the templates' own.

    Raises:
        RequestError: a name a shell cannot export, or a value no environment can hold.
    """
    quote = bash_word if bash else posix_word
    lines = []
    for name, value in environment:
        if not re.fullmatch(_VARIABLE, name, re.ASCII) or name.startswith("_gs_"):
            msg = (
                f"the variable {name!r} cannot be exported: a name is of letters, digits and _, "
                "and does not begin with _gs_"
            )
            raise RequestError(msg)
        if name in _OWNED_BY_BASH:
            msg = f"the variable {name} is the shell's own: it cannot be set from outside"
            raise RequestError(msg)
        check_text(value, f"the variable {name}")
        lines.append(f"export {name}={quote(value)}")
    return "\n".join(lines)


def with_our_lines(
    script: str,
    options: Sequence[tuple[str, str | None]],
    replaced: frozenset[str],
    environment: Sequence[tuple[str, str]],
    *,
    ignore_foreign: bool,
) -> str:
    """Return the user's script with our directives and exports at the end of its header.

    At the end, because sbatch takes the later one of two equal directives. Directives named in
    *replaced* are made comments: sbatch has no way of taking them back.

    Raises:
        RequestError: sbatch would refuse the script, or it cannot export variables.
    """
    check_script(script)
    number = foreign_directive(script)
    if number and not ignore_foreign:
        msg = (
            f"line {number} of the script is a directive of another batch system, which some "
            "releases of sbatch obey and gpu-submit does not read: remove it, or add "
            "--sbatch-arg=--ignore-pbs"
        )
        raise RequestError(msg)
    runner = interpreter(script)
    if environment and runner not in _SHELLS:
        msg = (
            f"variables can be set in a shell script, and this one is run by {runner!r}: "
            "start it as a command (gpu-submit … -- ./script) or use --export"
        )
        raise RequestError(msg)
    lines = script.split("\n")
    own = _without(lines, replaced, {name for name, _ in options})
    last = max((number for number, _ in directive_lines(script)), default=0)
    if not last and runner not in _HASH_COMMENTS:
        return script  # our lines would be no comments to it; sbatch has them as arguments
    last = last or _end_of_comments(lines)
    ours = ["# From gpu-submit:", *(directive(name, value) for name, value in options)]
    if not options:
        ours = []
    if not environment:
        return "\n".join([*own[:last], *ours, *own[last:]])
    header_end = _header_end(script)
    added = ["# From gpu-submit:", exports(environment, bash=runner == "bash")]
    return "\n".join(
        [*own[:last], *ours, *own[last:header_end], *added, *own[header_end:]],
    )


def _end_of_comments(lines: Sequence[str]) -> int:
    """Return how many lines from the first on are comments (a Python coding line is one)."""
    for number, line in enumerate(lines):
        if not line.startswith("#"):
            return number
    return len(lines)


def _header_end(script: str) -> int:
    """Return how many lines stand before the first command, blank ones at the end left out."""
    lines = header_lines(script)
    while lines and not lines[-1].strip():
        lines.pop()
    return len(lines)


def _without(lines: Sequence[str], replaced: frozenset[str], ours: set[str]) -> list[str]:
    """Return *lines*, as many, with the replaced options taken out of their directives."""
    if not replaced:
        return list(lines)
    script = "\n".join(lines)
    found = parse_directives(script)
    touched = {each.line for each in found if each.name in replaced}
    result: list[str] = []
    for number, line in enumerate(lines, 1):
        if number not in touched:
            result.append(line)
            continue
        kept = [
            directive(each.name, each.value)
            for each in found
            if each.line == number and each.name not in replaced | ours
        ]
        result.append("\n".join([f"# Replaced by gpu-submit: {line}", *kept]))
    return result
