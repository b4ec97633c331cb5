"""Measure fair tree and priorities against plain Python loops that say the same, in one run.

    bench/arithmetic.py [--rounds 5]

Needs no cluster. The plain loops are what one would write first: recursion and one formula a job,
attribute by attribute. Each round measures both, in turn. Exits with 1 where a figure is above its
limit: a second for 10,000 associations and 100,000 jobs together, and growth near the number of
jobs (a million no longer fit a processor's cache, so a little above ten times is even).
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.policy.fair_tree import Member, fair_tree
from slurm_gpu_policy.policy.priority import Claim, Place, Settings, Weights, priorities

if TYPE_CHECKING:
    from collections.abc import Callable

ASSOCIATIONS = 10_000
JOBS = 100_000
MANY_JOBS = 1_000_000
NOW = 1_800_000_000
SETTINGS = Settings(
    weights=Weights(
        age=2000, association=1000, fair_share=10_000, job_size=500, partition=1000, qos=6000,
        tres={"cpu": 100.0, "mem": 100.0, "gres/gpu": 1500.0},
    ),
    cluster_cpus=128_000,
    nodes=2000,
    max_association_priority=10,
    max_qos_priority=1000,
    max_partition_factor=100,
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    report = measure(parser.parse_args().rounds)
    print(json.dumps(report, indent=2))
    above = [f"{name} is {found}, above {most}" for name, found, most in limits(report)
             if found > most]  # fmt: skip
    sys.exit("; ".join(above) or 0)


def measure(rounds: int = 5) -> dict[str, Any]:
    """Return medians in milliseconds, ratios to the plain loops, and growth to a million jobs."""
    draw = random.Random(7)  # noqa: S311 - the same work each time
    members = tree(draw, ASSOCIATIONS)
    claims = jobs(draw, JOBS, places(members))
    contenders: dict[str, Callable[[], object]] = {
        "fair tree": lambda: fair_tree(members),
        "fair tree, plain": lambda: plain_fair_tree(members),
        "priorities": lambda: priorities(claims, SETTINGS, NOW),
        "priorities, plain": lambda: [plain_priority(claim, SETTINGS, NOW) for claim in claims],
    }
    if contenders["priorities"]() != contenders["priorities, plain"]():
        sys.exit("bench: the plain loop finds other priorities")
    if [one.fair_share for one in fair_tree(members)] != plain_fair_tree(members):
        sys.exit("bench: the plain recursion finds other factors")
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            times[name].append(timed(call))
    medians = {name: statistics.median(values) for name, values in times.items()}
    both = medians["fair tree"] + medians["priorities"]
    plain = medians["fair tree, plain"] + medians["priorities, plain"]
    many = jobs(draw, MANY_JOBS, places(members))
    seconds = statistics.median(
        timed(lambda: priorities(many, SETTINGS, NOW)) for _ in range(min(3, rounds))
    )
    return {
        "associations": len(members),
        "jobs": JOBS,
        **{f"{name}, median_ms": round(value * 1000, 1) for name, value in medians.items()},
        "both, median_ms": round(both * 1000, 1),
        "both / plain": round(both / plain, 2),
        f"{MANY_JOBS} jobs, ms": round(seconds * 1000, 1),
        "growth per ten times the jobs": round(seconds / medians["priorities"], 1),
    }


def limits(report: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Return what is limited: name, figure found, and the most it may be."""
    return [
        ("fair tree and priorities, ms", report["both, median_ms"], 1000),
        ("fair tree and priorities to plain loops", report["both / plain"], 1.1),
        ("ten times the jobs", report["growth per ten times the jobs"], 16),
    ]


def timed(call: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def tree(draw: random.Random, size: int) -> list[Member]:
    """Accounts three levels deep, one for nine users; some idle, some without shares."""
    members = [Member("root", shares=1)]
    names = ["root"]
    usages = {"root": 0.0}
    users = []
    while len(members) + len(users) < size:
        above = draw.choice(names[-40:])
        name = f"a{len(names)}"
        names.append(name)
        members.append(Member(name, parent=above, shares=draw.choice([1, 10, 50, None])))
        for number in range(9):
            usage = draw.choice([0.0, draw.expovariate(1e-6)])
            users.append(Member(name, f"u{number}", shares=draw.choice([0, 1, 10]), usage=usage))
            usages[name] = usages.get(name, 0.0) + usage
    for member in reversed(members[1:]):  # children stand behind their parents
        usages[member.parent] = usages.get(member.parent, 0.0) + usages.get(member.account, 0.0)
    accounts = [
        Member(one.account, parent=one.parent, shares=one.shares, usage=usages[one.account])
        for one in members
    ]
    return [*accounts, *users][:size]


def places(members: list[Member]) -> list[Place]:
    factors = [one.fair_share for one in fair_tree(members) if one.member.user]
    totals = [{"cpu": 64_000, "mem": 10**9, "gres/gpu": 8000 * number} for number in range(5)]
    return [
        Place(
            partition=f"p{number % 5}",
            qos=f"q{number % 4}",
            fair_share=factor or 0.0,
            association_priority=number % 11,
            qos_priority=number % 4 * 250,
            partition_factor=number % 5 * 25,
            partition_tres=totals[number % 5],
        )
        for number, factor in enumerate(factors)
    ]


def jobs(draw: random.Random, size: int, where: list[Place]) -> list[Claim]:
    return [
        Claim(
            place=draw.choice(where),
            accrue_time=NOW - draw.randrange(1_000_000),
            min_nodes=draw.randrange(1, 9),
            cpus=8 * (gpus := draw.choice([0, 1, 2, 4, 8])),
            time_limit_minutes=60 * draw.randrange(1, 100),
            tres={"cpu": 8 * gpus, "mem": 64_000 * gpus, "node": 1, "billing": 5, "gres/gpu": gpus},
            site=draw.randrange(-100, 100),
            nice=draw.randrange(100),
        )
        for _ in range(size)
    ]


def plain_priority(claim: Claim, settings: Settings, now: int) -> int:
    """The formula of docs/priority.md with all its modes, written down as it stands there."""
    if claim.direct_priority is not None:
        return claim.direct_priority
    weights, place, flags = settings.weights, claim.place, settings.flags
    age = 0.0
    if claim.accrue_time:
        age = min(1.0, max(0, now - claim.accrue_time) / settings.max_age_seconds)
    association = place.association_priority
    if "NO_NORMAL_ASSOC" not in flags and settings.max_association_priority:
        association /= settings.max_association_priority
    partition = place.partition_factor
    if "NO_NORMAL_PART" not in flags:
        partition /= settings.max_partition_factor
    qos = place.qos_priority
    if "NO_NORMAL_QOS" not in flags and settings.max_qos_priority:
        qos /= settings.max_qos_priority
    tres = 0.0
    for name, weight in weights.tres.items():
        if "NO_NORMAL_TRES" in flags:
            tres += claim.tres.get(name, 0) * weight
        elif claim.tres.get(name) and place.partition_tres.get(name):
            tres += claim.tres[name] / place.partition_tres[name] * weight
    age *= weights.age
    association *= weights.association
    fair_share = place.fair_share * weights.fair_share
    size = plain_size(claim, settings) * weights.job_size
    partition *= weights.partition
    qos *= weights.qos
    if claim.one_of_several:
        total = partition + (
            age + association + fair_share + size + qos + tres + claim.site - claim.nice
        )
    else:
        total = (
            age + association + fair_share + size + partition + qos + tres
            + claim.site - claim.nice
        )  # fmt: skip
    return int(max(1.0, min(total, 2.0**32 - 1)))


def plain_size(claim: Claim, settings: Settings) -> float:
    if "SMALL_RELATIVE_TO_TIME" in settings.flags:
        size = max(claim.min_nodes * settings.cluster_cpus / settings.nodes, claim.cpus)
        size = size / (claim.time_limit_minutes or 2**32 - 1) / settings.cluster_cpus
        if settings.favor_small:
            size = 1 - size
    elif settings.favor_small:
        size = max(0, settings.nodes - claim.min_nodes) / settings.nodes
        if claim.cpus:
            size = (size + (settings.cluster_cpus - claim.cpus) / settings.cluster_cpus) / 2
    else:
        size = claim.min_nodes / settings.nodes
        if claim.cpus:
            size = (size + claim.cpus / settings.cluster_cpus) / 2
    return max(0.0, min(1.0, size))


def plain_fair_tree(members: list[Member]) -> list[float | None]:  # noqa: C901
    """The recursion of docs/priority.md, as it stands there."""
    by_name = {one.account: one for one in members if not one.user}
    children: dict[str, list[Member]] = {}

    def divider(one: Member) -> Member:
        above = by_name[one.account if one.user else one.parent]
        while above.shares is None and above.parent:
            above = by_name[above.parent]
        return above

    for one in members:
        if one.user or one.parent:
            children.setdefault(divider(one).account, []).append(one)
    users = sum(1 for one in members if one.user)
    found: dict[tuple[str, str], float] = {}
    state = {"rank": users, "next": users}

    def level(one: Member) -> float:
        if one.shares is None:
            return float("inf") if one.user else 4294967294.0
        above = divider(one)
        every = sum(other.shares or 0 for other in children[above.account])
        if not every or not one.shares:
            return 0.0
        usage = one.usage / above.usage if above.usage else 0.0
        return one.shares / every / usage if usage else float("inf")

    def visit(account: str, account_tied: bool) -> None:
        siblings = sorted(
            ((level(one), one) for one in children.get(account, [])),
            key=lambda each: (-each[0], not each[1].user),
        )
        previous = 4294967294.0
        for at, (mine, one) in enumerate(siblings):
            tied = True if at == 0 and account_tied else previous == mine
            if one.user:
                if not tied:
                    state["rank"] = state["next"]
                found[one.account, one.user] = state["rank"] / users
                state["next"] -= 1
            elif one.shares is not None:
                visit(one.account, tied)
            previous = mine

    visit("root", account_tied=False)
    return [found.get((one.account, one.user)) for one in members]


if __name__ == "__main__":
    main()
