"""Writing into the books by hand: once, whoever repeats a request whose answer was lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from slurm_gpu_policy.errors import RequestError
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.services.ledger import asked as fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from slurm_gpu_policy.model.caller import Caller
    from slurm_gpu_policy.model.ledger import Entry, Fund, Posting
    from slurm_gpu_policy.services.ledger.books import Books, BooksView, LedgerPort
    from slurm_gpu_policy.services.ports import Clock

_PAGE: Final = 1000


@record
class Written:
    """What a request that writes has left in the books."""

    anew: bool
    """``False`` where an earlier one with the same id had done it."""
    time: int
    """Unix seconds when it was written."""
    entries: tuple[Entry, ...]
    funds: Mapping[int, Fund]


class Writing:
    """Takes each request that writes once.

    Its id is the caller's own: two people who make up the same one do not meet. Kept with it are
    the id of its first entry and a checksum of what was asked.
    """

    def __init__(self, ledger: LedgerPort, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    def once(
        self,
        caller: Caller,
        asked: Mapping[str, Any],
        decide: Callable[[Books, str, int], Sequence[Posting]],
    ) -> Written:
        """Post what ``decide(books, batch, now)`` returns, unless it was done before.

        *decide* may refuse by raising; then nothing is written.

        Raises:
            RequestError: the same id came with another request before.
        """
        batch = f"{caller.user_id}:{fields.request_id(asked)}"
        return self.once_as(batch, _checksum(asked), decide)

    def once_as(
        self,
        batch: str,
        checksum: int,
        decide: Callable[[Books, str, int], Sequence[Posting]],
    ) -> Written:
        """Do as :meth:`once`, for a *batch* of one's own, which is its id."""
        now = self._clock.now()
        with self._ledger.writing() as books:
            first = books.mark(f"asked:{batch}")
            if first is not None:
                if books.mark(f"of:{batch}") != checksum:
                    msg = "id: it was the id of another request: make a new one for this"
                    raise RequestError(msg)
                return _written(books, batch, first, anew=False)
            postings = decide(books, batch, now)
            books.post(now, postings)
            funds = {posting.fund_id for posting in postings}
            first = min(
                entry.entry_id
                for entry in books.entries(fund_ids=funds, since=now)
                if entry.posting.batch == batch
            )
            books.set_mark(f"asked:{batch}", first)
            books.set_mark(f"of:{batch}", checksum)
            return _written(books, batch, first, anew=True)


def _checksum(asked: Mapping[str, Any]) -> int:
    return crc32(json.dumps(asked, sort_keys=True).encode("ascii"))


def _written(books: BooksView, batch: str, first: int, *, anew: bool) -> Written:
    entries = tuple(_batch(books, batch, first))
    funds = {fund.fund_id: fund for fund in books.funds()}
    return Written(anew, entries[0].time, entries, funds)


def _batch(books: BooksView, batch: str, first: int) -> Iterator[Entry]:
    """Yield the entries of a batch: they stand one after another, since writers take turns."""
    found = False
    after = first - 1
    while True:
        page = tuple(books.entries(after=after, limit=_PAGE))
        for entry in page:
            if entry.posting.batch == batch:
                found = True
                yield entry
            elif found:
                return
        if len(page) < _PAGE:
            return
        after = page[-1].entry_id
