"""What entries do to the books in memory, and whether these add up."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from slurm_gpu_policy.model.ledger import Claim, Fund, Leg, Posting
from slurm_gpu_policy.policy import rules

_MOST = 2**63 - 1
_REFUNDS = (rules.REFUND_NODE, rules.REFUND_PREEMPTION, rules.REFUND_BY_HAND)


def need_small(*numbers: int | None) -> None:
    for number in numbers:
        if number is not None and not -_MOST <= number <= _MOST:
            msg = f"{number} is more than the books can hold (64 bits)"
            raise ValueError(msg)


def moved(fund: Fund, posting: Posting) -> Fund:
    balances = {name: getattr(fund, name) for name in ("available", "reserved", "spent")}
    if posting.source != "site":
        balances[posting.source] -= posting.amount
    if posting.target != "site":
        balances[posting.target] += posting.amount
    need_small(*balances.values())
    if balances["reserved"] < 0:
        msg = f"the reservations of fund {fund.fund_id} would be negative"
        raise ValueError(msg)
    return replace(fund, **balances)


def changed(leg: Leg, posting: Posting) -> Leg:
    """Return what a claim has of a fund after an entry."""
    reserved, charged = leg.reserved, leg.charged
    refunded, gpu_seconds = leg.refunded, leg.gpu_seconds
    if posting.target == "reserved":
        reserved += posting.amount
    if posting.source == "reserved":
        reserved -= posting.amount
    if posting.source == "available" and posting.target == "spent" and posting.rule in _REFUNDS:
        refunded -= posting.amount
    elif posting.target == "spent":
        charged += posting.amount
        gpu_seconds += posting.gpu_seconds
    if posting.source == "spent" and posting.rule == rules.BUDGET_CORRECTION:
        charged -= posting.amount
        gpu_seconds -= posting.gpu_seconds
    elif posting.source == "spent":
        refunded += posting.amount
    if reserved < 0:
        msg = f"the reservation of claim {posting.claim_id} would be negative"
        raise ValueError(msg)
    if charged < 0:
        msg = f"claim {posting.claim_id} would be charged less than nothing"
        raise ValueError(msg)
    if refunded < 0:
        msg = f"claim {posting.claim_id} would give back more than was refunded"
        raise ValueError(msg)
    need_small(reserved, charged, refunded, gpu_seconds)
    return Leg(leg.fund_id, reserved, charged, refunded, gpu_seconds)


def problems(state):
    """What the port says of ``problems``, but for what this fake cannot get wrong."""
    funds = {
        fund_id: replace(fund, available=0, reserved=0, spent=0)
        for fund_id, fund in state.funds.items()
    }
    legs: dict = {}
    sequences = defaultdict(list)
    site: dict = defaultdict(int)
    for entry in state.entries:
        posting = entry.posting
        funds[posting.fund_id] = fund = moved(funds[posting.fund_id], posting)
        sign = (posting.target == "site") - (posting.source == "site")
        site[fund.unit] += sign * posting.amount
        if posting.claim_id is not None:
            key = posting.claim_id, posting.fund_id
            legs[key] = changed(legs.get(key) or Leg(posting.fund_id), posting)
            sequences[*key, posting.kind].append(entry.sequence)
    yield from _differences(state, funds, legs)
    for (claim_id, fund_id, kind), found in sequences.items():
        if found != list(range(len(found))):
            yield f"claim {claim_id}, fund {fund_id}: {kind} entries are numbered {found}"
    for unit in ("money", "gpu_seconds"):
        kept = sum(fund.granted for fund in state.funds.values() if fund.unit == unit)
        if site[unit] != -kept:
            yield f"the site's side in {unit} is not minus all funds'"
    for claim in state.claims.values():
        yield from _problems_of_claim(state, state.whole(claim))


def _differences(state, funds, legs):
    for fund_id, fund in state.funds.items():
        if fund != funds[fund_id]:
            yield f"fund {fund_id}: its balances are not the sum of its entries"
    kept = {(claim, fund): leg for claim, of in state.legs.items() for fund, leg in of.items()}
    for claim_id, fund_id in sorted(kept.keys() | legs.keys()):
        if kept.get((claim_id, fund_id)) != legs.get((claim_id, fund_id)):
            yield f"claim {claim_id}: what it has of fund {fund_id} is not the sum of its entries"


def _problems_of_claim(state, claim: Claim):  # noqa: C901 - one invariant after another
    name = f"claim {claim.claim_id} (job {claim.job_id})"
    if claim.state != "ended":
        return
    if claim.reserved:
        yield f"{name} has ended and something is still set aside for it"
    if claim.start_time is None:
        return
    if not claim.settled:
        yield f"{name} has ended and is not settled"
        return
    charged = {
        entry.posting.fund_id
        for entry in state.entries
        if entry.posting.claim_id == claim.claim_id and entry.posting.kind == "charge"
    }
    still = {leg.fund_id for leg in claim.legs if leg.charged or leg.gpu_seconds}
    until = claim.start_time + claim.seconds
    own = {
        fund.fund_id: fund.start < until and (fund.end is None or fund.end > claim.start_time)
        for fund in state.funds.values()
        if fund.level == ("", "")
    }
    for fund_id, ran_in in own.items():
        if claim.seconds and ran_in and fund_id not in charged:
            yield f"{name} ran in the period of fund {fund_id} and is not charged there"
        if not ran_in and fund_id in still:
            yield f"{name} did not run in the period of fund {fund_id} and is charged there"
    costs = [leg for leg in claim.legs if leg.fund_id in own]
    sums = sum(leg.charged for leg in costs), sum(leg.gpu_seconds for leg in costs)
    known = claim.accrued.micros, claim.accrued.gpu_seconds
    if claim.accrued_until is not None and sums != known:
        yield f"{name} cost {known}, and the cluster's funds were charged {sums}"
    for leg in claim.legs:
        if leg.refunded > leg.charged:
            yield f"{name}: more is given back on fund {leg.fund_id} than was charged"
    if claim.seconds and not charged & own.keys():
        yield f"{name} is settled and charged on no fund of the cluster"
