"""Tables line up whatever is in them, and hide the least important columns first."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.terminal.table import (
    Coloured,
    Column,
    columns_that_fit,
    plain_table,
    print_table,
    width,
)
from slurm_gpu_policy.terminal.text import safe

COLUMNS = (Column("A"), Column("LONG", right=True), Column("C", wraps=True))


def test_a_plain_table_is_aligned():
    assert plain_table(COLUMNS, [("x", "1", "y"), ("xxx", "22", "")]) == (
        "A    LONG  C\nx       1  y\nxxx    22"
    )


def test_wide_letters_count_twice_and_marks_not_at_all():
    assert width("東京") == 4
    assert width("e\u0301") == 1
    assert width("abc") == 3


@given(st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9), st.text(max_size=9))))
def test_each_row_is_one_line(rows):
    cells = [[safe(cell) for cell in row] for row in rows]
    assert len(plain_table(COLUMNS, cells).split("\n")) == len(rows) + 1


def test_columns_go_by_rank_where_there_is_no_room():
    columns = (Column("AAAA"), Column("BBBB", rank=1), Column("CCCC", rank=2))
    rows = [("xxxx", "xxxx", "xxxx")]
    assert columns_that_fit(columns, rows, 80) == [0, 1, 2]
    assert columns_that_fit(columns, rows, 17) == [0, 1]
    assert columns_that_fit(columns, rows, 3) == [0]


def test_a_column_that_breaks_lines_needs_no_more_than_it_can_be_read_in():
    columns = (Column("A"), Column("W", wraps=True), Column("C", rank=1))
    assert columns_that_fit(columns, [("x", "w" * 500, "c")], 80) == [0, 1, 2]


def test_on_a_terminal_a_name_is_no_markup(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table(COLUMNS, [("[red]x[/red]", "1", "\x1b[31m")])
    out = capsys.readouterr().out
    assert "[red]x[/red]" in out
    assert r"\x1b[31m" in out


def test_a_coloured_cell_is_safe_and_plain_outside_a_terminal(capsys):
    print_table([Column("A")], [[Coloured("over\x1b[2J", "red")]])
    assert capsys.readouterr().out == "A\nover\\x1b[2J\n"
    assert Coloured("over", "red").style == "red"
