"""Many grants at once, from a table: all of them or none, and each table once."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any, Final, TypeVar

from slurm_gpu_policy.errors import RequestError
from slurm_gpu_policy.policy.prices.timetable import moment
from slurm_gpu_policy.services.ledger import asked as fields
from slurm_gpu_policy.services.ledger.entries import written_json
from slurm_gpu_policy.services.ledger.granting import (
    ByLevel,
    Gift,
    given,
    need_known,
    need_operator,
)
from slurm_gpu_policy.units import parse_gpu_hours, parse_money

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.caller import Caller
    from slurm_gpu_policy.model.ledger import Posting
    from slurm_gpu_policy.model.prices import Unit
    from slurm_gpu_policy.services.ledger.books import Books
    from slurm_gpu_policy.services.ledger.membership import Membership
    from slurm_gpu_policy.services.ledger.writing import Writing

T = TypeVar("T")
R = TypeVar("R")
COLUMNS: Final = ("account", "user", "amount", "unit", "name", "start", "end", "reason")
_MOST_ROWS: Final = 10_000
_MOST_PROBLEMS: Final = 20
_MOST_BYTES: Final = 4 * 1024 * 1024


class Importing:
    """Answers ``import``; operators only."""

    def __init__(
        self, writing: Writing, membership: Membership, policy: Callable[[], Policy]
    ) -> None:
        self._writing = writing
        self._membership = membership
        self._policy = policy

    def take(self, caller: Caller, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Grant what each of ``rows`` says: lists of texts as in COLUMNS, the line before them.

        They come as they are or, since a request is short, as :func:`packed` makes them.

        A table whose rows were imported before, by whomever, is not imported again: ``written``
        of the answer is false. What tells it is a checksum of its rows, which is kept as their
        entries' batch.

        Raises:
            NotAllowed: the caller is no operator.
            RequestError: rows that are wrong, by line; nothing was written.
        """
        policy = self._policy()
        need_operator(self._membership.rights(caller, policy), "import grants")
        rows = asked.get("rows")
        if isinstance(rows, str):
            rows = _unpacked(rows)
        if not isinstance(rows, list) or not 0 < len(rows) <= _MOST_ROWS:
            msg = f"rows: wanted a list of 1 to {_MOST_ROWS} rows"
            raise RequestError(msg)
        gifts = _each(rows, lambda row: _gift(row, policy))
        known = [self._membership.has(gift.account, gift.user) for gift in gifts]
        batch, checksum = _digest(rows)

        def decide(books: Books, batch: str, now: int) -> Sequence[Posting]:
            levels = ByLevel(books)

            def post(numbered: tuple[Gift, bool]) -> Posting:
                gift, is_known = numbered
                if not is_known:
                    need_known(levels, gift)
                return given(levels, gift, caller.user, batch, now, policy.currency)

            pairs = list(zip(gifts, known, strict=True))
            return _each(pairs, post, [row[0] for row in rows])

        return written_json(self._writing.once_as(batch, checksum, decide))


def packed(rows: Sequence[Sequence[Any]]) -> str:
    """Return rows as a short text."""
    return b64encode(zlib.compress(json.dumps(rows).encode("ascii"), 9)).decode("ascii")


def _unpacked(text: str) -> Any:
    """Return the rows; never more than some megabytes, whatever the text says.

    Raises:
        RequestError: they are no rows, or too many.
    """
    reader = zlib.decompressobj()
    try:
        found = reader.decompress(b64decode(text, validate=True), _MOST_BYTES)
        if reader.eof and not reader.unused_data:
            return json.loads(found)
    except (ValueError, RecursionError, zlib.error):
        pass
    msg = "rows: they cannot be read, or are too many: import them in several parts"
    raise RequestError(msg)


def _each(
    items: Sequence[T], make: Callable[[T], R], lines: Sequence[Any] | None = None
) -> list[R]:
    """Make something of each row, or say of all that are wrong which they are.

    Raises:
        RequestError: with a line of text for each of them.
    """
    made, problems = [], []
    for place, item in enumerate(items):
        line = lines[place] if lines is not None else _line(item)
        try:
            made.append(make(item))
        except RequestError as error:
            problems.append(f"line {line}: {error}")
    if problems:
        more = len(problems) - _MOST_PROBLEMS
        shown = [*problems[:_MOST_PROBLEMS], *([f"and {more} more"] if more > 0 else ())]
        msg = "nothing was imported:\n" + "\n".join(shown)
        raise RequestError(msg)
    return made


def _line(row: object) -> object:
    return row[0] if isinstance(row, list) and row and isinstance(row[0], int) else "?"


def _gift(row: object, policy: Policy) -> Gift:
    """Return what a row grants."""
    if not (
        isinstance(row, list)
        and len(row) == len(COLUMNS) + 1
        and isinstance(row[0], int)
        and all(isinstance(cell, str) for cell in row[1:])
    ):
        msg = f"wanted {len(COLUMNS)} columns: {', '.join(COLUMNS)}"
        raise RequestError(msg)
    cells = dict(zip(COLUMNS, (cell.strip() for cell in row[1:]), strict=True))
    unit = _unit(cells["unit"], policy)
    return Gift(
        fields.needed("account", fields.account(cells)),
        fields.name(cells, "user"),
        fields.name(cells, "name"),
        _amount(cells["amount"], cells["unit"], unit),
        unit,
        _moment(cells, "start", policy),
        _moment(cells, "end", policy),
        fields.reason(cells),
    )


def _unit(text: str, policy: Policy) -> Unit:
    if text.lower() in {"money", policy.currency.lower()}:
        return "money"
    if text.lower() in {"gpu-hours", "gpu-seconds"}:
        return "gpu_seconds"
    msg = f"unit: {text!r} is none: wanted {policy.currency}, GPU-hours or GPU-seconds"
    raise RequestError(msg)


def _amount(text: str, unit_text: str, unit: Unit) -> int:
    if unit == "money":
        value = parse_money(text)
    elif unit_text.lower() == "gpu-hours":
        value = parse_gpu_hours(text)
    else:
        value = int(text) if text.isascii() and text.isdecimal() else 0
    return fields.amount({"amount": str(value)})


def _moment(cells: Mapping[str, str], column: str, policy: Policy) -> int | None:
    text = cells[column]
    if not text:
        return None
    try:
        if re.fullmatch(r"[0-9-]{10}(T[0-9:]{5,8})?", text, re.ASCII):
            return moment(text, policy.pricing.timezone if policy.pricing else "UTC")
    except (ValueError, OverflowError):
        pass
    msg = f"{column}: {text!r} is no date: write it as 2030-01-31 or 2030-01-31T08:00"
    raise RequestError(msg)


def _digest(rows: Sequence[Sequence[Any]]) -> tuple[str, int]:
    """Return the batch that the rows are, whatever lines they stood on, and a checksum."""
    text = json.dumps([[cell.strip() for cell in row[1:]] for row in rows])
    digest = hashlib.sha256(text.encode("ascii"))
    return f"import:{digest.hexdigest()[:32]}", int.from_bytes(digest.digest()[-6:], "big")
