"""Many rows at once: SQLite compiles a statement once for all of them, PostgreSQL gets one array a
column that differs. Both take a few microseconds a row; a statement for each takes a hundred.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ARRAY, BigInteger, Boolean, Text, any_, bindparam, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import ColumnElement, Table
    from sqlalchemy.engine import Connection

MANY = 1000
"""Values in one question; a database takes some ten thousands at most."""


def among(connection: Connection, column: Any, values: Sequence[Any]) -> ColumnElement[bool]:
    """Return the condition that a column has one of some values, as the database likes it best.

    PostgreSQL plans a list of a thousand parameters anew each time, and its driver reads it letter
    by letter; one array is neither.
    """
    if connection.dialect.name == "sqlite":
        return column.in_(values)  # type: ignore[no-any-return]
    kind = BigInteger if isinstance(column.type, BigInteger) else Text
    return column == any_(bindparam(None, values, type_=ARRAY(kind)))  # type: ignore[no-any-return]


def new_ids(connection: Connection, table: Table, count: int) -> Sequence[int]:
    """Return *count* ids, ascending, that no row has had; who asks is the only writer.

    On PostgreSQL of its cluster: another cluster's writers may take ids in between.
    """
    (key,) = table.primary_key.columns
    if connection.dialect.name == "sqlite":
        found = connection.execute(text(f"SELECT max({key.name}) FROM {table.name}")).scalar()  # noqa: S608 - our names
        first = (found or 0) + 1
        return range(first, first + count)
    question = text(
        f"SELECT nextval('{table.name}_{key.name}_seq') FROM generate_series(1, :count)"  # noqa: S608 - our names
    )
    return sorted(connection.execute(question, {"count": count}).scalars())


def insert_rows(
    connection: Connection,
    table: Table,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    replacing: bool = False,
) -> None:
    """Add rows; with *replacing*, where one has the same primary key, change that one."""
    if not rows:
        return
    names = ", ".join(f'"{name}"' for name in columns)
    conflict = ""
    if replacing:
        keys = [column.name for column in table.primary_key.columns]
        changed = ", ".join(f'"{name}" = excluded."{name}"' for name in columns if name not in keys)
        conflict = f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changed}"
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(columns))
        statement = f"INSERT INTO {table.name} ({names}) VALUES ({marks}){conflict}"  # noqa: S608 - our names
        connection.exec_driver_sql(statement, [tuple(row) for row in rows])
        return
    given, values = _given(table, columns, rows)
    connection.exec_driver_sql(f"INSERT INTO {table.name} ({names}) {given}{conflict}", values)


def update_rows(
    connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Set *columns* of rows; the first value of each of *rows* is its primary key."""
    if not rows:
        return
    (key,) = (column.name for column in table.primary_key.columns)
    if connection.dialect.name == "sqlite":
        changed = ", ".join(f'"{name}" = ?' for name in columns)
        connection.exec_driver_sql(
            f"UPDATE {table.name} SET {changed} WHERE {key} = ?",  # noqa: S608 - our names
            [(*row[1:], row[0]) for row in rows],
        )
        return
    changed = ", ".join(f'"{name}" = given."{name}"' for name in columns)
    given, values = _given(table, (key, *columns), rows)
    connection.exec_driver_sql(
        f"UPDATE {table.name} SET {changed} FROM ({given}) AS given "  # noqa: S608 - our names
        f"WHERE {table.name}.{key} = given.{key}",
        values,
    )


def batches(values: Iterable[Any]) -> Iterator[list[Any]]:
    """Yield *values* in lists that one question may hold."""
    found = list(values)
    for start in range(0, len(found), MANY):
        yield found[start : start + MANY]


def _given(
    table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> tuple[str, tuple[Any, ...]]:
    """Return the question that has *rows* as its answer, and its parameters.

    A column that is the same in all of them, as most of an entry's are, is sent once.
    """
    selected, names, arrays, same, differing = [], [], [], [], []
    for name, column in zip(columns, zip(*rows, strict=True), strict=True):
        kind = _type_of(table, name)
        if name not in table.primary_key.columns and column.count(column[0]) == len(column):
            selected.append(f'%s::{kind} AS "{name}"')
            same.append(column[0])
        else:
            selected.append(f'"{name}"')
            names.append(f'"{name}"')
            arrays.append(f"%s::{kind}[]")
            differing.append(_array(column))
    source = f"unnest({', '.join(arrays)}) AS of_rows ({', '.join(names)})"
    if not arrays:
        source = f"generate_series(1, {len(rows)})"
    return f"SELECT {', '.join(selected)} FROM {source}", (*same, *differing)  # noqa: S608 - our names


def _type_of(table: Table, name: str) -> str:
    kind = table.c[name].type
    if isinstance(kind, BigInteger):
        return "bigint"
    return "boolean" if isinstance(kind, Boolean) else "text"


def _array(values: tuple[Any, ...]) -> str:
    """Return an array as PostgreSQL writes it; its driver takes ten times as long to."""
    if isinstance(values[0], str):  # such a column has no NULL
        quoted = [value.replace("\\", "\\\\").replace('"', '\\"') for value in values]
        return '{"' + '","'.join(quoted) + '"}'
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"
