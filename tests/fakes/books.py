"""The ledger's books in memory, failing when a test says so."""

from __future__ import annotations

import threading
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import replace

from slurm_gpu_policy.errors import RecordsUnavailable
from slurm_gpu_policy.model.ledger import MOVES, Claim, Entry, Fund, FundView, Leg, Posting
from tests.fakes.books_sums import changed, moved, need_small, problems


class FakeLedger:
    """Implements :class:`slurm_gpu_policy.services.ledger.books.LedgerPort`.

    ``failing`` (words) and ``fail_next(N)`` make blocks fail before anything is done;
    ``fail_after(N)`` makes the N-th call from now within blocks fail (0: the next), and the end of
    a writing block counts as a call ``"commit"``. ``on_call(name)`` is called before each call and
    may raise. ``calls`` has their names. Books that are used after their block are an error.
    """

    def __init__(self) -> None:
        self.failing = ""
        self.calls: list[str] = []
        self.on_call = lambda _name: None
        self._failures = 0
        self._countdown: int | None = None
        self._turn = threading.Lock()
        self._state = _State()

    def fail_next(self, count: int = 1) -> None:
        self._failures = count

    def fail_after(self, calls: int) -> None:
        self._countdown = calls

    @contextmanager
    def reading(self):
        self._begin()
        books = _Books(self._state, self._called, may_write=False)
        try:
            yield books
        finally:
            books.closed = True

    @contextmanager
    def writing(self):
        self._begin()
        if not self._turn.acquire(timeout=30):
            msg = "another block of writing() is held open, perhaps by this very thread"
            raise RecordsUnavailable(msg)
        books = _Books(self._state.copy(), self._called, may_write=True)
        try:
            yield books
            self._called("commit")
            self._state = books.state
        finally:
            books.closed = True
            self._turn.release()

    def problems(self):
        self._begin()
        return tuple(problems(self._state))

    def _begin(self) -> None:
        if self._failures or self.failing:
            self._failures = max(self._failures - 1, 0)
            raise RecordsUnavailable(self.failing or "the database is away, as the test says")

    def _called(self, name: str) -> None:
        self.calls.append(name)
        self.on_call(name)
        if self._countdown is not None:
            self._countdown -= 1
            if self._countdown < 0:
                self._countdown = None
                msg = "the database went away, as the test says"
                raise RecordsUnavailable(msg)


class _State:
    """What is in the books; records in it are never changed, only replaced."""

    def __init__(self) -> None:
        self.tariffs: list = []
        self.funds: dict[int, Fund] = {}
        self.claims: dict[int, Claim] = {}  # without their legs
        self.legs: dict[int, dict[int, Leg]] = {}
        self.entries: list[Entry] = []
        self.marks: dict[str, int] = {}
        self.runs: dict = {}  # (job_id, submit_time): claim_id
        self.tokens: dict[str, int] = {}  # of claims without a job
        self.counts: dict = {}  # (claim_id, fund_id, kind): how many entries

    def copy(self) -> _State:
        copied = _State()
        for name, value in vars(self).items():
            setattr(copied, name, value.copy())
        return copied

    def whole(self, claim: Claim) -> Claim:
        legs = self.legs.get(claim.claim_id, {})
        return replace(claim, legs=tuple(legs[fund_id] for fund_id in sorted(legs)))


class _Books:
    def __init__(self, state, called, *, may_write) -> None:
        self.state = state
        self.closed = False
        self._may_write = may_write
        self._report = called

    def _called(self, name: str, *, writes: bool = False) -> None:
        assert not self.closed, "the books are used after their block"
        assert self._may_write or not writes, "the books were opened to read only"
        self._report(name)

    # --- to read -----------------------------------------------------------------------------

    def tariffs(self):
        self._called("tariffs")
        return tuple(self.state.tariffs)

    def funds(self, *, open_only=False):
        self._called("funds")
        found = sorted(self.state.funds.values(), key=lambda fund: fund.fund_id)
        return tuple(fund for fund in found if not (open_only and fund.closed))

    def views(self, fund_ids):
        self._called("views")
        in_flight: dict = defaultdict(int)
        for claim_id, legs in self.state.legs.items():
            if self.state.claims[claim_id].state == "running":
                for leg in legs.values():
                    in_flight[leg.fund_id] += leg.reserved
        return tuple(
            FundView(
                fund=fund,
                settled=fund.spent,
                in_flight=in_flight[fund.fund_id],
                committed=fund.reserved - in_flight[fund.fund_id],
            )
            for fund in (self.state.funds.get(fund_id) for fund_id in sorted(set(fund_ids)))
            if fund is not None
        )

    def open_claims(self):
        self._called("open_claims")
        return self._claims(lambda claim: claim.state != "ended")

    def claims(self, runs):
        self._called("claims")
        found = {self.state.runs[run] for run in runs if run in self.state.runs}
        return tuple(self.state.whole(self.state.claims[claim_id]) for claim_id in sorted(found))

    def claims_of(self, job_id):
        self._called("claims_of")
        return self._claims(lambda claim: claim.job_id == job_id)

    def claims_between(self, start, end):
        self._called("claims_between")
        found = self._claims(lambda claim: _ran_between(claim, start, end))
        return self._while_open(found)

    def promise(self, token):
        self._called("promise")
        found = self._claims(lambda claim: bool(token) and claim.token == token)
        waiting = [claim for claim in found if claim.job_id is None]
        return (waiting or list(found) or [None])[0]

    def count_promises(self, user):
        self._called("count_promises")
        return len(
            self._claims(
                lambda claim: (
                    claim.user == user and claim.state == "promised" and claim.job_id is None
                )
            )
        )

    def entries(self, *, fund_ids=None, claim_id=None, kinds=None, since=None, after=0, limit=None):
        self._called("entries")
        found = [
            entry
            for entry in self.state.entries
            if entry.entry_id > after
            and (fund_ids is None or entry.posting.fund_id in fund_ids)
            and (claim_id is None or entry.posting.claim_id == claim_id)
            and (kinds is None or entry.posting.kind in kinds)
            and (since is None or entry.time >= since)
        ]
        found = found if limit is None else found[: max(limit, 0)]
        return self._while_open([self._traced(entry) for entry in found])

    def count_entries(self):
        self._called("count_entries")
        return len(self.state.entries)

    def mark(self, name):
        self._called("mark")
        return self.state.marks.get(name)

    def marks(self, prefix):
        self._called("marks")
        return {name: kept for name, kept in self.state.marks.items() if name.startswith(prefix)}

    def _claims(self, fits):
        found = sorted(self.state.claims.values(), key=lambda claim: claim.claim_id)
        return tuple(self.state.whole(claim) for claim in found if fits(claim))

    def _traced(self, entry):
        """An entry with its job as it is known by now; without one, with its fund's account."""
        claim = self.state.claims.get(entry.posting.claim_id)
        if claim is None:
            fund = self.state.funds[entry.posting.fund_id]
            return replace(entry, account=fund.account, user=fund.user)
        return replace(
            entry,
            account=claim.account,
            user=claim.user,
            job_id=claim.job_id,
            submit_time=claim.submit_time,
            restart=claim.restart,
        )

    def _while_open(self, found):
        for each in found:
            assert not self.closed, "an iterator of the books is used after their block"
            yield each

    # --- to write ----------------------------------------------------------------------------

    def record_tariffs(self, since, tariffs):
        self._called("record_tariffs", writes=True)
        need_small(since)
        self.state.tariffs.append((since, tuple(tariffs)))

    def open_funds(self, funds):
        self._called("open_funds", writes=True)
        known = {_fund_key(fund): fund for fund in self.state.funds.values()}
        opened = []
        for fund in funds:
            need_small(fund.start, fund.end, fund.position, fund.overdraft, fund.soft)
            if _fund_key(fund) not in known:
                fund_id = len(self.state.funds) + 1
                made = replace(fund, fund_id=fund_id, available=0, reserved=0, spent=0)
                self.state.funds[fund_id] = known[_fund_key(fund)] = made
            opened.append(known[_fund_key(fund)])
        return tuple(opened)

    def change_funds(self, funds):
        self._called("change_funds", writes=True)
        for fund in funds:
            need_small(fund.end, fund.position, fund.overdraft, fund.soft)
            if fund.fund_id not in self.state.funds:
                msg = f"there is no fund {fund.fund_id}"
                raise ValueError(msg)
        for fund in funds:
            self.state.funds[fund.fund_id] = replace(
                self.state.funds[fund.fund_id],
                end=fund.end,
                position=fund.position,
                overdraft=fund.overdraft,
                soft=fund.soft,
                closed=fund.closed,
                unlimited=fund.unlimited,
            )

    def save(self, claims):
        self._called("save", writes=True)
        for claim in claims:
            _check_claim(claim)
            if claim.claim_id:
                if claim.claim_id not in self.state.claims:
                    msg = f"there is no claim {claim.claim_id}"
                    raise ValueError(msg)
                self._keep(claim)
        return tuple(claim if claim.claim_id else self._keep_new(claim) for claim in claims)

    def _keep_new(self, claim):
        return self._keep(replace(claim, claim_id=len(self.state.claims) + 1, legs=()))

    def _keep(self, claim):
        self._index(self.state.claims.get(claim.claim_id), claim)
        self.state.claims[claim.claim_id] = replace(claim, legs=())
        return claim

    def _index(self, old, claim):
        if old is not None and old.job_id is not None:
            if (old.job_id, old.submit_time) != (claim.job_id, claim.submit_time):
                msg = f"claim {claim.claim_id} cannot become another run's"
                raise ValueError(msg)
        elif old is not None:
            self.state.tokens.pop(old.token, None)
        key, place = (
            (claim.token, self.state.tokens)
            if claim.job_id is None
            else ((claim.job_id, claim.submit_time), self.state.runs)
        )
        if place.setdefault(key, claim.claim_id) != claim.claim_id:
            msg = f"there is a claim for {key} already"
            raise ValueError(msg)

    def post(self, now, postings):
        self._called("post", writes=True)
        funds, legs = {}, {}
        counts: dict = {}
        need_small(now)
        entries = []
        for posting in postings:
            self._check_posting(posting)
            fund_id, claim_id = posting.fund_id, posting.claim_id
            fund = moved(funds.get(fund_id) or self.state.funds[fund_id], posting)
            funds[fund_id] = fund
            sequence = 0
            if claim_id is not None:
                old = legs.get((claim_id, fund_id)) or self._leg(claim_id, fund_id)
                legs[claim_id, fund_id] = changed(old, posting)
                place = claim_id, fund_id, posting.kind
                sequence = counts.get(place, self.state.counts.get(place, 0))
                counts[place] = sequence + 1
            entry_id = len(self.state.entries) + len(entries) + 1
            entries.append(Entry(entry_id, now, posting, sequence))
        self.state.funds.update(funds)
        for (claim_id, fund_id), leg in legs.items():
            others = self.state.legs.get(claim_id, {})
            self.state.legs[claim_id] = {**others, fund_id: leg}
        self.state.entries += entries
        self.state.counts.update(counts)

    def set_mark(self, name, value):
        self._called("set_mark", writes=True)
        need_small(value)
        self.state.marks[name] = value

    def _leg(self, claim_id, fund_id):
        return self.state.legs.get(claim_id, {}).get(fund_id) or Leg(fund_id)

    def _check_posting(self, posting: Posting) -> None:
        if posting.fund_id not in self.state.funds:
            msg = f"there is no fund {posting.fund_id}"
            raise ValueError(msg)
        if posting.claim_id is not None and posting.claim_id not in self.state.claims:
            msg = f"there is no claim {posting.claim_id}"
            raise ValueError(msg)
        need_small(posting.amount, posting.gpu_seconds)
        if posting.amount < 0:
            msg = f"a {posting.kind} of {posting.amount} is negative"
            raise ValueError(msg)
        if (posting.source, posting.target) not in MOVES[posting.kind]:
            msg = f"a {posting.kind} does not move from {posting.source} to {posting.target}"
            raise ValueError(msg)


def _fund_key(fund: Fund):
    return fund.budget, fund.account, fund.user, fund.start


def _ran_between(claim: Claim, start: int, end: int) -> bool:
    """Whether a run lies in [start, end) for a moment; one of no length counts as one second."""
    if claim.start_time is None or claim.start_time >= end:
        return False
    return claim.start_time >= start or claim.end_time is None or claim.end_time > start


def _check_claim(claim: Claim) -> None:
    need_small(
        *(claim.job_id, claim.submit_time, claim.restart, claim.tasks, claim.start_time),
        *(claim.seconds, claim.accrued.micros, claim.accrued.gpu_seconds, claim.accrued_until),
        *(claim.end_time, claim.known_since, claim.use.cpus, claim.use.memory_mb),
    )
    if (claim.job_id is None) != (claim.submit_time is None):
        msg = "a run is told by its job id and its submit time, both"
        raise ValueError(msg)
    if claim.job_id is None and not claim.token:
        msg = "a claim without a job needs a token"
        raise ValueError(msg)
