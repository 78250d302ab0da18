"""Which reports have some metrics, and which of them are better."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from amltk.exceptions import HistoryError
from amltk.optimization.history import pareto
from amltk.optimization.trials.metric import Metric
from amltk.optimization.trials.report import Report, Status


def measured(reports: Iterable[Report], metrics: Iterable[Metric]) -> list[Report]:
    """Return the successes that have all of some metrics; NaN is none."""
    names = [metric.name for metric in metrics]
    return [
        report
        for report in reports
        if report.status is Status.SUCCESS
        and all(_is_number(report.metrics.get(name)) for name in names)
    ]


def best(reports: Collection[Report], metric: Metric) -> Report:
    """Return the best success; of several that are equally good the first.

    Raises:
        HistoryError: When no success has the metric.
    """
    found = measured(reports, (metric,))
    if not found:
        message = (
            f"there is no best trial by {metric.name!r}, since none of {len(reports)} reports is "
            f"a success that has it; look at history.crashes() and history.failures()"
        )
        raise HistoryError(message, metric=metric)
    return min(found, key=lambda report: report.loss(metric))


def best_first(reports: Iterable[Report], metric: Metric) -> list[Report]:
    """Return the successes, the best first; those equally good in order."""
    return sorted(measured(reports, (metric,)), key=lambda report: report.loss(metric))


def incumbents(reports: Iterable[Report], metric: Metric) -> list[Report]:
    """Return the successes that are better than all before."""
    found: list[Report] = []
    for report in measured(reports, (metric,)):
        if not found or report.loss(metric) < found[-1].loss(metric):
            found.append(report)
    return found


def front(reports: Iterable[Report], metrics: Iterable[Metric]) -> list[Report]:
    """Return the successes that no other one dominates, in order."""
    chosen = tuple(metrics)
    found = measured(reports, chosen)
    losses = [tuple(float(report.loss(m)) for m in chosen) for report in found]
    kept = pareto.front(losses)
    return [report for report, loss in zip(found, losses, strict=True) if loss in kept]


def _is_number(value: float | None) -> bool:
    return value is not None and not math.isnan(value)
