"""Walking Slurm's accounting beside the books, to see whether they say the same.

Nothing of how runs are charged is used here but the prices: GPU-seconds are elapsed seconds times
allocated GPUs, the cost is that of the whole run at the prices the books recorded, and what is
charged is read from the cluster's own funds, where every run stands once. Whatever seems to
differ is looked at a second time, since the books and the accounting move on meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from slurm_gpu_policy.model.prices import Cost
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy.ledger.budget import CLUSTER
from slurm_gpu_policy.policy.prices.pricing import cost
from slurm_gpu_policy.policy.prices.tariffs import in_force
from slurm_gpu_policy.policy.prices.usage_of import use_of_run
from slurm_gpu_policy.services.ledger.funding import READ_SINCE, READ_UNTIL

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.job import AccountingRecord
    from slurm_gpu_policy.model.ledger import Claim, Fund
    from slurm_gpu_policy.model.prices import Tariff
    from slurm_gpu_policy.services.ledger.books import BooksView, LedgerPort
    from slurm_gpu_policy.services.ports import AccountPort

    Key = tuple[JobId, int]

_STEP_SECONDS: Final = 86_400
_AT_ONCE: Final = 2000
"""Runs that are looked at together for the second time."""
_GPUS: Final = "gres/gpu"
_NEVER_READ: Final = "the books have never read the accounting: is gpu-policyd running?"


@record
class Reconciliation:
    """What came of it."""

    entries: int
    """In the books."""
    checked: int
    """Ended runs of the accounting that were compared."""
    differences: tuple[str, ...]
    """In words, one for each run and what differs of it."""


def reconcile(slurm: AccountPort, ledger: LedgerPort, since: int, until: int) -> Reconciliation:
    """Compare the runs that ended in [since, until) (Unix seconds).

    Charging has to have read the accounting up to *until*.

    Raises:
        SlurmError: the accounting cannot be read.
        RecordsUnavailable: the books cannot be read.
    """
    checked = 0
    doubtful: set[Key] = set()
    unknown: set[Key] = set()
    for start in range(since, until, _STEP_SECONDS):
        end = min(start + _STEP_SECONDS, until)
        runs = _ended(slurm.accounting(start=start - 1, end=end), start, end)
        checked += len(runs)
        with ledger.reading() as books:
            desk = _Desk(books)
            claims = _claims(books, runs, start, end)
        doubtful.update(key for key, run in runs.items() if desk.differences(run, claims.get(key)))
        unknown.update(
            key
            for key, claim in claims.items()
            if key not in runs and desk.is_charged(claim) and _ends_in(claim, start, end)
        )
    found = tuple(_second_look(slurm, ledger, sorted(doubtful | unknown)))
    with ledger.reading() as books:
        return Reconciliation(books.count_entries(), checked, found)


class Reconciling:
    """Compares as a request asks for it."""

    def __init__(self, slurm: AccountPort, ledger: LedgerPort) -> None:
        self._slurm = slurm
        self._ledger = ledger

    def __call__(self, since: int | None, *, repair: bool = False) -> dict[str, Any]:
        """Compare what ended from *since* on (``None``: all that is in the books) until charging
        has last read the accounting.

        What ended before the books began is in none, and is no difference. *repair* lets charging
        read the accounting from *since* once more at its next runs, also from before that.

        Raises:
            SlurmError: the accounting cannot be read.
            RecordsUnavailable: the books cannot be read, or not written.
        """
        with self._ledger.reading() as books:
            until = books.mark(READ_UNTIL)
            began = books.mark(READ_SINCE)
        if until is None or began is None:
            with self._ledger.reading() as books:
                entries = books.count_entries()
            return {"entries": entries, "checked": 0, "differences": [_NEVER_READ]}
        start = began if since is None or (since < began and not repair) else since
        found = reconcile(self._slurm, self._ledger, start, until)
        if repair and found.differences:
            with self._ledger.writing() as writable:
                writable.set_mark(READ_UNTIL, min(start, until))
                writable.set_mark(READ_SINCE, min(start, began))
        return {
            "entries": found.entries,
            "checked": found.checked,
            "differences": list(found.differences),
        }


def _ended(runs: Iterable[AccountingRecord], start: int, end: int) -> dict[Key, AccountingRecord]:
    return {
        (run.job_id, run.submit_time): run
        for run in runs
        if run.submit_time is not None
        and run.is_over
        and run.end_time is not None
        and start <= run.end_time < end
        and _started(run)
    }


def _started(run: AccountingRecord) -> bool:
    """Whether it held anything: what was cancelled while it waited may have a start too."""
    return run.start_time is not None and bool(run.elapsed_seconds or run.allocated_tres)


def _claims(
    books: BooksView, runs: Mapping[Key, AccountingRecord], start: int, end: int
) -> dict[Key, Claim]:
    """Return the claims of this time and of these runs."""
    found = {
        (claim.job_id, claim.submit_time): claim
        for claim in books.claims_between(start, end)
        if claim.job_id is not None and claim.submit_time is not None
    }
    for claim in books.claims(runs.keys() - found.keys()):
        if claim.job_id is not None and claim.submit_time is not None:
            found[claim.job_id, claim.submit_time] = claim
    return found


def _ends_in(claim: Claim, start: int, end: int) -> bool:
    return claim.end_time is not None and start <= claim.end_time < end


def _second_look(slurm: AccountPort, ledger: LedgerPort, keys: Sequence[Key]) -> Iterator[str]:
    """Yield what still differs."""
    for place in range(0, len(keys), _AT_ONCE):
        some = keys[place : place + _AT_ONCE]
        ids = sorted({job_id for job_id, _ in some})
        # The accounting first: what the books have charged stands in it.
        runs = {
            (run.job_id, run.submit_time): run
            for run in slurm.accounting(job_ids=[str(job_id) for job_id in ids])
        }
        with ledger.reading() as books:
            desk = _Desk(books)
            claims = {(claim.job_id, claim.submit_time): claim for claim in books.claims(some)}
        for key in some:
            run, claim = runs.get(key), claims.get(key)
            if run is not None and run.is_over and _started(run):
                yield from desk.differences(run, claim)
            elif claim is not None and desk.is_charged(claim) and (run is None or run.is_over):
                micros, gpu_seconds = desk.charged(claim)
                yield (
                    f"{_named(key)}: {gpu_seconds} GPU-seconds and {micros} micro-units are "
                    f"charged to {claim.user} in {claim.account}; the accounting has no such run"
                )


class _Desk:
    """What is needed of the books to judge single runs."""

    def __init__(self, books: BooksView) -> None:
        self._book: tuple[Tariff, ...] = in_force(books.tariffs())
        self._funds: Mapping[int, Fund] = {fund.fund_id: fund for fund in books.funds()}
        self._own: Collection[int] = {
            fund_id for fund_id, fund in self._funds.items() if fund.level == CLUSTER
        }

    def charged(self, claim: Claim) -> tuple[int, int]:
        """Return the micro-units and GPU-seconds that stand on the cluster's own funds."""
        legs = [leg for leg in claim.legs if leg.fund_id in self._own]
        return sum(leg.charged for leg in legs), sum(leg.gpu_seconds for leg in legs)

    def is_charged(self, claim: Claim) -> bool:
        """Whether anything is charged for it anywhere."""
        return any(leg.charged or leg.gpu_seconds for leg in claim.legs)

    def differences(self, run: AccountingRecord, claim: Claim | None) -> list[str]:
        """Return in what a run that ended and its claim differ."""
        assert run.submit_time is not None  # noqa: S101 - for the type checker
        name = _named((run.job_id, run.submit_time))
        want = self._expected(run)
        if claim is None:
            whose = f"{want.gpu_seconds} GPU-seconds of {run.user} in {run.account}"
            return [f"{name}: missing in the books; the accounting has {whose}"]
        if not claim.settled:
            return [f"{name}: open in the books ({claim.state}); it ended as {run.state.value}"]
        found = []
        micros, gpu_seconds = self.charged(claim)
        for what, ours, theirs in (
            ("user", claim.user, run.user),
            ("account", claim.account, run.account),
            ("seconds", claim.seconds, run.elapsed_seconds),
            ("GPU-seconds", gpu_seconds, want.gpu_seconds),
            ("micro-units", micros, want.micros),
        ):
            if ours != theirs:
                found.append(f"{name}: {what}: {ours} in the books, {theirs} by the accounting")
        return [*found, *self._too_much(name, claim, want)]

    def _too_much(self, name: str, claim: Claim, want: Cost) -> Iterator[str]:
        """Yield the levels of budgets that were charged more than the run cost.

        Less may be right: there may have been no budget for a part of the time.
        """
        sums: dict[tuple[str, str], int] = {}
        for leg in claim.legs:
            fund = self._funds[leg.fund_id]
            if fund.level != CLUSTER:
                sums[fund.level] = sums.get(fund.level, 0) + leg.charged
        for level, amount in sums.items():
            funds = (self._funds[leg.fund_id] for leg in claim.legs)
            unit = next(fund.unit for fund in funds if fund.level == level)
            if amount > want.amount(unit):
                yield (
                    f"{name}: the budgets of {' in '.join(filter(None, reversed(level)))} were "
                    f"charged {amount}; the run cost {want.amount(unit)}"
                )

    def _expected(self, run: AccountingRecord) -> Cost:
        assert run.start_time is not None  # noqa: S101 - for the type checker
        end = run.start_time + run.elapsed_seconds
        price = cost(use_of_run(run), run.start_time, end, self._book)
        return Cost(price.micros, run.elapsed_seconds * _gpus(run.allocated_tres))


def _gpus(tres: Mapping[str, int]) -> int:
    """Return the GPUs of all types; ``gres/gpu`` has them in sum where the site counts it."""
    typed = sum(count for name, count in tres.items() if name.startswith(f"{_GPUS}:"))
    return max(tres.get(_GPUS, 0), typed)


def _named(key: Key) -> str:
    return f"job {key[0]} (submitted {key[1]})"
