"""How the books stand, for Prometheus: a collector, served with the controller's other metrics."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client import Metric

    from slurm_gpu_policy.model.ledger import FundView
    from slurm_gpu_policy.model.notice import Delivery
    from slurm_gpu_policy.model.tick import LedgerReport, TickReport

_PREFIX: Final = "slurm_gpu_policy"
_LABELS: Final = ("account", "user", "budget", "unit")
_UNITS: Final = {"money": "micros", "gpu_seconds": "gpu_seconds"}
_MOST_FUNDS: Final = 2000
"""Series of each name: a site with a budget for each of very many users has fewer here."""
_FIGURES: Final = (
    ("granted", "Put into open budgets in all, less what expired."),
    ("settled", "What ended runs cost, less refunds."),
    ("in_flight", "Set aside for jobs that run."),
    ("committed", "Set aside for jobs that wait, and promised to submissions."),
    ("available", "Left; what may be overdrawn is not counted."),
)


class LedgerMetrics:
    """Implements :class:`slurm_gpu_policy.services.ports.ObserverPort`.

    Where no books are kept, or another controller leads, there is nothing to collect.
    """

    def __init__(self) -> None:
        self._report: LedgerReport | None = None

    def ticked(self, report: TickReport) -> None:
        """Take note of a tick; where the books could not be kept, the last figures stay."""
        if report.ledger is not None:
            self._report = report.ledger
        elif not report.leading and not report.errors:
            self._report = None

    def policy_loaded(self, now: int, problems: Sequence[str]) -> None:
        """Take no note."""

    def delivered(self, delivery: Delivery) -> None:
        """Take no note."""

    def describe(self) -> Iterator[Metric]:
        """Yield nothing, so that nobody reads what is not there yet."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Yield how the books stood after the last tick that could keep them."""
        report = self._report
        if report is None:
            return
        views = [view for view in report.state.views if not view.fund.unlimited]
        yield from _budgets(views)
        entries = CounterMetricFamily(f"{_PREFIX}_ledger_entries", "Entries in the books.")
        if report.entries is not None:
            entries.add_metric((), report.entries)
        yield entries
        for name, text, value in (
            (
                "ledger_last_success_timestamp_seconds",
                "When the books were brought up to date last.",
                report.state.time,
            ),
            (
                "ledger_accounting_lag_seconds",
                "How far the books are behind Slurm's accounting.",
                report.accounting_lag_seconds,
            ),
            (
                "budget_uncovered_jobs",
                "Jobs that wait and that no budget covers.",
                len(report.state.uncovered),
            ),
            (
                "budget_series_dropped",
                "Open budgets that are not shown here: there are too many.",
                max(0, len(views) - _MOST_FUNDS),
            ),
        ):
            family = GaugeMetricFamily(f"{_PREFIX}_{name}", text)
            family.add_metric((), float("nan") if value is None else value)
            yield family


def _budgets(views: list[FundView]) -> Iterator[Metric]:
    for name, text in _FIGURES:
        family = GaugeMetricFamily(f"{_PREFIX}_budget_{name}", text, labels=_LABELS)
        # Funds of one budget follow one another by period: a late one may still be open.
        sums: dict[tuple[str, str, str, str], int] = {}
        for view in islice(views, _MOST_FUNDS):
            fund = view.fund
            key = (fund.account, fund.user, fund.budget, _UNITS[fund.unit])
            sums[key] = sums.get(key, 0) + _figure(view, name)
        for key, value in sums.items():
            family.add_metric(key, value)
        yield family


def _figure(view: FundView, name: str) -> int:
    value = getattr(view.fund if name in {"granted", "available"} else view, name)
    assert isinstance(value, int)  # noqa: S101 - for the type checker
    return value
