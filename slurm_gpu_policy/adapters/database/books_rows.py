"""The ledger's records as rows, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from slurm_gpu_policy.adapters.database.tables import CLAIMS, ENTRIES, FUNDS, LEGS, storable
from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.ledger import Claim, Entry, Fund, Leg, Posting
from slurm_gpu_policy.model.prices import Band, Cost, Prices, Tariff, Use

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import Row, Table

LARGEST: Final = 2**63 - 1
"""Both databases' integers have 64 bits; a sum beyond would become a float in SQLite."""

CLAIM_COLUMNS: Final = tuple(
    column.name for column in CLAIMS.columns if column.name not in {"claim_id", "cluster"}
)
FUND_COLUMNS: Final = tuple(
    column.name for column in FUNDS.columns if column.name not in {"fund_id", "cluster"}
)
LEG_COLUMNS: Final = tuple(column.name for column in LEGS.columns)
ENTRY_COLUMNS: Final = tuple(column.name for column in ENTRIES.columns)

_ALL_BUT_LEGS_AND_ID = attrgetter(*[each.name for each in fields(Claim)][:-2])
_CLAIM_NUMBERS = attrgetter(
    *("job_id", "submit_time", "restart", "tasks", "start_time", "seconds", "accrued.micros"),
    *("accrued.gpu_seconds", "accrued_until", "end_time", "known_since"),
    *("use.cpus", "use.memory_mb"),
)


def need_small(numbers: Iterable[int | None], whose: str) -> None:
    """Refuse what no database can hold.

    Raises:
        ValueError: a number of *whose* needs more than 64 bits.
    """
    for number in numbers:
        if number is not None and not -LARGEST <= number <= LARGEST:
            msg = f"{whose}: {number} is more than the books can hold (64 bits)"
            raise ValueError(msg)


def possible(ids: Iterable[int]) -> list[int]:
    """Return the ids that a database can hold; nothing has any other."""
    return [one for one in ids if -LARGEST <= one <= LARGEST]


# --- claims --------------------------------------------------------------------------------------


def claim_values(claim: Claim) -> tuple[Any, ...]:
    """Return a claim's values, without its legs, in the order of CLAIM_COLUMNS.

    Raises:
        ValueError: it is no run and no promise, or a number is too large.
    """
    if (claim.job_id is None) != (claim.submit_time is None):
        msg = f"a run is told by its job id and its submit time, both: {claim.job_id}"
        raise ValueError(msg)
    if claim.job_id is None and not claim.token:
        msg = "a claim without a job needs a token"
        raise ValueError(msg)
    need_small(_CLAIM_NUMBERS(claim), "a claim")
    use, accrued = claim.use, claim.accrued
    return (
        claim.job_id,
        claim.submit_time,
        claim.restart,
        storable(claim.token),
        storable(claim.account),
        storable(claim.user),
        claim.state,
        json.dumps(dict(use.gpus), sort_keys=True) if use.gpus else "{}",
        use.cpus,
        use.memory_mb,
        storable(use.partition),
        storable(use.qos),
        claim.tasks,
        claim.start_time,
        claim.seconds,
        accrued.micros,
        accrued.gpu_seconds,
        claim.accrued_until,
        claim.end_time,
        storable(claim.end_state),
        claim.settled,
        claim.known_since,
    )


def new_claim(claim: Claim, claim_id: int) -> Claim:
    """Return a claim with its id and without legs; ``replace`` takes three times as long."""
    values: Any = (*_ALL_BUT_LEGS_AND_ID(claim), (), claim_id)
    return Claim(*values)


def claim_of(claim_id: int, values: Sequence[Any], legs: tuple[Leg, ...]) -> Claim:
    """Return the claim that has these values, in the order of CLAIM_COLUMNS."""
    (job_id, submit_time, restart, token, account, user, state, gpus, cpus, memory_mb, partition,
     qos, tasks, start_time, seconds, micros, gpu_seconds, until, end_time, end_state, settled,
     known_since) = values  # fmt: skip
    return Claim(
        account=account,
        user=user,
        state=state,
        job_id=job_id,
        submit_time=submit_time,
        restart=restart,
        token=token,
        use=_use(gpus, cpus, memory_mb, partition, qos),
        tasks=tasks,
        start_time=start_time,
        seconds=seconds,
        accrued=Cost(micros, gpu_seconds),
        accrued_until=until,
        end_time=end_time,
        end_state=end_state,
        settled=bool(settled),
        known_since=known_since,
        legs=legs,
        claim_id=claim_id,
    )


@lru_cache(maxsize=4096)
def _use(gpus: str, cpus: int, memory_mb: int, partition: str, qos: str) -> Use:
    """Return what jobs that are alike hold, once for all of them."""
    return Use(_frozen(json.loads(gpus)), cpus, memory_mb, partition, qos)


def _frozen(numbers: dict[str, int]) -> Mapping[str, int]:
    return MappingProxyType(numbers)


# --- funds and entries ---------------------------------------------------------------------------


def fund_values(fund: Fund) -> dict[str, Any]:
    """Return the row of a new fund, but for the cluster.

    Raises:
        ValueError: a number is too large.
    """
    numbers = (fund.start, fund.end, fund.position, fund.overdraft, fund.soft)
    need_small(numbers, f"budget {storable(fund.budget)!r}")
    return {
        "budget": storable(fund.budget),
        "account": storable(fund.account),
        "user_name": storable(fund.user),
        "unit": fund.unit,
        "begins": fund.start,
        **changeable(fund),
        **dict.fromkeys(("available", "reserved", "spent", "in_flight", "entries"), 0),
    }


def changeable(fund: Fund) -> dict[str, Any]:
    """Return the columns of a fund that may change and are no balance."""
    return {
        "ends": fund.end,
        "position": fund.position,
        "overdraft": fund.overdraft,
        "unlimited": fund.unlimited,
        "soft": fund.soft,
        "closed": fund.closed,
    }


def fund_of(row: Row[Any]) -> Fund:
    """Return the fund of a row of FUNDS."""
    return Fund(
        budget=row.budget,
        account=row.account,
        user=row.user_name,
        unit=row.unit,
        start=row.begins,
        end=row.ends,
        position=row.position,
        overdraft=row.overdraft,
        unlimited=row.unlimited,
        soft=row.soft,
        closed=row.closed,
        available=row.available,
        reserved=row.reserved,
        spent=row.spent,
        fund_id=row.fund_id,
    )


def entry_of(row: Row[Any]) -> Entry:
    """Return the entry of a row of ENTRIES joined with its claim and its fund."""
    posting = Posting(
        kind=row.kind,
        fund_id=row.fund_id,
        source=row.source,
        target=row.target,
        amount=row.amount,
        rule=row.rule,
        actor=row.actor,
        reason=row.reason,
        gpu_seconds=row.gpu_seconds,
        claim_id=row.claim_id,
        batch=row.batch,
    )
    return Entry(
        entry_id=row.entry_id,
        time=row.time,
        posting=posting,
        sequence=row.sequence,
        account=row.account,
        user=row.user_name,
        job_id=None if row.job_id is None else JobId(row.job_id),
        submit_time=row.submit_time,
        restart=row.restart,
    )


# --- price books ---------------------------------------------------------------------------------


def tariffs_text(tariffs: Iterable[Tariff]) -> str:
    """Return a price book as JSON, in ASCII whatever its names are."""
    return json.dumps([{"since": each.since, **_plain(each.prices)} for each in tariffs])


def tariffs_of(text: str) -> tuple[Tariff, ...]:
    """Return the price book that was written so."""
    return tuple(_tariffs(json.loads(text)))


def _plain(prices: Prices) -> dict[str, Any]:
    values = {each.name: getattr(prices, each.name) for each in fields(prices)}
    plain = {
        name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()
    }
    plain["bands"] = [
        [sorted(band.days), band.start, band.end, band.factor] for band in prices.bands
    ]
    return plain


def _tariffs(plain: list[dict[str, Any]]) -> Iterator[Tariff]:
    """Yield tariffs; what prices did not know yet when they were written has its default."""
    for each in plain:
        since = each.pop("since")
        bands = [Band(frozenset(days), *numbers) for days, *numbers in each.pop("bands")]
        values: dict[str, Any] = {
            name: _frozen(value) if isinstance(value, dict) else value
            for name, value in each.items()
        }
        yield Tariff(since, Prices(**values, bands=tuple(bands)))


def columns(table: Table, names: Iterable[str]) -> list[Any]:
    """Return the columns of a table by their names."""
    return [table.c[name] for name in names]
