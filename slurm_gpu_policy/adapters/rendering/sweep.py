"""Parameter files: one line, one array task, split into words when the job is submitted.

A line is split as a shell would, with nothing expanded (``shlex.split``): white space separates,
quotes keep words together, a backslash takes the next character as it is. Blank lines and lines
that begin with ``#`` are no tasks. A byte order mark and DOS line breaks are taken off. The
words go into the script, so that task k keeps the k-th line as it was.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from slurm_gpu_policy.adapters.rendering.quoting import Quoted, bash_word, bash_words, check_text
from slurm_gpu_policy.errors import RenderError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_BYTES = 3_000_000
"""Slurm takes scripts of up to 4 MB (SchedulerParameters=max_script_size)."""


def read_lines(path: str) -> tuple[str, ...]:
    """Return the lines of a parameter file that are tasks.

    Raises:
        RenderError: the file cannot be read, is too long, or holds no task.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs gpu-submit 4 ms
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        msg = f"cannot read the parameter file {path}: {error.strerror}"
        raise RenderError(msg) from error
    if len(data) > MAX_BYTES:
        msg = (
            f"the parameter file {path} is longer than {MAX_BYTES} bytes, which Slurm would not "
            "take in a script: split it, or let the tasks read a file of their own"
        )
        raise RenderError(msg)
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    lines = (line.removesuffix("\r").strip(" \t") for line in text.split("\n"))
    tasks = tuple(line for line in lines if line and not line.startswith("#"))
    if not tasks:
        msg = f"the parameter file {path} holds no task: all its lines are blank or comments"
        raise RenderError(msg)
    return tasks


def array(count: int, max_parallel: int) -> str:
    """Return the ``--array`` for *count* tasks, counted from 1 as lines are; 0 is no limit."""
    return f"1-{count}%{max_parallel}" if max_parallel else f"1-{count}"


def cases(lines: Sequence[str], path: str) -> Quoted:
    """Return the branches of a ``case`` over the task's number, each of which sets its words.

    Raises:
        RenderError: a line cannot be split into words.
    """
    branches = []
    for number, line in enumerate(lines, 1):
        check_text(line, f"task {number} of {path}")
        try:
            words = shlex.split(line)
        except ValueError as error:
            msg = f"task {number} of {path}: {str(error).lower()}: {line!r}"
            raise RenderError(msg) from error
        branches.append(f"{number}) SWEEP_LINE={bash_word(line)}; set -- {bash_words(words)} ;;")
    return Quoted("\n".join(branches))
