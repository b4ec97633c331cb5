"""Charging: the books brought up to date with the queue and the accounting, once a tick.

Nothing is remembered between ticks that matters: what claims should have follows from what Slurm
says, and the difference to what they have is entered. Each block of claims is written at once and
leaves the books right by itself, so a run may be interrupted anywhere.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.errors import SlurmError
from slurm_gpu_policy.model.ledger import LedgerState
from slurm_gpu_policy.model.prices import Cost
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.model.tag import SUBMIT, read_tag
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.ledger.budget import Funds, short_words
from slurm_gpu_policy.policy.ledger.charging import (
    HOUR_SECONDS,
    Priced,
    Sheet,
    parts_of,
    pending_since,
    total,
)
from slurm_gpu_policy.policy.ledger.claims import left_queue, never_ran, ran, running, waiting
from slurm_gpu_policy.policy.ledger.keeping import keeps_books
from slurm_gpu_policy.policy.pending import task_count
from slurm_gpu_policy.policy.prices.pricing import cost, in_force, price_book, use_of_job
from slurm_gpu_policy.services.ledger.funding import Funding, Terms
from slurm_gpu_policy.services.ledger.reporting import ledger_state
from slurm_gpu_policy.services.ledger.settling import Hints, Settling, blocks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.job import AccountingRecord, Job
    from slurm_gpu_policy.model.ledger import Claim
    from slurm_gpu_policy.model.prices import Unit, Use
    from slurm_gpu_policy.model.snapshot import Snapshot
    from slurm_gpu_policy.policy.ledger.budget import Level, Line, Short
    from slurm_gpu_policy.policy.ledger.charging import Part
    from slurm_gpu_policy.services.ledger.books import Books, LedgerPort
    from slurm_gpu_policy.services.ledger.settling import Run
    from slurm_gpu_policy.services.ports import AccountPort, Clock

_NO_IDLE: Mapping[tuple[JobId, int], int] = MappingProxyType({})
_LONGEST_SECONDS: Final = 10 * 366 * 86_400
"""The most of a time limit that is set aside: Slurm takes limits of 8,000 years, and what they
cost may be more than the books can hold."""
_GRACE_SECONDS: Final = 600
"""Steps by which a job that runs beyond its time limit has more set aside."""


@record
class _Item:
    """One thing to be brought up to date: a job in the queue, or a claim that left it."""

    order: tuple[int, ...]
    run: Run
    job: Job | None
    token: str = ""


class _Notes:
    """What a run of charging learns about the queue."""

    def __init__(self) -> None:
        self.uncovered: dict[JobId, str] = {}
        self.spending: dict[tuple[Level, Unit], int] = {}
        """By level: what its running jobs have cost in the present period."""


class Charging:
    """Keeps the books; one object for the life of a controller, one run after the other."""

    def __init__(
        self,
        ledger: LedgerPort,
        slurm: AccountPort,
        clock: Clock,
        actor: str,
    ) -> None:
        """*actor* stands in the entries."""
        self._ledger = ledger
        self._clock = clock
        self._actor = actor
        self._funding = Funding(ledger)
        self._settling = Settling(ledger=ledger, slurm=slurm, clock=clock, funding=self._funding)
        self.state = LedgerState(0)
        """After the last run."""

    def run(
        self,
        snapshot: Snapshot,
        policy: Policy,
        *,
        idle: Mapping[tuple[JobId, int], int] = _NO_IDLE,
    ) -> LedgerState:
        """Bring the books up to date with a reading of the queue, and the accounting.

        *snapshot* has jobs (ended ones too) and associations. *idle* has the GPU-seconds that runs
        left idle, by job id and submit time, for rule C-408; nobody tells them yet. Where the
        accounting cannot be read, the queue's part is done all the same, and said in the state.

        Raises:
            RecordsUnavailable: the books cannot be read or written; what was written stays right.
        """
        now = max(self._clock.now(), snapshot.time)
        if not keeps_books(policy):
            self.state = LedgerState(now)
            return self.state
        terms = self._terms(snapshot, policy, now)
        self._funding.keep(snapshot, terms)
        notes = _Notes()
        hints, items = self._sync(snapshot, terms, notes, idle)
        problems: list[str] = []
        try:
            problems += self._settling.read_on(terms, hints)
        except SlurmError as error:
            problems.append(f"the accounting cannot be read: {error}")
        self._funding.close(terms)
        self._try_again(items, terms, notes)
        with self._ledger.reading() as books:
            self.state = ledger_state(
                books, terms, notes.uncovered, notes.spending, tuple(problems)
            )
        return self.state

    def settle(self, runs: Sequence[AccountingRecord], snapshot: Snapshot, policy: Policy) -> None:
        """Bring these runs of the accounting into the books, whenever they were; others stay.

        Raises:
            RecordsUnavailable: as :meth:`run`.
        """
        now = max(self._clock.now(), snapshot.time)
        terms = self._terms(snapshot, policy, now)
        self._funding.keep(snapshot, terms)
        self._settling.take(runs, terms, Hints())

    def _terms(self, snapshot: Snapshot, policy: Policy, now: int) -> Terms:
        """Record the prices if the policy file has other ones than before (rule C-410)."""
        wanted = price_book(policy)
        with self._ledger.reading() as books:
            recorded = books.tariffs()
        if not recorded or recorded[-1][1] != wanted:
            with self._ledger.writing() as writable:
                recorded = writable.tariffs()
                if not recorded or recorded[-1][1] != wanted:
                    writable.record_tariffs(now if recorded else 0, wanted)
                    recorded = writable.tariffs()
        pricing = policy.pricing
        return Terms(
            now=now,
            policy=policy,
            parents={one.account: one.parent for one in snapshot.associations if not one.user},
            actor=self._actor,
            priced=Priced(
                book=in_force(recorded),
                idle_percent=pricing.idle_surcharge if pricing is not None else 0,
                free_qos=(policy.submission.over_budget_qos or "").lower(),
            ),
        )

    # --- the queue ---------------------------------------------------------------------------

    def _sync(
        self, snapshot: Snapshot, terms: Terms, notes: _Notes, idle: Mapping[Run, int]
    ) -> tuple[Hints, Sequence[_Item]]:
        """Bring claims up to date with the queue; return what it says about the accounting."""
        with self._ledger.reading() as books:
            claims = _Open(books.open_claims())
            over = {fund.fund_id for fund in books.funds(open_only=True)
                    if fund.end is not None and fund.end <= terms.now}  # fmt: skip
        items, queue = _items(snapshot.jobs, claims, over, terms.now)
        for block in blocks(items):
            with self._ledger.writing() as writable:
                self._sync_block(writable, block, terms, notes)
        oldest = terms.now - terms.policy.ledger.promise
        lapsed = [t for t, claim in claims.promised.items() if claim.known_since < oldest]
        for block_of_tokens in blocks(lapsed):
            with self._ledger.writing() as writable:
                self._lapse(writable, block_of_tokens, terms)
        return Hints(queue, claims.by_run, frozenset(claims.promised), idle), items

    def _try_again(self, items: Sequence[_Item], terms: Terms, notes: _Notes) -> None:
        """Look again at jobs that were not covered, now that what had ended is settled.

        A requeued job's own last run may have been in its way, or what a period carries over.
        """
        again = [one for one in items if one.job is not None and one.job.job_id in notes.uncovered]
        notes.uncovered.clear()
        for block in blocks(again):
            with self._ledger.writing() as writable:
                self._sync_block(writable, block, terms, notes)

    def _sync_block(
        self, books: Books, items: Sequence[_Item], terms: Terms, notes: _Notes
    ) -> None:
        known = {
            (claim.job_id, claim.submit_time): claim
            for claim in books.claims([item.run for item in items])
        }
        starts = [item.job.start_time for item in items if item.job and item.job.state.is_active]
        since = min((start for start in starts if start is not None), default=terms.now)
        self._funding.reach_back(books, terms, since)
        funds = self._funding.working(books, terms, min(since, terms.now) - 1)
        drafts: list[tuple[Claim, _Item, list[Part]]] = []
        changed: list[int] = []
        for item in items:
            old = known.get(item.run)
            if old is not None and old.state == "ended":
                continue  # what was known of the queue is older than the accounting
            if old is None and item.token:
                old = _promised(books, item)
            claim, parts = _draft(item, old, terms, funds)
            if claim is None:
                continue
            if claim is not old and (parts or claim != old):  # what runs has always changed
                changed.append(len(drafts))
            drafts.append((claim, item, parts))
        saved = books.save([drafts[place][0] for place in changed])
        for place, claim in zip(changed, saved, strict=True):
            drafts[place] = (claim, *drafts[place][1:])
        for claim, item, parts in drafts:
            _enter(claim, item, parts, terms, funds, notes)
        if funds.postings:
            books.post(terms.now, funds.postings)

    def _lapse(self, books: Books, tokens: Sequence[str], terms: Terms) -> None:
        """Rule B-004: release what was promised to submissions whose jobs never came."""
        funds = self._funding.working(books, terms, terms.now - 1)
        found = [claim for token in tokens if (claim := books.promise(token)) is not None]
        gone = [claim for claim in found if claim.state == "promised" and claim.job_id is None]
        for claim in books.save([never_ran(one, "", terms.now) for one in gone]):
            sheet = Sheet(funds, claim)
            sheet.release(rules.BUDGET_RELEASE)
            sheet.finish()
        books.post(terms.now, funds.postings)


# --- what is to be done, and in which order ---------------------------------------------------

_LEFT, _SHRUNK, _RUNS, _WAITS = range(4)


class _Open:
    """The claims that have not ended, by what they are looked up with."""

    def __init__(self, claims: Sequence[Claim]) -> None:
        self.by_run: dict[Run, Claim] = {}
        self.promised: dict[str, Claim] = {}
        self._newest: dict[JobId, Run] = {}
        for claim in claims:
            if claim.job_id is None or claim.submit_time is None:
                self.promised[claim.token] = claim
                continue
            run = (claim.job_id, claim.submit_time)
            self.by_run[run] = claim
            self._newest[claim.job_id] = max(run, self._newest.get(claim.job_id, run))

    def run_of(self, job: Job, submit_time: int) -> Run:
        """Return which run a job in the queue is.

        Slurm's queue goes on to show a resized job's first submit time; its accounting has a new
        record, whose submit time is that of the change.
        """
        run = (job.job_id, submit_time)
        newest = self._newest.get(job.job_id)
        if run not in self.by_run and newest is not None and newest > run and job.state.is_active:
            return newest
        return run


def _items(
    jobs: Sequence[Job], claims: _Open, over: set[int], now: int
) -> tuple[list[_Item], frozenset[Run]]:
    """Return what is to be brought up to date: first what gives back, then what must be had, and
    last what waits, the oldest first; and the runs that the queue knows as not ended.
    """
    bound = _bindings(jobs, claims) if claims.promised else {}
    items: dict[Run, _Item] = {}  # each once: a federation shows the same job for each cluster
    queue: set[Run] = set()
    for job in jobs:
        if job.submit_time is None:
            continue
        run = claims.run_of(job, job.submit_time)
        known = claims.by_run.get(run)
        token = bound.get(run, "")
        order = _order(job, known or claims.promised.get(token), now)
        if order is not None:
            items.setdefault(run, _Item(order, run, job, token))
        if order != (_LEFT,):
            queue.add(run)
    for run, claim in claims.by_run.items():
        if run not in items and any(leg.reserved and leg.fund_id in over for leg in claim.legs):
            items[run] = _Item((_LEFT,), run, None)
    return sorted(items.values(), key=lambda item: item.order), frozenset(queue)


def _order(job: Job, known: Claim | None, now: int) -> tuple[int, ...] | None:
    """Return when its turn is; ``None`` for what the accounting alone will tell of."""
    if job.state.is_over or (job.state.is_pending and known is not None and _has_run(known)):
        return None if known is None else (_LEFT,)
    if job.state.is_active:
        return (_RUNS,) if job.start_time is not None else None
    if not job.state.is_pending:
        return None
    if known is not None and known.job_id is not None and task_count(job) < known.tasks:
        return (_SHRUNK,)
    age = (known.known_since, known.claim_id) if known is not None else (now, 2**62)
    return (_WAITS, *age, job.submit_time or 0, job.job_id)


def _has_run(claim: Claim) -> bool:
    """Whether a job that waits shows an ended run's submit time still: it was requeued, and while
    its nodes come to rest Slurm does not give it the new one.
    """
    return claim.state == "running"


def _bindings(jobs: Sequence[Job], claims: _Open) -> dict[Run, str]:
    """Return for which new jobs something was promised; of an array to its rest if it has one."""
    found: dict[str, tuple[bool, JobId, Run]] = {}
    for job in jobs:
        if job.submit_time is None or job.state.is_over or SUBMIT not in job.comment:
            continue
        run = (job.job_id, job.submit_time)
        token = read_tag(job.comment).get("token", "")
        promise = claims.promised.get(token)
        if promise is None or run in claims.by_run:
            continue
        if (promise.account, promise.user) == (job.account, job.user):
            is_task = job.array_job_id not in {None, job.job_id}
            best = found.get(token)
            if best is None or (is_task, job.job_id) < best[:2]:
                found[token] = (is_task, job.job_id, run)
    return {run: token for token, (_, _, run) in found.items()}


def _promised(books: Books, item: _Item) -> Claim | None:
    """Return the promise of a new job, if it still stands: it may just have been withdrawn."""
    claim = books.promise(item.token)
    stands = claim is not None and claim.state == "promised" and claim.job_id is None
    return claim if stands else None


# --- what becomes of each ---------------------------------------------------------------------


def _draft(
    item: _Item, old: Claim | None, terms: Terms, funds: Funds
) -> tuple[Claim | None, list[Part]]:
    """Return a claim as the queue has it now, and the priced parts of a run (see _run_parts)."""
    job = item.job
    if job is None or (job.state.is_pending and old is not None and _has_run(old)):
        return old, []
    if job.state.is_over:
        return old and _ended(job, old), []
    if job.state.is_pending:
        return waiting(job, old, terms.now), []
    use = use_of_job(job)
    parts = _run_parts(job, old, use, terms, funds.line(job.account, job.user))
    return running(job, old, use, total(parts[:-1]), terms.now), parts


def _ended(job: Job, old: Claim) -> Claim:
    """Return the claim of a job that ended: what ran is for the accounting to tell."""
    if job.node_list or job.elapsed_seconds or old.start_time is not None:
        return left_queue(job, old)
    return never_ran(old, job.state.value, job.end_time)


def _run_parts(job: Job, old: Claim | None, use: Use, terms: Terms, line: Line) -> list[Part]:
    """Return what a run has cost in each of its periods so far, and last what its rest may cost.

    Rule B-003: until its time limit; without one an hour more than it has begun.
    """
    start, seconds = ran(job, old)
    end = start + seconds
    if job.time_limit_seconds is None:
        until = start + (-(-seconds // HOUR_SECONDS) + 1) * HOUR_SECONDS
    else:
        until = (job.start_time or start) + min(job.time_limit_seconds, _LONGEST_SECONDS)
        if until < end:
            until = start + -(-seconds // _GRACE_SECONDS) * _GRACE_SECONDS
    until = max(until, end)
    return parts_of(use, (start, *line.cuts(start, end), end, until), terms.priced)


def _enter(  # noqa: PLR0913, PLR0917 - one claim's parts
    claim: Claim, item: _Item, parts: list[Part], terms: Terms, funds: Funds, notes: _Notes
) -> None:
    """Enter what a claim should have and has not."""
    line = funds.line(claim.account, claim.user)
    sheet = Sheet(funds, claim)
    if parts:
        *ended, present, rest = parts
        if ended:
            sheet.charge(line, ended)
        if _is_exempt(claim.use, terms):
            sheet.set_aside(line, Cost(), terms.now, must=True)
        else:
            sheet.set_aside(line, total((present, rest)), terms.now, must=True)
            for shelf in line.shelves:
                key = (shelf.level, shelf.unit)
                notes.spending[key] = notes.spending.get(key, 0) + present.amount(shelf.unit)
    elif claim.state == "ended":
        sheet.release(rules.COST_NEVER_RAN)
    elif claim.state == "pending" and item.job is not None and item.job.state.is_pending:
        short = _set_aside_pending(sheet, claim, item.job, line, terms)
        if short:
            notes.uncovered[item.job.job_id] = short_words(short[0], terms.policy.currency)
    else:
        sheet.keep_aside(line, terms.now)
    sheet.finish()


def _set_aside_pending(
    sheet: Sheet, claim: Claim, job: Job, line: Line, terms: Terms
) -> tuple[Short, ...]:
    """Rule B-003: all tasks for the whole time limit, on every level or on none."""
    if _is_exempt(claim.use, terms):
        return sheet.set_aside(line, Cost(), terms.now, must=True)
    book = terms.priced.book
    start = pending_since(claim, job.eligible_time, book, terms.now)
    end = start + min(claim.seconds or HOUR_SECONDS, _LONGEST_SECONDS)
    one = cost(claim.use, start, end, book)
    whole = Cost(one.micros * claim.tasks, one.gpu_seconds * claim.tasks)
    return sheet.set_aside(line, whole, terms.now, must=False)


def _is_exempt(use: Use, terms: Terms) -> bool:
    """Whether something is in the QOS for idle GPUs, which no budget has to cover."""
    return bool(terms.priced.free_qos) and use.qos.lower() == terms.priced.free_qos
