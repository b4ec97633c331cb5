"""What was spent in a month, and how budgets stand; reads the books, never writes."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from slurm_gpu_policy.errors import NotAllowed, RequestError
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.ledger.budget import is_present
from slurm_gpu_policy.policy.prices.timetable import moment
from slurm_gpu_policy.services.ledger import asked as fields
from slurm_gpu_policy.services.ledger.entries import view_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.ids import JobId
    from slurm_gpu_policy.model.ledger import Claim, Entry, Fund
    from slurm_gpu_policy.policy.ledger.allowed import Rights
    from slurm_gpu_policy.services.ledger.books import BooksView, LedgerPort

    Run = tuple[JobId, int]

_MOST_JOBS: Final = 50_000
"""In one answer; their sums are always of all."""
_AT_ONCE: Final = 500
_LAST_MONTH: Final = 12
_REFUNDS: Final = frozenset({rules.REFUND_NODE, rules.REFUND_PREEMPTION, rules.REFUND_BY_HAND})


def budgets(
    ledger: LedgerPort, rights: Rights, asked: Mapping[str, Any], now: int, currency: str
) -> dict[str, Any]:
    """Return how present budgets stand: the caller's own, an account's, a user's, or all.

    Raises:
        NotAllowed: there is no such account or user, as far as the caller may know.
    """
    chosen = chosen_funds(rights, asked)
    with ledger.reading() as books:
        funds = [
            fund
            for fund in books.funds(open_only=True)
            if fund.account and is_present(fund, now) and rights.sees_fund(fund) and chosen(fund)
        ]
        funds.sort(key=lambda fund: (_depth(rights, fund), fund.level, fund.position, fund.start))
        views = {view.fund.fund_id: view for view in books.views([fund.fund_id for fund in funds])}
    found = [view_json(views[fund.fund_id]) for fund in funds if fund.fund_id in views]
    return {"budgets": found, "currency": currency, "who": rights.user}


def chosen_funds(rights: Rights, asked: Mapping[str, Any]) -> Callable[[Fund], bool]:
    """Return what tells the funds that are asked for; what may be seen is another question.

    Raises:
        NotAllowed: there is no such account or user, as far as the caller may know.
    """
    account, user = fields.account(asked), fields.name(asked, "user")
    need_seen(rights, account, user)
    if account:
        return lambda fund: (
            (rights.is_below(fund.account, account) or fund.account == account)
            and user in {"", fund.user}
        )
    if user and user != rights.user:
        return lambda fund: fund.user == user
    if fields.flag(asked, "all"):
        if not rights.operates:
            msg = f"{rights.user} may not see all budgets: operators may"
            raise NotAllowed(msg)
        return lambda _fund: True
    return rights.draws_on


def need_seen(rights: Rights, account: str, user: str) -> None:
    """Refuse an account and a user of whom the caller may see nothing, as if they did not exist.

    Raises:
        NotAllowed: in the same words, whether they exist or not.
    """
    if account and not rights.sees(account):
        msg = f"there is no account {account!r} that {rights.user} may see"
        raise NotAllowed(msg)
    if user and user != rights.user:
        may = rights.manages(account) if account else rights.operates or rights.coordinated
        if not may:
            msg = f"there is no user {user!r} whose spending {rights.user} may see"
            raise NotAllowed(msg)


def _depth(rights: Rights, fund: Fund) -> int:
    """Return what sorts accounts above those below them."""
    return len(rights.line(fund.account))


class _Sum:
    def __init__(self) -> None:
        self.charged = self.refunded = self.gpu_seconds = self.runs = 0

    def add(self, line: _Line) -> None:
        self.charged += line.charged
        self.refunded += line.refunded
        self.gpu_seconds += line.gpu_seconds
        self.runs += 1

    def json(self) -> dict[str, Any]:
        return {
            "runs": self.runs,
            "gpu_seconds": self.gpu_seconds,
            "charged": str(self.charged),
            "refunded": str(self.refunded),
            "cost": str(self.charged - self.refunded),
        }


class _Line:
    """What one run was charged, and got back, in the time of the statement."""

    def __init__(self, entry: Entry) -> None:
        self.account, self.user = entry.account, entry.user
        self.charged = self.refunded = self.gpu_seconds = 0

    def add(self, entry: Entry) -> None:
        posting = entry.posting
        if posting.kind == "charge" and posting.rule in _REFUNDS:
            self.refunded -= posting.amount  # an earlier refund that was corrected
        elif posting.kind == "charge":
            self.charged += posting.amount
            self.gpu_seconds += posting.gpu_seconds
        elif posting.rule == rules.BUDGET_CORRECTION:
            self.charged -= posting.amount
            self.gpu_seconds -= posting.gpu_seconds
        else:
            self.refunded += posting.amount


class Period:
    """What a statement is about: what ran in a month, or what was booked in some time."""

    def __init__(self, asked: Mapping[str, Any], policy: Policy, now: int) -> None:
        zone = policy.pricing.timezone if policy.pricing else "UTC"
        start, end = fields.time(asked, "start"), fields.time(asked, "end")
        self.month = fields.name(asked, "month")
        if not self.month and start is None and end is None:
            self.month = month_of(now, zone)
        if self.month:
            self.start, self.end = month_bounds(self.month, zone)
            return
        if start is None or end is None or end <= start:
            msg = "a month is needed, or a start and an end after it"
            raise RequestError(msg)
        self.start, self.end = start, end

    def overlaps(self, fund: Fund) -> bool:
        """Whether a fund's period has a moment in common with it."""
        return fund.start < self.end and (fund.end is None or fund.end > self.start)

    def is_of(self, fund: Fund) -> bool:
        """Whether most of a fund's period lies in it: the site's time zone may have changed."""
        if fund.end is None:
            return self.overlaps(fund)
        common = min(self.end, fund.end) - max(self.start, fund.start)
        return 2 * common > fund.end - fund.start


def month_of(at: int, timezone: str) -> str:
    """Return the month, such as ``2030-01``, that it is by the clock on the wall in a zone."""
    from datetime import UTC, datetime  # noqa: PLC0415 - as in policy/timetable.py
    from zoneinfo import ZoneInfo  # noqa: PLC0415

    return f"{datetime.fromtimestamp(at, UTC if timezone == 'UTC' else ZoneInfo(timezone)):%Y-%m}"


def month_bounds(month: str, timezone: str) -> tuple[int, int]:
    """Return when a month (``2030-01``) begins and ends, in Unix seconds.

    Raises:
        RequestError: it is no month.
    """
    match = re.fullmatch(r"([0-9]{4})-([0-9]{2})", month, re.ASCII)
    year, number = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (1970 < year < 9999 and 1 <= number <= _LAST_MONTH):  # noqa: PLR2004 - Unix time's
        msg = f"{month!r} is no month: write it as 2030-01"
        raise RequestError(msg)
    after = (year + 1, 1) if number == _LAST_MONTH else (year, number + 1)
    return (
        moment(f"{year:04d}-{number:02d}-01", timezone),
        moment(f"{after[0]:04d}-{after[1]:02d}-01", timezone),
    )


def statement(
    ledger: LedgerPort, rights: Rights, asked: Mapping[str, Any], policy: Policy, now: int
) -> dict[str, Any]:
    """Return what was spent, per user, GPU type and job, and how budgets stand.

    Without a month and a time: in the present month.

    Of an account that the caller spends from but does not manage: its sum, and their own lines.

    Raises:
        NotAllowed: there is no such account or user, as far as the caller may know.
        RequestError: no such month, or half of a time.
    """
    account, user = fields.account(asked), fields.name(asked, "user")
    need_seen(rights, account, user)
    everything = fields.flag(asked, "all")
    if everything and not rights.operates:
        msg = f"{rights.user} may not see all accounts: operators may"
        raise NotAllowed(msg)
    period = Period(asked, policy, now)
    with ledger.reading() as books:
        funds = books.funds()
        lines = _lines(books, funds, period)
        if account:
            lines = {
                run: line
                for run, line in lines.items()
                if line.account == account or rights.is_below(line.account, account)
            }
        total = _Sum()
        if account and not user:
            _add_all(total, lines.values())
        who = user or ("" if account or everything else rights.user)
        mine = {
            run: line
            for run, line in lines.items()
            if who in {"", line.user} and rights.sees_of(line.account, line.user)
        }
        if not account or user:
            _add_all(total, mine.values())
        chosen = chosen_funds(rights, {**asked, "user": user or None})
        views = books.views(
            [
                fund.fund_id
                for fund in funds
                if fund.account
                and period.overlaps(fund)
                and rights.sees_fund(fund)
                and chosen(fund)
            ]
        )
        jobs, types = _jobs(books, mine)
    return {
        "currency": policy.currency,
        "timezone": policy.pricing.timezone if policy.pricing else "UTC",
        "account": account,
        "user": who,
        "month": period.month or None,
        "start": period.start,
        "end": period.end,
        "total": total.json(),
        "users": _by(mine.values(), lambda line: (line.account, line.user), ("account", "user")),
        "gpu_types": types,
        "jobs": jobs,
        "jobs_left_out": len(mine) - len(jobs),
        "budgets": [view_json(view) for view in views],
    }


def _add_all(total: _Sum, lines: Iterable[_Line]) -> None:
    for line in lines:
        total.add(line)


def _lines(books: BooksView, funds: Iterable[Fund], period: Period) -> dict[Run, _Line]:
    """Return what each run was charged, by the entries of the cluster's own funds.

    For a month: those of the month's fund, whenever they were booked. Else: those that were
    booked in the time.
    """
    own = [fund for fund in funds if fund.level == ("", "")]
    if period.month:
        own = [fund for fund in own if period.is_of(fund)]
    lines: dict[Run, _Line] = {}
    for entry in books.entries(
        fund_ids=[fund.fund_id for fund in own],
        kinds=("charge", "refund"),
        since=None if period.month else period.start,
    ):
        if entry.job_id is None or entry.submit_time is None:
            continue
        if not period.month and entry.time >= period.end:
            continue
        run = entry.job_id, entry.submit_time
        line = lines.get(run)
        if line is None:
            line = lines[run] = _Line(entry)
        line.add(entry)
    return lines


def _by(
    lines: Iterable[_Line], key: Callable[[_Line], tuple[str, ...]], names: tuple[str, ...]
) -> list[dict[str, Any]]:
    sums: dict[tuple[str, ...], _Sum] = {}
    for line in lines:
        sums.setdefault(key(line), _Sum()).add(line)
    return [{**dict(zip(names, each, strict=True)), **sums[each].json()} for each in sorted(sums)]


def _jobs(
    books: BooksView, lines: Mapping[Run, _Line]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the jobs, dearest first if they are too many for all, and sums by GPU type."""
    types: dict[str, _Sum] = {}
    jobs = []
    for claim, line in _with_claims(books, lines):
        kind = "+".join(sorted(filter(None, claim.use.gpus)))
        if not kind and claim.use.gpus:
            kind = "GPU"
        types.setdefault(kind, _Sum()).add(line)
        jobs.append(_job(claim, line, kind))
    if len(jobs) > _MOST_JOBS:
        jobs.sort(key=lambda job: -int(job["cost"]))
        del jobs[_MOST_JOBS:]
    jobs.sort(key=lambda job: (job["start_time"] or 0, job["job_id"]))
    return jobs, [{"gpu_type": kind, **types[kind].json()} for kind in sorted(types)]


def _with_claims(books: BooksView, lines: Mapping[Run, _Line]) -> Iterator[tuple[Claim, _Line]]:
    runs = iter(lines)
    while some := list(islice(runs, _AT_ONCE)):
        for claim in books.claims(some):
            if claim.job_id is not None and claim.submit_time is not None:
                yield claim, lines[claim.job_id, claim.submit_time]


def _job(claim: Claim, line: _Line, kind: str) -> dict[str, Any]:
    return {
        "job_id": claim.job_id,
        "submit_time": claim.submit_time,
        "restart": claim.restart,
        "account": line.account,
        "user": line.user,
        "partition": claim.use.partition,
        "qos": claim.use.qos,
        "gpu_type": kind,
        "gpus": claim.use.gpu_count,
        "start_time": claim.start_time,
        "end_time": claim.end_time,
        "state": claim.end_state,
        "gpu_seconds": line.gpu_seconds,
        "charged": str(line.charged),
        "refunded": str(line.refunded),
        "cost": str(line.charged - line.refunded),
    }
