"""CSV that a spreadsheet may open: no cell of anybody's text becomes a formula."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Final, TextIO

from slurm_gpu_policy.terminal.text import safe

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes a cell for a formula by."""


def as_text(text: str) -> str:
    """Return a cell of somebody's text: a formula gets a quote before it; no control characters."""
    return safe(f"'{text}" if text.startswith(_FORMULA) else text)


class CsvTable:
    """Writes rows; *texts* are the places of the columns that hold somebody's text."""

    def __init__(self, out: TextIO, titles: Sequence[str], texts: Iterable[str]) -> None:
        self._writer = csv.writer(out, lineterminator="\n")
        self._texts = [title in {*texts} for title in titles]
        self._writer.writerow(titles)

    def add(self, cells: Iterable[object]) -> None:
        """Write a row; ``None`` is an empty cell."""
        self._writer.writerow(
            "" if cell is None else as_text(str(cell)) if is_text else cell
            for cell, is_text in zip(cells, self._texts, strict=True)
        )
