"""Sums over entries that cannot overflow: SQLite refuses one of more than 64 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def halves_of(expression: str) -> str:
    """Return the two halves of a sum; see :func:`whole`."""
    return (
        f"coalesce(sum(({expression}) / 4294967296), 0), "
        f"coalesce(sum(({expression}) % 4294967296), 0)"
    )


def whole(high: Any, low: Any) -> int:
    """Return the sum that two halves are of; PostgreSQL gives them as decimals."""
    return int(high) * 4294967296 + int(low)


class Sums:
    """Sums of entries by fund and move."""

    def __init__(self, rows: Iterable[Any]) -> None:
        self._rows: dict[int, list[tuple[str, str, str, int, int]]] = {}
        for fund_id, kind, source, target, count, high, low in rows:
            move = (kind, source, target, count, whole(high, low))
            self._rows.setdefault(fund_id, []).append(move)

    def fund_ids(self) -> set[int]:
        """Return the funds that have entries."""
        return set(self._rows)

    def entries(self, fund_id: int) -> int:
        """Return how many entries a fund has."""
        return sum(move[3] for move in self._rows.get(fund_id, ()))

    def bucket(self, fund_id: int, bucket: str) -> int:
        """Return what came into a bucket of a fund, less what left it."""
        return sum(
            amount * ((target == bucket) - (source == bucket))
            for _, source, target, _, amount in self._rows.get(fund_id, ())
        )

    def moves(self) -> Iterator[tuple[int, str, str, str, int]]:
        """Yield fund, kind, source, target, and how many entries are so."""
        for fund_id, moves in self._rows.items():
            for kind, source, target, count, _ in moves:
                yield fund_id, kind, source, target, count
