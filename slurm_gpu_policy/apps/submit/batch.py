"""``--jobs FILE``: many jobs in one call, one a line."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, TypeVar

import click

from slurm_gpu_policy.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_LONGEST_LINE = 128 * 1024
"""As long as Linux lets one argument be (MAX_ARG_STRLEN)."""


def read_jobs(path: str, parse: Callable[[list[str], int], T]) -> list[T]:
    """Return ``parse(words, line number)`` of each line that has a job.

    Blank lines and lines that begin with # have none. A line is a command, or options and a
    command behind ``--``, in the shell's quoting (and nothing else of the shell: no variables,
    no substitution).

    Raises:
        RequestError: the file cannot be read or has no jobs; or a line is wrong, which it names.
    """
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:  # noqa: PTH123
            lines = file.read().split("\n")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        msg = f"the jobs file {path!r} cannot be read: {why}"
        raise RequestError(msg) from error
    jobs = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if len(text) > _LONGEST_LINE:
            msg = f"{path}, line {number}: is longer than the {_LONGEST_LINE} characters allowed"
            raise RequestError(msg)
        try:
            jobs.append(parse(shlex.split(text), number))
        except (RequestError, ValueError) as error:
            msg = f"{path}, line {number}: {error}"
            raise RequestError(msg) from error
        except click.exceptions.Exit as leave:
            msg = f"{path}, line {number}: --help is for the command line"
            raise RequestError(msg) from leave
        except click.ClickException as error:
            msg = f"{path}, line {number}: {error.format_message()}"
            raise RequestError(msg) from error
    if not jobs:
        msg = f"the jobs file {path!r} has no jobs"
        raise RequestError(msg)
    return jobs
