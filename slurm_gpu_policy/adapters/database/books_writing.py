"""Writes the ledger's tables: implements :class:`slurm_gpu_policy.services.ledger.books.Books`.

Sums are made here, not in SQL: SQLite would turn one that is too large into a float. Nobody else
writes meanwhile (ledger.py), so what was read stays true until it is written back.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from slurm_gpu_policy.adapters.database.books_balance import BALANCES, Balance, Changes
from slurm_gpu_policy.adapters.database.books_reading import StoredBooksView
from slurm_gpu_policy.adapters.database.books_rows import (
    CLAIM_COLUMNS,
    LEG_COLUMNS,
    changeable,
    claim_values,
    columns,
    fund_of,
    fund_values,
    need_small,
    new_claim,
    possible,
    tariffs_text,
)
from slurm_gpu_policy.adapters.database.bulk import (
    among,
    batches,
    insert_rows,
    new_ids,
    update_rows,
)
from slurm_gpu_policy.adapters.database.tables import (
    CLAIMS,
    ENTRIES,
    FUNDS,
    LEGS,
    MARKS,
    PRICE_BOOKS,
    storable,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.engine import Connection

    from slurm_gpu_policy.model.ledger import Claim, ClaimState, Fund, Posting
    from slurm_gpu_policy.model.prices import Tariff

_STATE: Final = CLAIM_COLUMNS.index("state")
_RUN: Final = slice(CLAIM_COLUMNS.index("job_id"), CLAIM_COLUMNS.index("submit_time") + 1)
_PERIOD: Final = ("budget", "account", "user_name", "begins")
_ENTRY_COLUMNS: Final = (
    *("cluster", "time", "kind", "fund_id", "source", "target", "amount"),
    *("gpu_seconds", "rule", "actor", "reason", "batch", "claim_id", "sequence"),
)


class StoredBooks(StoredBooksView):
    """The books of one cluster in a transaction that is the only one to write in them."""

    def __init__(self, connection: Connection, cluster: str) -> None:
        super().__init__(connection, cluster)
        self._new: dict[int, ClaimState] = {}  # claims of this block, with nothing posted yet

    def record_tariffs(self, since: int, tariffs: Sequence[Tariff]) -> None:
        """Record the price book that is in force from *since* on."""
        need_small((since,), "a price book")
        row = {"cluster": self._cluster, "since": since, "tariffs": tariffs_text(tariffs)}
        self._connection.execute(insert(PRICE_BOOKS).values(row))

    def open_funds(self, funds: Sequence[Fund]) -> tuple[Fund, ...]:
        """Add funds, with all balances 0; one that is there already is returned as it stands."""
        rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        for row in map(fund_values, funds):
            rows.setdefault(_period(row), row)
        known = self._funds_of(rows)
        new = [row for period, row in rows.items() if period not in known]
        if new:
            ids = new_ids(self._connection, FUNDS, len(new))
            names = ("fund_id", "cluster", *new[0])
            values = [
                (fund_id, self._cluster, *row.values())
                for fund_id, row in zip(ids, new, strict=True)
            ]
            insert_rows(self._connection, FUNDS, names, values)
            known = self._funds_of(rows)
        return tuple(known[_period(fund_values(fund))] for fund in funds)

    def change_funds(self, funds: Sequence[Fund]) -> None:
        """Change what is no balance: end, position, overdraft, soft, closed, unlimited."""
        changes = {}
        for fund in funds:
            need_small((fund.end, fund.position, fund.overdraft, fund.soft), f"fund {fund.fund_id}")
            changes[fund.fund_id] = changeable(fund)
        self._balances(changes)  # raises where one does not exist
        if changes:
            rows = [(fund_id, *change.values()) for fund_id, change in changes.items()]
            update_rows(self._connection, FUNDS, tuple(changeable(funds[0])), rows)

    def save(self, claims: Sequence[Claim]) -> tuple[Claim, ...]:
        """Add the claims without an id, change the others."""
        values = list(map(claim_values, claims))
        places = [place for place, claim in enumerate(claims) if not claim.claim_id]
        ids = new_ids(self._connection, CLAIMS, len(places)) if places else ()
        given = {claim.claim_id: row for claim, row in zip(claims, values, strict=True)}
        saved = list(claims)
        rows = []
        for place, claim_id in zip(places, ids, strict=True):
            rows.append((claim_id, self._cluster, *values[place]))
            saved[place] = new_claim(claims[place], claim_id)
            self._new[claim_id] = claims[place].state
        given.pop(0, None)
        try:
            # Changes first: a promise that becomes a run makes room for another of its token.
            self._change(given)
            insert_rows(self._connection, CLAIMS, ("claim_id", "cluster", *CLAIM_COLUMNS), rows)
        except IntegrityError as error:
            msg = f"a claim cannot be kept: {' '.join(str(error.orig).split())}"
            raise ValueError(msg) from error
        return tuple(saved)

    def post(self, now: int, postings: Sequence[Posting]) -> None:
        """Write entries, with the balances and legs that follow from them."""
        need_small((now,), "the time of an entry")
        claim_ids = {one.claim_id for one in postings if one.claim_id is not None}
        changes = Changes(
            balances=self._balances({one.fund_id for one in postings}),
            states=self._states(claim_ids),
            legs=self._kept_legs(claim_ids - self._new.keys()),
            counts=self._counts(claim_ids - self._new.keys()),
        )
        rows = []
        for posting in postings:
            sequence = changes.add(posting)
            rows.append(self._entry_row(now, posting, sequence))
        for claim_id in claim_ids:
            self._new.pop(claim_id, None)
        insert_rows(self._connection, ENTRIES, _ENTRY_COLUMNS, rows)
        insert_rows(self._connection, LEGS, LEG_COLUMNS, changes.changed_legs(), replacing=True)
        update_rows(self._connection, FUNDS, BALANCES, changes.changed_balances())

    def set_mark(self, name: str, value: int) -> None:
        """Keep a number under a name."""
        need_small((value,), "a mark")
        dialect: Any = sqlite if self._connection.dialect.name == "sqlite" else postgresql
        row = {"cluster": self._cluster, "name": storable(name), "value": value}
        change = dialect.insert(MARKS).values(row)
        key = [MARKS.c.cluster, MARKS.c.name]
        self._connection.execute(
            change.on_conflict_do_update(index_elements=key, set_={"value": value})
        )

    def _funds_of(self, periods: Iterable[tuple[Any, ...]]) -> dict[tuple[Any, ...], Fund]:
        """Return the funds there are of these (budget, account, user, start)."""
        wanted = set(periods)
        found = {}
        for some in batches({period[0] for period in wanted}):
            question = select(FUNDS).where(
                FUNDS.c.cluster == self._cluster, among(self._connection, FUNDS.c.budget, some)
            )
            for row in self._connection.execute(question):
                period = tuple(getattr(row, name) for name in _PERIOD)
                if period in wanted:
                    found[period] = fund_of(row)
        return found

    def _change(self, given: dict[int, tuple[Any, ...]]) -> None:
        """Write what differs of claims that are there; most often that is what they have cost."""
        found: dict[int, tuple[Any, ...]] = {}
        for some in batches(possible(given)):
            question = select(CLAIMS.c.claim_id, *columns(CLAIMS, CLAIM_COLUMNS)).where(
                CLAIMS.c.cluster == self._cluster, among(self._connection, CLAIMS.c.claim_id, some)
            )
            found.update((row[0], tuple(row[1:])) for row in self._connection.execute(question))
        alike: dict[tuple[int, ...], list[tuple[Any, ...]]] = defaultdict(list)
        turned: dict[int, int] = {}
        for claim_id, values in given.items():
            old = found.get(claim_id)
            if old is None:
                msg = f"there is no claim {claim_id}"
                raise ValueError(msg)
            if old == values:
                continue
            if old[_RUN] != values[_RUN] and old[_RUN] != (None, None):
                msg = f"claim {claim_id} cannot become another run's"
                raise ValueError(msg)
            changed = tuple([place for place, value in enumerate(values) if value != old[place]])
            alike[changed].append((claim_id, *[values[place] for place in changed]))
            if _STATE in changed:
                turned[claim_id] = (values[_STATE] == "running") - (old[_STATE] == "running")
                if claim_id in self._new:
                    self._new[claim_id] = values[_STATE]
        for places, rows in alike.items():
            names = [CLAIM_COLUMNS[place] for place in places]
            update_rows(self._connection, CLAIMS, names, rows)
        self._turn(turned)

    def _turn(self, turned: dict[int, int]) -> None:
        """Count what is set aside for claims as in flight (1), or no longer (-1)."""
        moved: dict[int, int] = defaultdict(int)
        for some in batches(claim_id for claim_id, sign in turned.items() if sign):
            question = select(LEGS.c.claim_id, LEGS.c.fund_id, LEGS.c.reserved)
            question = question.where(
                among(self._connection, LEGS.c.claim_id, some), LEGS.c.reserved > 0
            )
            for claim_id, fund_id, reserved in self._connection.execute(question):
                moved[fund_id] += turned[claim_id] * reserved
        balances = self._balances(moved)
        rows = [(fund_id, balances[fund_id].in_flight + more) for fund_id, more in moved.items()]
        update_rows(self._connection, FUNDS, ("in_flight",), rows)

    def _balances(self, fund_ids: Iterable[int]) -> dict[int, Balance]:
        wanted = set(fund_ids)
        found: dict[int, Balance] = {}
        for some in batches(possible(wanted)):
            question = select(FUNDS.c.fund_id, *columns(FUNDS, BALANCES)).where(
                FUNDS.c.cluster == self._cluster, among(self._connection, FUNDS.c.fund_id, some)
            )
            found.update((row[0], Balance(*row[1:])) for row in self._connection.execute(question))
        for fund_id in wanted - found.keys():
            msg = f"there is no fund {fund_id}"
            raise ValueError(msg)
        return found

    def _states(self, claim_ids: set[int]) -> dict[int, ClaimState]:
        found = {one: self._new[one] for one in claim_ids if one in self._new}
        for some in batches(possible(claim_ids - found.keys())):
            question = select(CLAIMS.c.claim_id, CLAIMS.c.state).where(
                CLAIMS.c.cluster == self._cluster, among(self._connection, CLAIMS.c.claim_id, some)
            )
            found.update((row[0], row[1]) for row in self._connection.execute(question))
        for claim_id in claim_ids - found.keys():
            msg = f"there is no claim {claim_id}"
            raise ValueError(msg)
        return found

    def _kept_legs(self, claim_ids: Iterable[int]) -> dict[tuple[int, int], tuple[int, ...]]:
        found = {}
        for some in batches(claim_ids):
            question = select(*columns(LEGS, LEG_COLUMNS)).where(
                among(self._connection, LEGS.c.claim_id, some)
            )
            for claim_id, fund_id, *numbers in self._connection.execute(question):
                found[claim_id, fund_id] = tuple(numbers)
        return found

    def _counts(self, claim_ids: Iterable[int]) -> dict[tuple[int, int, str], int]:
        found = {}
        key = (ENTRIES.c.claim_id, ENTRIES.c.fund_id, ENTRIES.c.kind)
        for some in batches(claim_ids):
            question = select(*key, func.count()).where(
                among(self._connection, ENTRIES.c.claim_id, some)
            )
            for *of, count in self._connection.execute(question.group_by(*key)):
                found[tuple(of)] = count
        return found

    def _entry_row(self, now: int, posting: Posting, sequence: int) -> tuple[Any, ...]:
        return (
            self._cluster,
            now,
            posting.kind,
            posting.fund_id,
            posting.source,
            posting.target,
            posting.amount,
            posting.gpu_seconds,
            storable(posting.rule),
            storable(posting.actor),
            storable(posting.reason),
            storable(posting.batch),
            posting.claim_id,
            sequence,
        )


def _period(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in _PERIOD)
