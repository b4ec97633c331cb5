"""Reading Slurm's accounting into the books: each run that ended is charged, once and exactly.

What was read is read again for a while (``ledger.reread``), and the mark of how far the accounting
is known moves on only when slurmctld has brought slurmdbd what it had. What changes nothing
costs nothing: settled runs that the accounting still tells as before are passed over.
"""

from __future__ import annotations

from dataclasses import field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.model.tag import SUBMIT, read_tag
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.ledger.charging import REFUND_RULES, REFUNDS, Sheet, parts_of, total
from slurm_gpu_policy.policy.ledger.claims import (
    has_ended,
    has_started,
    never_ran,
    only_accounted,
    says_the_same,
    settled,
)
from slurm_gpu_policy.policy.prices.pricing import use_of_run
from slurm_gpu_policy.services.ledger.funding import READ_SINCE, READ_UNTIL, first_month

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.job import AccountingRecord
    from slurm_gpu_policy.model.ledger import Claim
    from slurm_gpu_policy.policy.ledger.budget import Funds
    from slurm_gpu_policy.policy.ledger.charging import Part
    from slurm_gpu_policy.services.ledger.books import Books, LedgerPort
    from slurm_gpu_policy.services.ledger.funding import Funding, Terms
    from slurm_gpu_policy.services.ports import AccountPort, Clock

T = TypeVar("T")
Run = tuple["JobId", int]
"""A job id and a submit time: what tells one run from any other."""

BLOCK: Final = 2000
"""Runs that are written at once, so that submissions are not kept waiting."""
_PIECE_SECONDS: Final = 86_400
_MOST_PIECES: Final = 31
_MOST_RECORDS: Final = 50_000
"""Read at one tick; the rest is for the next."""
_FEW: Final = 100
"""Messages for slurmdbd that may be under way where many jobs start and end."""
_MOST_ASKED: Final = 1000
_ASK_AGAIN_SECONDS: Final = 300
_DAY_SECONDS: Final = 86_400
_PERCENT: Final = 100


@record
class Hints:
    """What beside the accounting is known of runs."""

    queue: frozenset[Run] = frozenset()
    """Those that the queue knows as not ended."""
    open: Mapping[Run, Claim] = field(default_factory=lambda: MappingProxyType({}))
    """Those that had not ended for the books, at the last tick."""
    promised: frozenset[str] = frozenset()
    """Tokens of submissions whose jobs have not been seen yet."""
    idle: Mapping[Run, int] = field(default_factory=lambda: MappingProxyType({}))
    """GPU-seconds that were left idle (rule C-408)."""


class Settling:
    """Charges runs that ended, from the accounting."""

    def __init__(
        self,
        *,
        ledger: LedgerPort,
        slurm: AccountPort,
        clock: Clock,
        funding: Funding,
    ) -> None:
        self._ledger = ledger
        self._slurm = slurm
        self._clock = clock
        self._funding = funding
        self._missing: dict[Run, tuple[int, int]] = {}
        """Open claims that neither the queue nor the accounting knows: since when, last asked."""

    # --- reading -----------------------------------------------------------------------------

    def read_on(self, terms: Terms, hints: Hints) -> list[str]:
        """Read the accounting from where it is known on, and settle; return what is odd.

        Raises:
            SlurmError: the accounting cannot be read; what was settled before stays so.
        """
        asked_at = self._clock.now()
        backlog = self._slurm.accounting_backlog() or 0
        with self._ledger.reading() as books:
            mark = books.mark(READ_UNTIL)
            first = first_month(self._funding.funds(books), terms.now)
        if mark is not None and mark > asked_at + terms.policy.ledger.reread:
            mark = min(first, asked_at)  # a clock was ahead, nobody knows since when
            with self._ledger.writing() as writable:
                writable.set_mark(READ_UNTIL, mark)
        begin = first if mark is None else min(mark, asked_at) - terms.policy.ledger.reread
        read: set[Run] = set()
        count = 0
        for _ in range(_MOST_PIECES):
            end = begin + _PIECE_SECONDS
            is_last = end >= asked_at
            found = self._slurm.accounting(start=begin, end=None if is_last else end)
            read |= self.take(found, terms, hints)
            count += len(found)
            reach = asked_at if is_last else end
            mark = self._advance(mark, _last_end(found, reach) if backlog else reach, first)
            if is_last or count >= _MOST_RECORDS:
                break
            begin = end
        problems = []
        if backlog > _FEW:
            problems.append(
                f"slurmctld has {backlog} messages for slurmdbd left: the accounting is behind"
            )
        return problems + self._ask_for_missing(terms, {*hints.queue, *read}, hints)

    def _advance(self, mark: int | None, reach: int | None, since: int) -> int | None:
        if reach is None or (mark is not None and reach <= mark):
            return mark
        with self._ledger.writing() as books:
            books.set_mark(READ_UNTIL, reach)
            if books.mark(READ_SINCE) is None:
                books.set_mark(READ_SINCE, since)
        return reach

    def _ask_for_missing(self, terms: Terms, known: Collection[Run], hints: Hints) -> list[str]:
        """Ask by id for runs that left the queue and have not been found in the accounting."""
        lost = {run: claim for run, claim in hints.open.items() if run not in known}
        self._missing = {
            run: self._missing.get(run, (terms.now, -_ASK_AGAIN_SECONDS)) for run in lost
        }
        asked = [
            run
            for run, (_, last) in sorted(self._missing.items(), key=lambda item: item[1][1])
            if terms.now - last >= _ASK_AGAIN_SECONDS
        ][:_MOST_ASKED]
        if asked:
            ids = sorted({job_id for job_id, _ in asked})
            wanted = frozenset(asked)
            found = [
                run
                for run in self._slurm.accounting(job_ids=[str(job_id) for job_id in ids])
                if (run.job_id, run.submit_time) in wanted
            ]
            self.take(found, terms, hints)
            for run in asked:
                self._missing[run] = (self._missing[run][0], terms.now)
            for one in found:
                if has_ended(one):
                    self._missing.pop((one.job_id, one.submit_time or 0), None)
        return self._give_up(lost, terms)

    def _give_up(self, lost: Mapping[Run, Claim], terms: Terms) -> list[str]:
        """Release what waited and is known to nobody; tell of runs that never end."""
        problems = []
        gone = []
        for run, (since, _) in self._missing.items():
            missing_for = terms.now - since
            if lost[run].start_time is None and missing_for >= terms.policy.ledger.reread:
                gone.append(run)
            elif lost[run].start_time is not None and missing_for >= _DAY_SECONDS:
                problems.append(
                    f"job {run[0]}: not in the queue, and running for the accounting or not known "
                    "to it (sacctmgr show runawayjobs)"
                )
        for block in blocks(gone):
            with self._ledger.writing() as books:
                funds = self._funding.working(books, terms)
                claims = [one for one in books.claims(block) if one.state == "pending"]
                self._end_unstarted(books, claims, "", terms, funds)
                books.post(terms.now, funds.postings)
        return problems

    @staticmethod
    def _end_unstarted(
        books: Books, claims: Sequence[Claim], end_state: str, terms: Terms, funds: Funds
    ) -> None:
        books.save([never_ran(one, end_state or one.end_state, terms.now) for one in claims])
        for claim in claims:
            sheet = Sheet(funds, claim)
            sheet.release(rules.COST_NEVER_RAN)
            sheet.finish()

    # --- settling ----------------------------------------------------------------------------

    def take(self, found: Iterable[AccountingRecord], terms: Terms, hints: Hints) -> set[Run]:
        """Bring runs of the accounting into the books; return those that ended."""
        runs = {(run.job_id, run.submit_time): run for run in found if run.submit_time is not None}
        for block in blocks(list(runs.items())):
            news = self._news(dict(block))
            if not news:
                continue
            with self._ledger.writing() as books:
                known = {_run_of(claim): claim for claim in books.claims(news.keys())}
                starts = [run.start_time for run in news.values()]
                starts += [claim.start_time for claim in known.values()]
                since = min((at for at in starts if at is not None), default=terms.now)
                self._funding.reach_back(books, terms, since)
                funds = self._funding.working(books, terms, since)
                self._settle(books, news, known, terms, funds, hints)
                books.post(terms.now, funds.postings)
        return {key for key, run in runs.items() if has_ended(run)}

    def _news(self, runs: Mapping[Run, AccountingRecord]) -> dict[Run, AccountingRecord]:
        """Return the runs that the books do not have as the accounting tells them."""
        with self._ledger.reading() as books:
            known = {_run_of(claim): claim for claim in books.claims(runs.keys())}
        return {key: run for key, run in runs.items() if self._is_news(run, known.get(key))}

    def _is_news(self, run: AccountingRecord, claim: Claim | None) -> bool:
        if not has_ended(run):
            return has_started(run) and (claim is None or claim.settled)
        if claim is None:
            return has_started(run)
        if not has_started(run) and claim.state == "ended":
            return claim.settled
        return not says_the_same(claim, run, self._end_state(run, claim))

    def _end_state(self, run: AccountingRecord, claim: Claim | None) -> str:
        """Return how a run ended: what was known before Slurm called it requeued stays so."""
        if claim is not None and claim.end_state in REFUND_RULES and run.state is JobState.REQUEUED:
            return claim.end_state
        return run.state.value

    def _settle(  # noqa: PLR0913, PLR0917 - one block's parts
        self,
        books: Books,
        news: Mapping[Run, AccountingRecord],
        known: Mapping[Run, Claim],
        terms: Terms,
        funds: Funds,
        hints: Hints,
    ) -> None:
        claims: list[Claim] = []
        sheets: list[tuple[list[Part], Claim | None]] = []
        promised = set(hints.promised)
        for key, run in news.items():
            old = known.get(key)
            if not self._is_news(run, old):
                continue
            if not has_ended(run):
                claims.append(only_accounted(run, old, terms.now))
                sheets.append(([], old))
                continue
            if old is None and promised:
                old = _promised(books, run, promised)
                promised -= {old.token} if old is not None else set()
            end_state = self._end_state(run, old)
            if not has_started(run):
                assert old is not None  # noqa: S101 - else it is no news
                claims.append(never_ran(old, end_state, run.end_time))
                sheets.append(([], old))
                continue
            line = funds.line(run.account, run.user)
            start = run.start_time or 0
            end = start + run.elapsed_seconds
            use = use_of_run(run)
            parts = parts_of(
                use,
                (start, *line.cuts(start, end), end),
                terms.priced,
                idle_seconds=hints.idle.get(key, 0),
            )
            claims.append(settled(run, use, end_state, old, total(parts), terms.now))
            sheets.append((parts, old))
        for claim, (parts, old) in zip(books.save(claims), sheets, strict=True):
            if claim.state == "ended":
                self._enter(books, claim, parts, old, terms, funds)

    def _enter(  # noqa: PLR0913, PLR0917 - one run's parts
        self,
        books: Books,
        claim: Claim,
        parts: Sequence[Part],
        old: Claim | None,
        terms: Terms,
        funds: Funds,
    ) -> None:
        was_settled = old is not None and old.settled
        sheet = Sheet(funds, claim, is_correction=was_settled)
        line = funds.line(claim.account, claim.user)
        sheet.charge(line, parts)
        sheet.release(rules.BUDGET_RELEASE if claim.settled else rules.COST_NEVER_RAN)
        percent = _refund_percent(claim.end_state, terms)
        if was_settled or any(leg.refunded for leg in claim.legs):
            sheet.refund(claim.end_state, percent, _given(books, claim.claim_id))
        elif percent:
            sheet.refund(claim.end_state, percent)
        sheet.finish()


def blocks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield *items* in as many as are written at once."""
    for start in range(0, len(items), BLOCK):
        yield items[start : start + BLOCK]


def _run_of(claim: Claim) -> Run:
    assert claim.job_id is not None  # noqa: S101 - claims are asked for by run here
    assert claim.submit_time is not None  # noqa: S101
    return claim.job_id, claim.submit_time


def _last_end(found: Iterable[AccountingRecord], reach: int) -> int | None:
    """Return up to when the accounting is known while slurmctld still has messages for slurmdbd.

    It brings the ends of runs in their order, so what ended before the last that is there, is.
    """
    ends = [run.end_time for run in found if has_ended(run) and run.end_time is not None]
    return min(max(ends), reach) if ends else None


def _promised(books: Books, run: AccountingRecord, tokens: Collection[str]) -> Claim | None:
    """Return the promise to a submission whose job came and went unseen."""
    token = read_tag(run.comment).get("token", "") if SUBMIT in run.comment else ""
    claim = books.promise(token) if token in tokens else None
    if claim is None or claim.state != "promised" or claim.job_id is not None:
        return None
    return claim if (claim.account, claim.user) == (run.account, run.user) else None


def _refund_percent(end_state: str, terms: Terms) -> int:
    """Rules C-406, C-407: how much of its cost a run gives back that ended so."""
    rule = REFUND_RULES.get(end_state)
    if rule is None:
        return 0
    pricing = terms.policy.pricing
    if rule == rules.REFUND_NODE:
        return pricing.refunds.node_failure if pricing is not None else _PERCENT
    return pricing.refunds.preemption if pricing is not None else 0


def _given(books: Books, claim_id: int) -> Mapping[int, int]:
    """Return by fund what rules C-406 and C-407 have given a claim back."""
    by_rule = REFUNDS - {rules.REFUND_BY_HAND}
    found: dict[int, int] = {}
    for entry in books.entries(claim_id=claim_id, kinds=("refund", "charge")):
        posting = entry.posting
        if posting.rule in by_rule:
            sign = 1 if posting.kind == "refund" else -1
            found[posting.fund_id] = found.get(posting.fund_id, 0) + sign * posting.amount
    return found
