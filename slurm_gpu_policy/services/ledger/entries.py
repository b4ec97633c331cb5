"""Entries and funds as they go over the socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from slurm_gpu_policy.errors import NotAllowed
from slurm_gpu_policy.services.ledger import asked as fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slurm_gpu_policy.model.ledger import Entry, Fund, FundView
    from slurm_gpu_policy.policy.ledger.allowed import Rights
    from slurm_gpu_policy.services.ledger.books import LedgerPort
    from slurm_gpu_policy.services.ledger.writing import Written

_PAGE: Final = 5000


def entry_json(entry: Entry, fund: Fund) -> dict[str, Any]:
    """Return an entry; ``amount`` is a text, in the unit of its fund."""
    posting = entry.posting
    return {
        "entry_id": entry.entry_id,
        "time": entry.time,
        "kind": posting.kind,
        "budget": fund.budget,
        "fund_account": fund.account,
        "fund_user": fund.user,
        "fund_start": fund.start,
        "unit": fund.unit,
        "from": posting.source,
        "to": posting.target,
        "amount": str(posting.amount),
        "gpu_seconds": posting.gpu_seconds,
        "rule": posting.rule,
        "actor": posting.actor,
        "reason": posting.reason,
        "batch": posting.batch,
        "account": entry.account,
        "user": entry.user,
        "job_id": entry.job_id,
        "submit_time": entry.submit_time,
        "restart": entry.restart,
        "sequence": entry.sequence,
    }


def view_json(view: FundView) -> dict[str, Any]:
    """Return how a fund stands; amounts are texts, in its unit."""
    fund = view.fund
    return {
        "account": fund.account,
        "user": fund.user,
        "budget": fund.budget,
        "unit": fund.unit,
        "granted": str(fund.granted),
        "settled": str(view.settled),
        "in_flight": str(view.in_flight),
        "committed": str(view.committed),
        "available": str(fund.available),
        "overdraft": str(fund.overdraft),
        "period_start": fund.start,
        "period_end": fund.end,
        "closed": fund.closed,
        "fund_id": fund.fund_id,
    }


def written_json(written: Written) -> dict[str, Any]:
    """Return what came of a request that writes; ``written`` is false of one that was repeated."""
    return {
        "written": written.anew,
        "time": written.time,
        "entries": [entry_json(one, written.funds[one.posting.fund_id]) for one in written.entries],
    }


def page(ledger: LedgerPort, rights: Rights, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return some entries, oldest first, and ``next``: what ``after`` is to be for the next ones.

    Operators may ask for all, who manages an account for that and those below it.

    Raises:
        NotAllowed: the caller may not see them, or there is no such account.
        RequestError: the request makes no sense.
    """
    account = fields.account(asked)
    after = fields.number(asked, "after", 0, 2**62) or 0
    since = fields.time(asked, "since")
    most = fields.number(asked, "limit", 1, _PAGE) or _PAGE
    if not (rights.manages(account) if account else rights.operates):
        msg = (
            f"{rights.user} may not see {f'the entries of account {account!r}' if account else ''}"
            f"{'' if account else 'all entries'}: operators may, and of an account its "
            "coordinators (or those of one above)"
        )
        raise NotAllowed(msg)
    with ledger.reading() as books:
        funds = {fund.fund_id: fund for fund in books.funds()}
        wanted = None
        if account:
            wanted = [
                fund_id
                for fund_id, fund in funds.items()
                if fund.account and rights.is_below(fund.account, account)
            ]
        found = [
            entry_json(entry, funds[entry.posting.fund_id])
            for entry in books.entries(fund_ids=wanted, since=since, after=after, limit=most)
        ]
    return {"entries": found, "next": found[-1]["entry_id"] if len(found) == most else None}
