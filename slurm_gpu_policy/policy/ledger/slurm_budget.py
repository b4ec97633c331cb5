"""GrpTRESMins that make Slurm itself admit what the ledger would (rule B-008).

Slurm starts a job where ``used + running + asked <= limit`` for each association above it, with
``AccountingStorageEnforce=safe`` (acct_policy.c, _validate_tres_usage_limits): all in whole minutes
of a TRES, of which ``used`` and ``running`` (what running jobs may still use) are each cut to whole
ones. So a limit of used + running + what the ledger has left lets through what fits, until
the next tick at least: a job that starts or ends moves as much in Slurm as it does in the ledger.

While jobs run, the two cut numbers can together be a minute less than their sum, and then Slurm
would admit a minute more than is left. So a minute is taken off while any runs. What is lost to
that and to the cut of what is left is less than two GPU-minutes of a level with running jobs, and
less than one of a level without.

Money is told to Slurm as GPU-minutes where all GPUs cost the same, or as ``billing`` where
TRESBillingWeights are in the proportion of the prices. Where neither is so, there is no number
that would say it exactly, and limits are not used.
"""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy.billing import read_weight
from slurm_gpu_policy.policy.ledger.budget import CLUSTER, Funds, present_funds
from slurm_gpu_policy.policy.ledger.over_budget import over_budget_qos
from slurm_gpu_policy.policy.prices.tariffs import price_book, prices_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.cluster import Partition
    from slurm_gpu_policy.model.ledger import LedgerState
    from slurm_gpu_policy.model.limit_use import LimitUse
    from slurm_gpu_policy.model.prices import Prices
    from slurm_gpu_policy.model.snapshot import Snapshot
    from slurm_gpu_policy.policy.ledger.budget import Level

GPUS: Final = "gres/gpu"
BILLING: Final = "billing"
_MICRO: Final = 1_000_000
_MINUTE: Final = 60
_RESET_DAYS: Final = {"DAILY": 1, "WEEKLY": 7}
_RESET_MONTHS: Final = {"MONTHLY": 1, "QUARTERLY": 3, "YEARLY": 12}
_BEFORE_RESET: Final = 300
_AFTER_RESET: Final = 1800


@record
class Room:
    """What the jobs of one association may still start: whole minutes of a TRES."""

    level: Level
    tres: str
    minutes: int


@record
class Rooms:
    """Room for each level that Slurm can be told of, and why it cannot be told of the others."""

    rooms: tuple[Room, ...] = ()
    remarks: tuple[str, ...] = ()


@record
class _Measure:
    """How money is told to Slurm: a minute of *tres* for each *micros* (micro-units)."""

    tres: str
    micros: Fraction


def rooms(snapshot: Snapshot, policy: Policy, state: LedgerState) -> Rooms:
    """Return what Slurm is to admit of each level that has funds with a limit.

    Needs nodes, partitions, QOS and the configuration.
    """
    funds = [view.fund for view in state.views]
    books = Funds(funds, state.parents)
    committed = {view.fund.fund_id: view.committed for view in state.views}
    limited = {}
    for level in dict.fromkeys(fund.level for fund in funds):
        here = present_funds(funds, level, snapshot.time)
        left = books.left(here) if here and level != CLUSTER else None
        if left is not None:
            waits = sum(committed[fund.fund_id] for fund in here)
            limited[level] = (here[0].unit, max(left, 0) + waits)
    if not limited:
        return Rooms()
    if why := not_used(snapshot, policy):
        return Rooms(remarks=(why,))
    found, remarks = [], [*_ways_around(snapshot, policy)]
    measure: _Measure | None = None
    if any(unit == "money" for unit, _ in limited.values()):
        measure, why = _measure(snapshot, policy)
        if measure is None:
            remarks.append(f"budgets in {policy.currency} are no limits in Slurm: {why}")
    for level, (unit, amount) in limited.items():
        if unit == "gpu_seconds":
            found.append(Room(level, GPUS, amount // _MINUTE))
        elif measure is not None:
            found.append(Room(level, measure.tres, int(amount / measure.micros)))
    return Rooms(tuple(found), tuple(remarks))


def not_used(snapshot: Snapshot, policy: Policy) -> str:
    """Return why no limits in Slurm are used at all; ``""`` where they are."""
    if policy.ledger.slurm_limits == "off":
        return "limits in Slurm are not used: ledger.slurm_limits is off"
    settings = snapshot.config.settings if snapshot.config else {}
    why = ""
    if settings.get("PriorityType", "priority/multifactor") != "priority/multifactor":
        why = "without PriorityType=priority/multifactor Slurm counts no usage"
    elif not _is_zero(settings.get("PriorityDecayHalfLife", "")):
        why = "usage decays here (PriorityDecayHalfLife), so a limit would refill by itself"
    elif not {"safe", "all"} & _words(settings.get("AccountingStorageEnforce", "")):
        why = "AccountingStorageEnforce has no safe, so Slurm would end running jobs"
    else:
        exempt = over_budget_qos(policy)
        less = [one.name for one in snapshot.qos if one.usage_factor < 1 and one.name != exempt]
        if less:
            why = (
                f"QOS {', '.join(sorted(less))} has a UsageFactor below 1, so Slurm counts less "
                "of its jobs than they use"
            )
    return f"limits in Slurm are not used: {why}" if why else ""


def _is_zero(text: str) -> bool:
    """Whether Slurm prints no time here: ``00:00:00``, or ``0``."""
    return bool(text) and not text.strip("0:-")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.lower().split(","))


def _ways_around(snapshot: Snapshot, policy: Policy) -> Iterator[str]:
    """Yield whose jobs Slurm does not hold to an association's limit: the QOS has its own."""
    exempt = over_budget_qos(policy)
    names = [one.name for one in snapshot.qos if one.name != exempt and GPUS in one.grp_tres_mins]
    if names:
        yield (
            f"jobs in QOS {', '.join(sorted(names))} are not bound by their accounts' limits in "
            "Slurm: the QOS has a GrpTRESMins of its own, which goes before"
        )


# --- money ----------------------------------------------------------------------------------


def _measure(snapshot: Snapshot, policy: Policy) -> tuple[_Measure | None, str]:
    """Return the TRES that says the prices exactly, or why there is none."""
    at = snapshot.time
    book = price_book(policy)
    prices = prices_at(book, at)
    longest = max((one.max_time_seconds or 10**9 for one in snapshot.partitions), default=10**9)
    if any(at < tariff.since <= at + longest for tariff in book):
        return None, "prices change before the longest job that starts now is over"
    exempt = over_budget_qos(policy)
    factors = {factor for name, factor in prices.qos.items() if name != exempt}
    if prices.bands or factors - {_MICRO}:
        return None, "prices depend on the hour or on the QOS"
    if prices.minimum:
        return None, "a run has a minimum charge"
    flat = _flat_price(snapshot, prices)
    if flat:
        return _Measure(GPUS, Fraction(flat, _MINUTE)), ""
    unit, why = _billing_price(snapshot, prices)
    return (_Measure(BILLING, unit / _MINUTE), "") if unit else (None, why)


def _flat_price(snapshot: Snapshot, prices: Prices) -> int:
    """Return what every GPU costs for an hour, if that is one price and all there is to pay."""
    if prices.cpu or prices.memory_gib or set(prices.partitions.values()) - {_MICRO}:
        return 0
    kinds = {gpus.type.lower() for node in snapshot.nodes for gpus in node.gpus}
    found = {prices.gpus.get(kind, 0) for kind in kinds} | set(prices.gpus_by_partition.values())
    return found.pop() if len(found) == 1 else 0


def _billing_price(snapshot: Snapshot, prices: Prices) -> tuple[Fraction | None, str]:
    """Return what a unit of billing costs for an hour, if that is one price everywhere."""
    settings = snapshot.config.settings if snapshot.config else {}
    if "max_tres" in settings.get("PriorityFlags", "").lower():
        return None, "GPUs differ in price, and with PriorityFlags=MAX_TRES billing is no sum"
    if prices.memory_gib:
        return None, "memory has a price, and Slurm cuts its billing to whole units"
    units: set[Fraction] = set()
    nodes = {node.name: node for node in snapshot.nodes}
    for partition in snapshot.partitions:
        kinds = {
            gpus.type.lower()
            for name in partition.nodes
            if name in nodes
            for gpus in nodes[name].gpus
        }
        for price, weight in _pairs(partition, kinds, prices):
            if weight is None:
                return None, f"TRESBillingWeights of partition {partition.name} are not whole"
            if bool(price) != bool(weight):
                return None, (
                    f"TRESBillingWeights of partition {partition.name} are not in the proportion "
                    "of the prices"
                )
            if price:
                units.add(price / weight)
    if len(units) != 1:
        return None, "GPUs differ in price, and TRESBillingWeights are not in their proportion"
    return units.pop(), ""


def _pairs(
    partition: Partition, kinds: set[str], prices: Prices
) -> Iterator[tuple[Fraction, Fraction | None]]:
    """Yield the price of each thing in a partition and its weight; ``None``: not a whole one."""
    texts = {name.lower(): text for name, text in partition.billing_weights.items()}
    weights = {name: read_weight(name, text) for name, text in texts.items()}
    factor = Fraction(prices.partitions.get(partition.name, _MICRO), _MICRO)

    def whole(weight: float) -> Fraction | None:
        return Fraction(int(weight)) if weight == int(weight) else None

    of_all = weights.get(GPUS, 0.0)
    known = {GPUS, "cpu"}
    for kind in sorted(kinds):
        price = prices.gpus_by_partition.get(partition.name) if not kind else None
        name = f"{GPUS}:{kind}"
        known.add(name)
        price = prices.gpus.get(kind, 0) if price is None else price
        yield price * factor, whole(of_all + (weights.get(name, 0.0) if kind else 0.0))
    yield prices.cpu * factor, whole(weights.get("cpu", 0.0) if texts else 1.0)
    for name, weight in weights.items():
        if name not in known and weight:
            yield Fraction(0), Fraction(1)


# --- the limit ------------------------------------------------------------------------------


def limit(room: Room, use: LimitUse, *, reset_is_near: bool = False) -> int:
    """Return the GrpTRESMins that lets through what *room* has, by what Slurm has counted.

    *reset_is_near*: Slurm may forget at any moment what was used (PriorityUsageResetPeriod), so
    that is not added, and what Slurm admits is too little until it has.
    """
    used, running = use.used.get(room.tres, 0), use.running.get(room.tres, 0)
    return (0 if reset_is_near else used) + max(running + room.minutes - bool(running), 0)


def reset_is_near(settings: Mapping[str, str], now: int, zone: str) -> bool:
    """Whether Slurm is about to set all usage to 0, or may just have done so.

    It does so at midnight by its own clock, which is taken to be in *zone*, or when it next
    computes priorities (priority_multifactor.c, _next_reset).
    """
    period = settings.get("PriorityUsageResetPeriod", "NONE").upper()
    for shift in (_BEFORE_RESET, -_AFTER_RESET):
        here = datetime.fromtimestamp(now, UTC).astimezone(ZoneInfo(zone))
        there = (datetime.fromtimestamp(now + shift, UTC)).astimezone(ZoneInfo(zone))
        first, second = sorted((here, there))
        if first.date() == second.date():
            continue
        if period in _RESET_DAYS and (period == "DAILY" or second.isoweekday() == 7):  # noqa: PLR2004
            return True
        months = _RESET_MONTHS.get(period)
        if months and second.day == 1 and (second.month - 1) % months == 0:
            return True
    return False
