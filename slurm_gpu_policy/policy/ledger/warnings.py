"""Telling people that a budget runs out, once for each part of it (rule B-010)."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from slurm_gpu_policy.model.notice import Notice
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.ledger.affording import amount_words
from slurm_gpu_policy.policy.ledger.periods import zone_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.job import Job
    from slurm_gpu_policy.model.ledger import Claim, Fund, FundView
    from slurm_gpu_policy.model.notice import Severity

_GRAVE_PERCENT: Final = 80
_ALL_PERCENT: Final = 100
_REARM_PERCENT: Final = 5
"""How far what is spent must fall below a threshold before it can be told of again."""


@record
class Audience:
    """What is known of the people whom a budget concerns."""

    coordinators: Mapping[str, frozenset[str]]
    """By account: who coordinates it in Slurm."""
    parents: Mapping[str, str]
    """By account: the account above it."""
    jobs: Sequence[Job] = ()
    """Those in the queue."""


@record
class Warned:
    """What is to be kept of a fund, and to be told before; without a notice only the former."""

    fund_id: int
    percent: int
    """The highest threshold that people were told of; 0 for none."""
    notice: Notice | None = None


def running_costs(claims: Iterable[Claim], funds: Iterable[Fund]) -> Mapping[int, int]:
    """Return, by fund, what jobs that run have cost so far and are not charged for yet.

    As they would be charged now: to each fund of a level what is set aside there, the first one
    first, and the rest to the last one.
    """
    known = {fund.fund_id: fund for fund in funds}
    costs: dict[int, int] = defaultdict(int)
    for claim in claims:
        if claim.state != "running":
            continue
        levels: dict[tuple[str, str], list[tuple[Fund, int]]] = defaultdict(list)
        charged: dict[tuple[str, str], int] = defaultdict(int)
        for leg in claim.legs:
            if (fund := known.get(leg.fund_id)) is None:
                continue
            charged[fund.level] += leg.charged
            if leg.reserved:
                levels[fund.level].append((fund, leg.reserved))
        for level, parts in levels.items():
            parts.sort(key=lambda part: (part[0].position, part[0].fund_id))
            rest = claim.accrued.amount(parts[0][0].unit) - charged[level]
            for fund, reserved in parts:
                share = rest if fund is parts[-1][0] else min(rest, reserved)
                costs[fund.fund_id] += max(share, 0)
                rest -= max(share, 0)
    return costs


def warnings(  # noqa: PLR0913 - facts, by name
    views: Iterable[FundView],
    *,
    told: Mapping[int, int],
    running: Mapping[int, int],
    audience: Audience,
    policy: Policy,
    now: int,
) -> tuple[Warned, ...]:
    """Rule B-010: people are told once when so many percent of a fund's grants are spent.

    *told* is what was kept of each fund (:attr:`Warned.percent`), *running* what running jobs have
    cost so far (:func:`running_costs`), which counts as spent. Of several thresholds that are
    passed at once, the highest is told. A grant that brings a fund well below a threshold lets it
    be told of again. Where the rule is only observed nobody is told anything.
    """
    if rules.level_of(rules.BUDGET_WARNING, policy) == "observe":
        return ()
    found = []
    for view in views:
        fund = view.fund
        if fund.unlimited or fund.closed or fund.granted <= 0:
            continue
        spent = view.settled + running.get(fund.fund_id, 0)
        reached = _highest(policy, spent * 100, fund.granted)
        before = told.get(fund.fund_id, 0)
        if reached > before:
            notice = _notice(view, spent, reached, audience, policy, now)
            found.append(Warned(fund.fund_id, reached, notice))
        elif before:
            still = _highest(policy, spent * 100 + _REARM_PERCENT * fund.granted, fund.granted)
            if still < before:
                found.append(Warned(fund.fund_id, still))
    return tuple(found)


def _highest(policy: Policy, hundredfold: int, granted: int) -> int:
    """Return the highest threshold that was reached, 0 for none; *hundredfold*: 100 x spent."""
    return max((t for t in policy.ledger.warn_at if hundredfold >= t * granted), default=0)


def _notice(  # noqa: PLR0913, PLR0917 - facts
    view: FundView, spent: int, reached: int, audience: Audience, policy: Policy, now: int
) -> Notice:
    fund = view.fund
    return Notice(
        to=_whom(fund, reached, audience),
        subject=f"{_percent(fund, spent)} % of {_whose(fund)} are spent",
        text=_text(view, spent, reached, policy),
        rule=rules.BUDGET_WARNING,
        severity=_severity(reached),
        key=f"budget:{fund.fund_id}:{reached}:{fund.granted}",
        time=now,
        template="budget",
        values=tuple(_figures(view, spent, policy)),
    )


def _text(view: FundView, spent: int, reached: int, policy: Policy) -> str:
    fund, running = view.fund, spent - view.settled

    def words(amount: int) -> str:
        return amount_words(amount, fund.unit, policy.currency)

    until = _until(fund, policy)
    has = f"{_whose(fund)} has until {until}" if until else f"{_whose(fund)} has"
    percent = _percent(fund, spent)
    said = [f"Of the {words(fund.granted)} that {has}, {words(spent)} are spent: {percent} %."]
    if running:
        said.append(f"{words(running)} of that are what jobs that still run have cost so far.")
    if (aside := _aside(view, spent)) or view.committed:
        said.append(
            f"Set aside are {words(aside)} more for jobs that run, and {words(view.committed)} for "
            "jobs that wait."
        )
    left = fund.available
    said.append(f"{words(left)} are left." if left >= 0 else f"It is {words(-left)} short.")
    if reached >= _ALL_PERCENT and (follows := _follows(policy)):
        said.append(follows)
    where = (
        "`gpu-policy budget` shows how it stands, `gpu-policy budget statement` for what it was "
        "spent."
    )
    return f"{' '.join(said)}\n\n{where}"


def _figures(view: FundView, spent: int, policy: Policy) -> Iterator[tuple[str, str]]:
    """Yield what a template can say by itself, by name."""
    fund = view.fund
    yield "account", fund.account or "the whole cluster"
    yield "budget", fund.budget
    yield "member", fund.user
    yield "until", _until(fund, policy)
    yield "percent", str(_percent(fund, spent))
    for name, amount in (
        ("granted", fund.granted),
        ("spent", spent),
        ("running", _aside(view, spent)),
        ("waiting", view.committed),
        ("left", fund.available),
    ):
        yield name, amount_words(amount, fund.unit, policy.currency)


def _percent(fund: Fund, spent: int) -> int:
    return spent * 100 // fund.granted


def _aside(view: FundView, spent: int) -> int:
    """Return what is set aside for running jobs beyond what they have cost."""
    return max(view.in_flight - (spent - view.settled), 0)


def _whose(fund: Fund) -> str:
    name = f"the budget {fund.budget}" if fund.budget else "the budget"
    account = f"account {fund.account}" if fund.account else "the whole cluster"
    return f"{name} of {fund.user} in {account}" if fund.user else f"{name} of {account}"


def _until(fund: Fund, policy: Policy) -> str:
    if fund.end is None:
        return ""
    try:
        end = datetime.fromtimestamp(fund.end, ZoneInfo(zone_of(policy)))
    except (OverflowError, ValueError, OSError):  # no calendar reaches that far
        return ""
    return f"{end:%Y-%m-%d}" if end.hour == end.minute == 0 else f"{end:%Y-%m-%d %H:%M}"


def _severity(reached: int) -> Severity:
    if reached >= _ALL_PERCENT:
        return "critical"
    return "warning" if reached >= _GRAVE_PERCENT else "info"


def _follows(policy: Policy) -> str:
    """Say what becomes of jobs that are not covered, where the site has that enforced."""
    ledger, qos = policy.ledger, policy.submission.over_budget_qos
    if ledger.when_spent == "hold" and rules.level_of(rules.BUDGET_HOLD, policy) == "enforce":
        return f"Jobs that it does not cover are held until it does (rule {rules.BUDGET_HOLD})."
    if ledger.when_spent == "qos" and rules.level_of(rules.BUDGET_QOS, policy) == "enforce" and qos:
        return f"Jobs that it does not cover go to the QOS {qos} (rule {rules.BUDGET_QOS})."
    return ""


def _whom(fund: Fund, reached: int, audience: Audience) -> tuple[str, ...]:
    """Return whom a fund concerns: its user; or who coordinates its account, else the next above.

    Once it is spent, also everybody with jobs in the queue that draw on it.
    """
    if fund.user:
        return (fund.user,)
    found: set[str] = set()
    for account in _line(fund.account, audience.parents):
        found |= audience.coordinators.get(account, frozenset())
        if found:
            break
    if reached >= _ALL_PERCENT:
        found |= {
            job.user
            for job in audience.jobs
            if not job.state.is_over and fund.account in _line(job.account, audience.parents)
        }
    return tuple(sorted(found))


def _line(account: str, parents: Mapping[str, str]) -> tuple[str, ...]:
    """Return an account and those above it."""
    line = [account] if account else []
    while line and (above := parents.get(line[-1])) and above not in line:
        line.append(above)
    return tuple(line)
