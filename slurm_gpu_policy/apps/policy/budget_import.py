"""``gpu-policy budget import``: grants from a CSV file."""

from __future__ import annotations

import csv
from typing import Any, TextIO

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.errors import RequestError
from slurm_gpu_policy.services.ledger.importing import COLUMNS, packed
from slurm_gpu_policy.terminal.text import say, when
from slurm_gpu_policy.units import counted


@click.command("import")
@click.argument("file", type=click.File("r", encoding="utf-8-sig"))
def command(*, file: TextIO) -> None:
    """Grant what the lines of a CSV FILE say (`-`: standard input): all of them, or none.

    Its first line is `account,user,amount,unit,name,start,end,reason`. `unit` is the currency,
    `GPU-hours` or `GPU-seconds`; `user`, `name` (of the budget), `start` and `end` (dates) may be
    empty, as with `gpu-policy budget grant`. Lines that are wrong are named, and nothing is
    written. A file is imported once: the same lines again write nothing. Operators only.
    """
    policy = bootstrap.load_policy()
    answer = bootstrap.ask_ledger(policy, {"request": "import", "rows": packed(rows_of(file))})
    count = counted(len(answer["entries"]), "grant")
    if answer["written"]:
        say(f"imported {count}")
    else:
        say(
            f"these lines were imported on {when(answer['time'])} by "
            f"{answer['entries'][0]['actor']} ({count}): nothing was written again"
        )


def rows_of(file: TextIO) -> list[list[Any]]:
    """Return the rows of a file, each with the number of its line before it.

    Raises:
        RequestError: it is no CSV, or has other columns.
    """
    reader = csv.reader(file, strict=True)
    try:
        titles = next(reader, [])
        if tuple(title.strip().lower() for title in titles) != COLUMNS:
            msg = f"line 1: wanted the columns {','.join(COLUMNS)}"
            raise RequestError(msg)
        rows = [[reader.line_num, *row] for row in reader if row]
    except (csv.Error, UnicodeDecodeError) as error:
        msg = f"line {reader.line_num}: this is no CSV in UTF-8: {error}"
        raise RequestError(msg) from error
    if not rows:
        msg = "the file has no lines below its titles"
        raise RequestError(msg)
    return rows
