"""What the ledger needs of a database; two implementations: SQL, and one in memory for tests.

Writers come one after another: what a block of :meth:`LedgerPort.writing` has read stays true
until it ends, and all it did is written when it ends, durably, or nothing of it. Whoever reads
sees one state of the books throughout. Everything raises RecordsUnavailable where the database
cannot be reached or written (disk full, gone, locked for too long), and then nothing was written.

Everything is about one cluster: the implementation knows which.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.ledger import Claim, Entry, Fund, FundView, Kind, Posting
    from slurm_gpu_policy.model.prices import Tariff


class BooksView(Protocol):
    """The books, to read."""

    def tariffs(self) -> tuple[tuple[int, tuple[Tariff, ...]], ...]:
        """Return the price books in the order in which they were recorded: from when (Unix
        seconds) each was in force, and its tariffs by date.
        """
        ...

    def funds(self, *, open_only: bool = False) -> tuple[Fund, ...]:
        """Return the funds with their balances, by id; *open_only* leaves closed ones out."""
        ...

    def views(self, fund_ids: Collection[int]) -> tuple[FundView, ...]:
        """Return how these funds stand, by id; a fund that does not exist is left out."""
        ...

    def open_claims(self) -> tuple[Claim, ...]:
        """Return the claims that have not ended, with their legs, oldest first."""
        ...

    def claims(self, runs: Collection[tuple[JobId, int]]) -> tuple[Claim, ...]:
        """Return the claims of these runs (job id, submit time), with their legs, in any state."""
        ...

    def claims_of(self, job_id: JobId) -> tuple[Claim, ...]:
        """Return all runs of a job, and of the tasks of an array by its own id, oldest first."""
        ...

    def claims_between(self, start: int, end: int) -> Iterator[Claim]:
        """Yield the claims whose runs overlap [start, end), by id, a batch at a time."""
        ...

    def promise(self, token: str) -> Claim | None:
        """Return the claim with this token, with or without a job."""
        ...

    def count_promises(self, user: str) -> int:
        """Return how many promises of a user wait for their jobs."""
        ...

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
        """Yield the entries that fit, oldest first: from *since* (Unix seconds, when written) on,
        with ids above *after*, at most *limit*.
        """
        ...

    def count_entries(self) -> int:
        """Return how many entries there are."""
        ...

    def mark(self, name: str) -> int | None:
        """Return a number that was kept by :meth:`Books.set_mark`, ``None`` if none was."""
        ...

    def marks(self, prefix: str) -> Mapping[str, int]:
        """Return all numbers kept under names that begin so."""
        ...


class Books(BooksView, Protocol):
    """The books, to write in as well."""

    def record_tariffs(self, since: int, tariffs: Sequence[Tariff]) -> None:
        """Record the price book that is in force from *since* on."""
        ...

    def open_funds(self, funds: Sequence[Fund]) -> tuple[Fund, ...]:
        """Add funds, with all balances 0, and return them with their ids. One that is there
        already (cluster, budget, account, user, start) is returned as it stands.
        """
        ...

    def change_funds(self, funds: Sequence[Fund]) -> None:
        """Change what is no balance: end, position, overdraft, soft, closed, unlimited."""
        ...

    def save(self, claims: Sequence[Claim]) -> tuple[Claim, ...]:
        """Add the claims without an id, change the others; legs are left as they are.

        Returns them, in the same order, with ids, and with the legs that they came with; a new
        claim has none.

        Raises:
            ValueError: two claims for one run, or for one token without a job; a claim that would
                become another run's; one with neither a run nor a token.
        """
        ...

    def post(self, now: int, postings: Sequence[Posting]) -> None:
        """Write entries, with the balances and legs that follow from them, in this order.

        A refund takes from the leg's ``charged`` under rule B-011, else it adds to ``refunded``;
        a charge from ``available`` under a rule of refunds (C-406, C-407, C-411) takes from
        ``refunded``; GPU-seconds go with ``charged``.

        Raises:
            ValueError: a negative amount, a move that its kind has not (model/ledger.MOVES), a
                reservation that would be negative, of the claim or of the fund, a leg's charge or
                refund likewise, a fund or a claim that does not exist, or a sum of more than 64
                bits; the whole block is then to be given up.
        """
        ...

    def set_mark(self, name: str, value: int) -> None:
        """Keep a number under a name: how far the accounting was read, what was warned of."""
        ...


class LedgerPort(Protocol):
    """Opens the books."""

    def reading(self) -> AbstractContextManager[BooksView]:
        """Open the books to read."""
        ...

    def writing(self) -> AbstractContextManager[Books]:
        """Open the books to write; waits for its turn."""
        ...

    def problems(self) -> tuple[str, ...]:
        """Add everything up anew, and return what does not agree, in words; nothing if all does.

        Sum of entries = balances of each fund; legs = entries of each claim and fund; no
        reservation is negative; an ended claim has no reservation; a settled run has exactly one
        chain of charges on each of the cluster's own funds that it ran in, and every ended run
        that started is settled; sequences have no gap; the site's side is minus all funds'.
        """
        ...
