"""Pictures of reports, as matplotlib axes; see the methods of ``History`` of the same names.

The colours are such that nearly everybody can tell them apart, and marks differ in their shapes as
well. Legends stand beside the data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from amltk.exceptions import HistoryError, InvalidOptionError
from amltk.optimization.history import parallel, ranking, timeline
from amltk.optimization.history.drawing import (
    BLUE,
    COLORS,
    GREY,
    MARKERS,
    RED,
    label_of,
    left_out,
    legend_beside,
    mpl,
    new_axes,
    unit_of,
)
from amltk.optimization.trials.metric import Metric
from amltk.optimization.trials.report import Report, Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: How far inside of the axes the marks at their edge are.
_EDGE = 0.03


def plot_score(
    reports: Sequence[Report],
    metric: Metric,
    *,
    x: Literal["trials", "time"] = "trials",
    ax: Axes | None = None,
) -> Axes:
    """Draw how a metric went; see ``History.plot_score``.

    Raises:
        HistoryError: When no success has the metric.
        InvalidOptionError: When ``x`` is something else.
        MissingExtraError: When matplotlib is not installed.
    """
    ranking.best(reports, metric)  # or say why there is none
    places, label = _places(reports, x)
    shown = sorted((r for r in reports if r.name in places), key=lambda r: places[r.name])
    if not ranking.measured(shown, (metric,)):
        message = (
            f"{metric.name!r} cannot be drawn over time, since no success that has it has a time; "
            f"draw it over trials: history.plot_score({metric.name!r})"
        )
        raise HistoryError(message, metric=metric)
    drawn: Axes = new_axes(ax)
    _draw_score(drawn, shown, metric, places)
    if x == "trials":
        drawn.xaxis.set_major_locator(mpl("ticker").MaxNLocator(integer=True, min_n_ticks=1))
    drawn.set_xlabel(label)
    drawn.set_ylabel(label_of(metric))
    legend_beside(drawn)
    return drawn


def plot_parallel(
    reports: Sequence[Report],
    metric: Metric,
    *,
    keys: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw each configuration as a line; see ``History.plot_parallel``.

    Raises:
        HistoryError: When no success has the metric, or no configuration has a key.
        MissingExtraError: When matplotlib is not installed.
    """
    ranking.best(reports, metric)  # or say why there is none
    drawn: Axes = parallel.draw(reports, metric, keys=keys, ax=ax)
    return drawn


def plot_pareto(
    reports: Sequence[Report], metrics: Sequence[Metric], *, ax: Axes | None = None
) -> Axes:
    """Draw the successes by two metrics; see ``History.plot_pareto``.

    Raises:
        HistoryError: When they are not two, or no success has both.
        MissingExtraError: When matplotlib is not installed.
    """
    if len(metrics) != 2:  # noqa: PLR2004 - a picture has two sides
        message = (
            f"a front of {len(metrics)} metrics cannot be drawn "
            f"({', '.join(m.name for m in metrics)}); choose two: history.plot_pareto(['a', 'b'])"
        )
        raise HistoryError(message, metrics=metrics)
    across, up = metrics
    front = ranking.front(reports, metrics)
    if not front:
        message = (
            f"no front can be drawn, since none of {len(reports)} reports is a success that has "
            f"both {across.name!r} and {up.name!r}"
        )
        raise HistoryError(message, metrics=metrics)
    drawn: Axes = new_axes(ax, size=(6.4, 4.2))
    measured = ranking.measured(reports, metrics)
    names = {report.name for report in front}
    dominated = [report for report in measured if report.name not in names]
    drawn.plot(*_points(dominated, across, up), **_dots(GREY, f"dominated ({len(dominated)})"))
    drawn.plot(
        *_points(sorted(front, key=lambda r: r.metrics[across.name]), across, up),
        color=RED,
        marker="o",
        markersize=6,
        # The corners are between the points, on the side of what they dominate.
        drawstyle="steps-post" if across.minimize else "steps-pre",
        label=f"front ({len(front)})",
        zorder=3,
    )
    drawn.set_xlabel(label_of(across) + left_out(len(reports) - len(measured), "failed or crashed"))
    drawn.set_ylabel(label_of(up))
    legend_beside(drawn)
    return drawn


def plot_timeline(reports: Sequence[Report], *, ax: Axes | None = None) -> Axes:
    """Draw what each worker was doing when; see ``History.plot_timeline``.

    Raises:
        HistoryError: When no report has a time.
        MissingExtraError: When matplotlib is not installed.
    """
    drawn: Axes = timeline.draw(reports, ax=ax)
    return drawn


# ---------------------------------------------------------------------------------- the score


def _draw_score(
    ax: Axes, reports: Sequence[Report], metric: Metric, places: Mapping[str, float]
) -> None:
    measured = ranking.measured(reports, (metric,))
    finite = [r for r in measured if math.isfinite(r.metrics[metric.name])]
    ax.plot(
        [places[report.name] for report in finite],
        [report.metrics[metric.name] for report in finite],
        **_dots(BLUE, f"success ({len(measured)})"),
    )
    best = ranking.incumbents(reports, metric)
    scores = [report.metrics[metric.name] for report in best]
    ax.plot(
        [*(places[report.name] for report in best), max(places.values())],
        [*scores, scores[-1]],
        color=RED,
        linewidth=1.8,
        drawstyle="steps-post",
        label="best so far",
        zorder=3,
    )
    ax.margins(y=0.12)  # room for the marks at the edge
    drawn = {report.name for report in finite}
    _mark_others(ax, [r for r in reports if r.name not in drawn], metric, places)


def _mark_others(
    ax: Axes, reports: list[Report], metric: Metric, places: Mapping[str, float]
) -> None:
    """Mark what has no place on the scale: at the edge where worse values would be."""
    edge = 1 - _EDGE if metric.minimize else _EDGE
    for status in Status:
        alike = [report for report in reports if report.status is status]
        if alike:
            # Of the successes only those that are infinite, or have another metric only.
            name = "not finite" if status is Status.SUCCESS else status.value
            ax.plot(
                [places[report.name] for report in alike],
                [edge] * len(alike),
                linestyle="none",
                marker="^" if status is Status.SUCCESS else MARKERS[status],
                markersize=6,
                color=COLORS[status] if status is Status.CRASHED else "black",
                markerfacecolor="none",
                transform=ax.get_xaxis_transform(),
                label=f"{name} ({len(alike)})",
                zorder=4,
            )


def _places(reports: Sequence[Report], x: str) -> tuple[dict[str, float], str]:
    """Return where each report is across, and what the axis is called."""
    if x == "trials":
        return {r.name: place for place, r in enumerate(reports, 1)}, "trials, as they ended"
    if x != "time":
        message = f"x={x!r} is not possible; give 'trials' or 'time'"
        raise InvalidOptionError(message, option="x", value=x)
    ends = {report.name: _ended(report) for report in reports}
    known = {name: end for name, end in ends.items() if end is not None}
    begins = [begun for begun in map(_began, reports) if begun is not None]
    start = min([*known.values(), *begins], default=0.0)
    unit, seconds = unit_of(max(known.values(), default=start) - start)
    places = {name: (end - start) / seconds for name, end in known.items()}
    label = f"time since the first trial was sent off [{unit}]"
    return places, label + left_out(len(reports) - len(known), "without a time")


def _began(report: Report) -> float | None:
    if report.submitted_at is not None:
        return report.submitted_at
    return None if report.time is None else report.time.started_at


def _ended(report: Report) -> float | None:
    if report.reported_at is not None:
        return report.reported_at
    return None if report.time is None else report.time.ended_at


# -------------------------------------------------------------------------------------- points


def _points(
    reports: Sequence[Report], across: Metric, up: Metric
) -> tuple[list[float], list[float]]:
    return [r.metrics[across.name] for r in reports], [r.metrics[up.name] for r in reports]


def _dots(color: str, label: str) -> dict[str, Any]:
    return {
        "linestyle": "none",
        "marker": "o",
        "markersize": 4.5,
        "color": color,
        "alpha": 0.6,
        "markeredgewidth": 0,
        "label": label,
    }
