"""Reads the ledger's tables: implements BooksView (services/ledger/books.py)."""

from __future__ import annotations

import heapq
from itertools import groupby, islice
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, or_, select

from slurm_gpu_policy.adapters.database.books_rows import (
    CLAIM_COLUMNS,
    LARGEST,
    LEG_COLUMNS,
    claim_of,
    columns,
    entry_of,
    fund_of,
    possible,
    tariffs_of,
)
from slurm_gpu_policy.adapters.database.bulk import MANY, among, batches
from slurm_gpu_policy.adapters.database.tables import (
    CLAIMS,
    ENTRIES,
    FUNDS,
    LEGS,
    MARKS,
    PRICE_BOOKS,
    storable,
)
from slurm_gpu_policy.model.ledger import FundView, Leg

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.engine import Connection

    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.ledger import Claim, Entry, Fund, Kind
    from slurm_gpu_policy.model.prices import Tariff

_FEW_FUNDS = 8
"""Of so many funds entries are read one fund at a time, by their index, and merged."""

_CLAIM = select(CLAIMS.c.claim_id, *columns(CLAIMS, CLAIM_COLUMNS))
_LEG = select(*columns(LEGS, LEG_COLUMNS))
_ENTRY = (
    select(
        ENTRIES,
        func.coalesce(CLAIMS.c.account, FUNDS.c.account).label("account"),
        func.coalesce(CLAIMS.c.user_name, FUNDS.c.user_name).label("user_name"),
        CLAIMS.c.job_id,
        CLAIMS.c.submit_time,
        func.coalesce(CLAIMS.c.restart, 0).label("restart"),
    )
    .select_from(ENTRIES)
    .outerjoin(CLAIMS, CLAIMS.c.claim_id == ENTRIES.c.claim_id)
    .join(FUNDS, FUNDS.c.fund_id == ENTRIES.c.fund_id)
)


class StoredBooksView:
    """The books of one cluster as a transaction sees them."""

    def __init__(self, connection: Connection, cluster: str) -> None:
        self._connection = connection
        self._cluster = cluster

    def tariffs(self) -> tuple[tuple[int, tuple[Tariff, ...]], ...]:
        """Return the price books in the order in which they were recorded."""
        question = select(PRICE_BOOKS.c.since, PRICE_BOOKS.c.tariffs).where(
            PRICE_BOOKS.c.cluster == self._cluster
        )
        rows = self._connection.execute(question.order_by(PRICE_BOOKS.c.book_id))
        return tuple((row.since, tariffs_of(row.tariffs)) for row in rows)

    def funds(self, *, open_only: bool = False) -> tuple[Fund, ...]:
        """Return the funds with their balances, by id."""
        question = select(FUNDS).where(FUNDS.c.cluster == self._cluster).order_by(FUNDS.c.fund_id)
        if open_only:
            question = question.where(FUNDS.c.closed.is_(False))
        return tuple(map(fund_of, self._connection.execute(question)))

    def views(self, fund_ids: Collection[int]) -> tuple[FundView, ...]:
        """Return how these funds stand, by id."""
        found: list[FundView] = []
        for some in batches(sorted(set(possible(fund_ids)))):
            question = select(FUNDS).where(
                FUNDS.c.cluster == self._cluster, among(self._connection, FUNDS.c.fund_id, some)
            )
            found += [
                FundView(fund_of(row), row.spent, row.in_flight, row.reserved - row.in_flight)
                for row in self._connection.execute(question.order_by(FUNDS.c.fund_id))
            ]
        return tuple(found)

    def open_claims(self) -> tuple[Claim, ...]:
        """Return the claims that have not ended, with their legs, oldest first."""
        is_open = CLAIMS.c.state != "ended"
        return tuple(self._with_legs(is_open))

    def claims(self, runs: Collection[tuple[JobId, int]]) -> tuple[Claim, ...]:
        """Return the claims of these runs, with their legs, in any state."""
        wanted = set(runs)
        found = [
            claim
            for some in batches(possible({job_id for job_id, _ in wanted}))
            for claim in self._with_legs(among(self._connection, CLAIMS.c.job_id, some))
            if (claim.job_id, claim.submit_time) in wanted
        ]
        return tuple(sorted(found, key=attrgetter("claim_id")))

    def claims_of(self, job_id: JobId) -> tuple[Claim, ...]:
        """Return all runs of a job, oldest first."""
        return tuple(self._with_legs(CLAIMS.c.job_id == job_id)) if possible((job_id,)) else ()

    def claims_between(self, start: int, end: int) -> Iterator[Claim]:
        """Yield the claims whose runs overlap [start, end), by id, a batch at a time."""
        low, high = _nearest(start), _nearest(end)
        # Two questions, each answered by an index; a run of no length counts as one second.
        ended = and_(
            CLAIMS.c.end_time >= low, or_(CLAIMS.c.end_time > low, CLAIMS.c.start_time >= low)
        )
        ids: list[int] = []
        for fits in (ended, CLAIMS.c.end_time.is_(None)):
            question = select(CLAIMS.c.claim_id).where(
                CLAIMS.c.cluster == self._cluster, CLAIMS.c.start_time < high, fits
            )
            ids += self._connection.execute(question).scalars()
        for some in batches(sorted(ids)):
            yield from self._with_legs(among(self._connection, CLAIMS.c.claim_id, some))

    def promise(self, token: str) -> Claim | None:
        """Return the claim with this token, with or without a job."""
        if not token:
            return None
        found = list(self._with_legs(CLAIMS.c.token != "", CLAIMS.c.token == storable(token)))
        waiting = [claim for claim in found if claim.job_id is None]
        return next(iter(waiting or found), None)

    def count_promises(self, user: str) -> int:
        """Return how many promises of a user wait for their jobs."""
        question = select(func.count()).where(
            CLAIMS.c.cluster == self._cluster,
            CLAIMS.c.user_name == storable(user),
            CLAIMS.c.state == "promised",
            CLAIMS.c.job_id.is_(None),
        )
        return self._connection.execute(question).scalar_one()

    def entries(  # noqa: PLR0913 - filters, by name
        self,
        *,
        fund_ids: Collection[int] | None = None,
        claim_id: int | None = None,
        kinds: Collection[Kind] | None = None,
        since: int | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> Iterator[Entry]:
        """Yield the entries that fit, oldest first."""
        question = _ENTRY.where(ENTRIES.c.cluster == self._cluster)
        if claim_id is not None:
            question = question.where(ENTRIES.c.claim_id == _nearest(claim_id))
        if kinds is not None:
            question = question.where(ENTRIES.c.kind.in_(sorted(kinds)))
        if since is not None:
            question = question.where(ENTRIES.c.time >= _nearest(since))
        found = self._entries(question, fund_ids, _nearest(after))
        return islice(found, None if limit is None else max(limit, 0))

    def count_entries(self) -> int:
        """Return how many entries there are."""
        question = select(func.coalesce(func.sum(FUNDS.c.entries), 0))
        found = self._connection.execute(question.where(FUNDS.c.cluster == self._cluster))
        return int(found.scalar_one())

    def mark(self, name: str) -> int | None:
        """Return a number that was kept, ``None`` if none was."""
        question = select(MARKS.c.value).where(
            MARKS.c.cluster == self._cluster, MARKS.c.name == storable(name)
        )
        return self._connection.execute(question).scalar()

    def marks(self, prefix: str) -> Mapping[str, int]:
        """Return all numbers kept under names that begin so."""
        start = storable(prefix)
        question = select(MARKS.c.name, MARKS.c.value).where(
            MARKS.c.cluster == self._cluster, func.substr(MARKS.c.name, 1, len(start)) == start
        )
        return {row.name: row.value for row in self._connection.execute(question)}

    def _with_legs(self, *fits: ColumnElement[bool]) -> Iterator[Claim]:
        """Yield the claims that fit, by id."""
        question = _CLAIM.where(CLAIMS.c.cluster == self._cluster, *fits)
        rows = self._connection.execute(question.order_by(CLAIMS.c.claim_id)).all()
        legs = self._legs(*fits) if rows else {}
        for claim_id, *values in rows:
            yield claim_of(claim_id, values, legs.get(claim_id, ()))

    def _legs(self, *fits: ColumnElement[bool]) -> dict[int, tuple[Leg, ...]]:
        """Return the legs of the claims that fit."""
        question = (
            _LEG.join(CLAIMS, CLAIMS.c.claim_id == LEGS.c.claim_id)
            .where(CLAIMS.c.cluster == self._cluster, *fits)
            .order_by(LEGS.c.claim_id, LEGS.c.fund_id)
        )
        rows = self._connection.execute(question)
        return {
            claim_id: tuple([Leg(*values) for _, *values in some])
            for claim_id, some in groupby(rows, key=itemgetter(0))
        }

    def _entries(
        self, question: Select[Any], fund_ids: Collection[int] | None, after: int
    ) -> Iterator[Entry]:
        if fund_ids is None:
            return self._pages(question, after)
        wanted = sorted(set(possible(fund_ids)))
        if len(wanted) > _FEW_FUNDS:
            rest = set(wanted)
            found = self._pages(question, after)
            return (entry for entry in found if entry.posting.fund_id in rest)
        pages = [self._pages(question.where(ENTRIES.c.fund_id == one), after) for one in wanted]
        return heapq.merge(*pages, key=attrgetter("entry_id"))

    def _pages(self, question: Select[Any], after: int) -> Iterator[Entry]:
        """Yield what a question finds, by id; each page is a question of its own, in bounded time.

        So one may read on for as long as one likes, and ask and write other things in between.
        """
        page = question.order_by(ENTRIES.c.entry_id).limit(MANY)
        while True:
            rows = self._connection.execute(page.where(ENTRIES.c.entry_id > after)).all()
            yield from map(entry_of, rows)
            if len(rows) < MANY:
                return
            after = rows[-1].entry_id


def _nearest(number: int) -> int:
    return max(-LARGEST, min(LARGEST, number))
