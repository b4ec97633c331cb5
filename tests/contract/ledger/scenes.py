"""Funds, claims and entries as the ledger's tests need them."""

from __future__ import annotations

from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.ledger import Claim, Fund, Posting
from slurm_gpu_policy.model.prices import Cost, Use

NOW = 1_800_000_000
HOUR = 3600
USE = Use({"h100": 2, "": 1}, cpus=8, memory_mb=64_000, partition="gpu", qos="normal")


def fund(budget="lab", account="lab", **fields):
    return Fund(budget, account, **fields)


def run(job=7, submit=NOW, **fields):
    defaults = {"account": "lab", "user": "u1", "state": "pending", "use": USE}
    return Claim(job_id=JobId(job), submit_time=submit, **{**defaults, **fields})


def promise(token="t1", **fields):
    defaults = {"account": "lab", "user": "u1", "state": "promised", "use": USE}
    return Claim(token=token, **{**defaults, **fields})


def ended(job=7, **fields):
    defaults = {
        "state": "ended",
        "start_time": NOW,
        "end_time": NOW + HOUR,
        "seconds": HOUR,
        "end_state": "COMPLETED",
        "settled": True,
        "accrued": Cost(5, 6),
        "accrued_until": NOW + HOUR,
    }
    return run(job, **{**defaults, **fields})


MOVES = {
    "grant": ("site", "available"),
    "reserve": ("available", "reserved"),
    "release": ("reserved", "available"),
    "charge": ("available", "spent"),
    "refund": ("spent", "available"),
    "adjust": ("site", "available"),
    "expire": ("available", "site"),
    "transfer": ("available", "site"),
}


def posting(kind, fund_id, amount, *, claim=None, rule="B-003", move=None, **fields):
    source, target = move or MOVES[kind]
    claim_id = getattr(claim, "claim_id", claim)
    return Posting(kind, fund_id, source, target, amount, rule, "me", claim_id=claim_id, **fields)


def opened(ledger, *funds, granted=0):
    """Open funds, and grant each so much; return them as they stand."""
    with ledger.writing() as books:
        found = books.open_funds(funds or (fund(),))
        if granted:
            books.post(NOW, [posting("grant", one.fund_id, granted) for one in found])
        by_id = {one.fund_id: one for one in books.funds()}
    return tuple(by_id[one.fund_id] for one in found)


def saved(ledger, *claims):
    with ledger.writing() as books:
        return books.save(claims)


def posted(ledger, *postings, now=NOW):
    with ledger.writing() as books:
        books.post(now, postings)


def balances(ledger, fund_id=1):
    with ledger.reading() as books:
        (found,) = [one for one in books.funds() if one.fund_id == fund_id]
    return found.available, found.reserved, found.spent


def everything(ledger):
    """All that can be read."""
    with ledger.reading() as books:
        return {
            "tariffs": books.tariffs(),
            "funds": books.funds(),
            "open": books.open_claims(),
            "views": books.views([one.fund_id for one in books.funds()]),
            "entries": list(books.entries()),
            "count": books.count_entries(),
            "marks": dict(books.marks("")),
            "between": list(books.claims_between(0, 2**40)),
        }
