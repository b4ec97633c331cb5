"""In what ways a request could run, and which of them is the cheapest, which the soonest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy.gpu_kinds import gpu_kinds, wanted_kinds
from slurm_gpu_policy.policy.prices.price_outlook import later_start
from slurm_gpu_policy.policy.prices.pricing import cost, has_price, price_book, prices_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from slurm_gpu_policy.config.schema import Cluster, Policy
    from slurm_gpu_policy.model.decision import Decision
    from slurm_gpu_policy.model.prices import Tariff
    from slurm_gpu_policy.model.request import Request
    from slurm_gpu_policy.model.snapshot import Snapshot

_BEGIN = "begin"


@record
class Choice:
    """One way to run a request that the policy admits."""

    request: Request
    decision: Decision
    begin: int | None = None
    """Unix seconds before which it is not to start, for the price; ``None``: as soon as it can."""
    start: int | None = None
    """When Slurm would start it, as far as it can say."""
    micros: int | None = None
    """What all its tasks cost if it starts then and uses its whole time limit."""


def variants(
    request: Request,
    snapshot: Snapshot,
    policy: Policy,
    cluster: Cluster,
    *,
    least_gpus: int | None = None,
) -> Iterator[Request]:
    """Yield *request* on each GPU type and in each partition that it may be tried in.

    What it names itself stays: its types, its partitions. Fewer GPUs, down to *least_gpus*, are
    halves of what it asks for.
    """
    names: list[str] = [""]
    if request.wants_gpus:
        workload = policy.workloads.get(request.workload) or policy.workloads["generic"]
        prices = prices_at(price_book(policy), snapshot.time)
        kinds = gpu_kinds(snapshot.nodes, policy, cluster, prices)
        wanted, _ = wanted_kinds(request, workload, kinds, policy)
        names = [kind.name for kind in wanted] or list(request.gpu_types[:1]) or [""]
    named = [name for name in (request.partition or "").split(",") if name]
    partitions = named or [each.name for each in snapshot.partitions]
    for gpus in _counts(request, least_gpus):
        for name in names:
            for partition in partitions:
                types = (name,) if name else request.gpu_types
                yield replace(request, gpus=gpus, gpu_types=types, partition=partition)


def _counts(request: Request, least: int | None) -> tuple[int | None, ...]:
    """Return the numbers of GPUs to try: all, half of them, a quarter, down to the least."""
    whole = request.gpus
    if not whole or least is None or least >= whole:
        return (whole,)
    counts = [whole]
    while counts[-1] // 2 > least:
        counts.append(counts[-1] // 2)
    return (*counts, max(least, 1))


def later(choice: Choice, book: Sequence[Tariff], now: int) -> Choice | None:
    """Rule C-404: the same choice, made to wait for cheaper hours, if that saves anything."""
    decision, request = choice.decision, choice.request
    named = {name for name, _ in (*request.options, *request.script_options)}
    if not decision.time_seconds or _BEGIN in named:
        return None
    found = later_start(decision.use, decision.time_seconds, book, now)
    if found is None or not has_price(decision.use, prices_at(book, found.start)):
        return None
    minutes = -(-(found.start - now) // 60)
    options = (*request.options, (_BEGIN, f"now+{minutes}minutes"))
    return replace(
        choice, request=replace(request, options=options), begin=now + minutes * 60, start=None
    )


def with_start(choice: Choice, start: int | None, book: Sequence[Tariff], now: int) -> Choice:
    """Return *choice* with its start, and what it costs from there."""
    decision = choice.decision
    micros = None
    if start is not None and choice.begin is not None:
        start = max(start, choice.begin)
    at = max(start or choice.begin or now, now)
    if decision.time_seconds and has_price(decision.use, prices_at(book, at)):
        one = cost(decision.use, at, at + decision.time_seconds, book)
        micros = one.micros * decision.tasks
    return replace(choice, start=start, micros=micros)


def cheapest(choices: Sequence[Choice]) -> Choice | None:
    """Return the cheapest, of several the soonest; one without a price is none."""
    priced = [each for each in choices if each.micros is not None]
    return min(priced, key=lambda each: (each.micros or 0, _start(each)), default=None)


def soonest(choices: Sequence[Choice]) -> Choice | None:
    """Return the soonest; of several within a minute one with all GPUs, and then the cheapest.

    One whose start nobody knows is none.
    """
    known = [each for each in choices if each.start is not None]
    return min(
        known,
        key=lambda each: (_start(each) // 60, -each.decision.gpus, _amount(each)),
        default=None,
    )


def in_order(choices: Sequence[Choice]) -> tuple[Choice, ...]:
    """Return the choices, the cheapest first; those without a price last."""
    return tuple(sorted(choices, key=lambda each: (_amount(each), _start(each))))


def _start(choice: Choice) -> float:
    return float("inf") if choice.start is None else choice.start


def _amount(choice: Choice) -> float:
    return float("inf") if choice.micros is None else choice.micros
