"""Tables: drawn by rich on a terminal, plain aligned text everywhere else."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from slurm_gpu_policy.terminal.text import safe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

_GAP = "  "
_LEAST_WRAPPED = 30
"""Cells that a column which breaks lines needs to be read with ease."""
_ZERO_WIDTH = frozenset({"Mn", "Me", "Cf"})
_WIDE = frozenset("WF")


class Column(NamedTuple):
    """A column. ``style`` is rich's, used on a terminal only; ``wraps`` lets it break lines.

    Where a terminal is too narrow, columns with a ``rank`` go, the highest first.
    """

    title: str
    right: bool = False
    style: str = ""
    wraps: bool = False
    rank: int = 0


class Coloured(str):
    """A cell with a style of its own (rich's), used on a terminal only."""

    __slots__ = ("style",)

    style: str

    def __new__(cls, text: str, style: str) -> Self:
        """Return *text*, made safe here, so that no later step makes plain text of it."""
        cell = super().__new__(cls, safe(text))
        cell.style = style
        return cell


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print *rows* under the titles of *columns*; every cell is made safe here."""
    cells = [[safe(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_drawn(columns, cells)
    else:
        print(plain_table(columns, cells))  # noqa: T201 - what this module is for


def plain_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """Return the table as text: columns as wide as their widest cell, two spaces between."""
    lines = [[column.title for column in columns], *rows]
    widths = [max(width(line[place]) for line in lines) for place in range(len(columns))]
    return "\n".join(
        _GAP.join(
            _pad(cell, size, right=column.right)
            for cell, size, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in lines
    )


def width(text: str) -> int:
    """Return how many cells of a terminal *text* takes."""
    if text.isascii():
        return len(text)
    from unicodedata import category, east_asian_width  # noqa: PLC0415 - seldom needed

    return sum(
        0 if category(char) in _ZERO_WIDTH else 2 if east_asian_width(char) in _WIDE else 1
        for char in text
    )


def columns_that_fit(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], cells: int
) -> list[int]:
    """Return the places of the columns to keep on a terminal of so many *cells*."""
    lines = [[column.title for column in columns], *rows]
    widths = [
        min(size, _LEAST_WRAPPED) if column.wraps else size
        for place, column in enumerate(columns)
        for size in [max(width(line[place]) for line in lines)]
    ]
    kept = list(range(len(columns)))
    while sum(widths[place] + len(_GAP) for place in kept) > cells:
        least = max(kept, key=lambda place: columns[place].rank)
        if not columns[least].rank:
            break
        kept.remove(least)
    return kept


def _pad(text: str, size: int, *, right: bool) -> str:
    blank = " " * (size - width(text))
    return blank + text if right else text + blank


def _print_drawn(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    from rich import box  # noqa: PLC0415 - a pipe need not pay for it
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False)
    kept = columns_that_fit(columns, rows, console.width)
    columns = [columns[place] for place in kept]
    rows = [[row[place] for place in kept] for row in rows]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            style=column.style,
            no_wrap=not column.wraps,
            overflow="fold" if column.wraps else "ellipsis",
        )
    for row in rows:
        # Text: "[red]" in a name is no markup
        table.add_row(*(Text(cell, style=getattr(cell, "style", "")) for cell in row))
    console.print(table)
