"""Configurations as lines across parallel axes, one for each key and one for the metric.

A number's axis is by its logarithm where the values span decades, a choice has its values at equal
distances, and what a configuration does not have is below its axis. The axis of the metric has the
colours of the lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from statistics import median
from typing import TYPE_CHECKING, Any

from amltk.exceptions import HistoryError
from amltk.optimization.history import ranking
from amltk.optimization.history.drawing import GREY, label_of, legend_beside, mpl, new_axes
from amltk.optimization.trials.metric import Metric
from amltk.optimization.trials.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ABSENT: Any = object()
#: Where on the axis that is which is not there.
_BELOW = -0.14
#: From this ratio of the largest to the least, numbers are drawn by their logarithms.
_DECADES = 100
#: Labels nearer than this would be written over each other.
_NEAREST = 0.07
#: Up to so many different numbers each has its label.
_FEW = 6
_LONGEST = 18
#: The lightest colours can hardly be seen on white.
_LIGHTEST = 0.9
#: So many letters fit side by side below the axes.
_ROOM = 90
#: From so many lines on they are drawn fainter.
_MANY = 100


@dataclass(frozen=True, slots=True)
class Scale:
    """Where values are on an axis, from 0 to 1."""

    place: Callable[[Any], float]
    #: Places and texts.
    labels: list[tuple[float, str]]
    log: bool = False


def draw(
    reports: Sequence[Report], metric: Metric, *, keys: Sequence[str] | None, ax: Axes | None
) -> Any:
    """Draw the configurations, where there is a success that has the metric."""
    keys = _keys(reports, keys)
    drawn = new_axes(ax, size=(min(14, 3.6 + 1.2 * len(keys)), 4.2))
    measured = ranking.measured(reports, (metric,))
    successes = [report for report in measured if math.isfinite(report.metrics[metric.name])]
    known = {report.name for report in successes}
    scales = [_scale([report.config.get(key, _ABSENT) for report in reports]) for key in keys]
    scales.append(_scale([report.metrics[metric.name] for report in successes]))

    def line(report: Report) -> list[tuple[float, float]]:
        values = [report.config.get(key, _ABSENT) for key in keys]
        if report.name in known:
            values.append(report.metrics[metric.name])
        return [
            (x, scale.place(value))
            for x, (value, scale) in enumerate(zip(values, scales, strict=False))
        ]

    handles = _draw_lines(drawn, metric, successes, line)
    others = [line(report) for report in reports if report.name not in known]
    if others:
        handles.append(_draw_others(drawn, others))
    _draw_axes(drawn, scales, _colors(metric))
    names = [_axis_name(key, scale) for key, scale in zip(keys, scales, strict=False)]
    names.append(_axis_name(label_of(metric).replace(" (", "\n("), scales[-1]))
    absent = any(place < 0 for scale in scales for place, _ in scale.labels)
    _label_axes(drawn, names, absent=absent)
    legend_beside(drawn, handles)
    return drawn


def _keys(reports: Sequence[Report], keys: Sequence[str] | None) -> list[str]:
    there = list(dict.fromkeys(key for report in reports for key in report.config))
    if keys is not None:
        unknown = [key for key in keys if key not in there]
        if unknown:
            message = (
                f"the key {unknown[0]!r} cannot be drawn, since no configuration has it; there "
                f"are: {', '.join(map(str, there))}"
            )
            raise HistoryError(message, key=unknown[0])
        return list(keys)
    varying = [k for k in there if len({repr(r.config.get(k, _ABSENT)) for r in reports}) > 1]
    return varying or there


# ------------------------------------------------------------------------------------- scales


def _scale(values: Sequence[Any]) -> Scale:
    present = [value for value in values if value is not _ABSENT]
    numbers = [_number(value) for value in present]
    if present and all(number is not None for number in numbers):
        scale = _scale_of_numbers([number for number in numbers if number is not None])
    else:
        scale = _scale_of_choices(present)
    if len(present) == len(values):
        return scale
    return Scale(
        lambda value: _BELOW if value is _ABSENT else scale.place(value),
        [*scale.labels, (_BELOW, "not there")],
        log=scale.log,
    )


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _scale_of_numbers(numbers: list[float]) -> Scale:
    least, most = min(numbers), max(numbers)
    # Of numbers that are evenly spread some are small too: half of them tell what the scale is.
    log = least > 0 and most / least >= _DECADES and median(numbers) < most / 4
    bend: Callable[[float], float] = math.log10 if log else float
    low, span = bend(least), bend(most) - bend(least)

    def place(value: Any) -> float:
        return (bend(float(value)) - low) / span if span else 0.5

    different = sorted(set(numbers))
    wanted = different if len(different) <= _FEW else [least, most, *_round(least, most, log=log)]
    labels: list[tuple[float, str]] = []
    for number in wanted:
        if all(abs(place(number) - other) >= _NEAREST for other, _ in labels):
            labels.append((place(number), f"{number:.4g}"))
    return Scale(place, labels, log)


def _round(least: float, most: float, *, log: bool) -> list[float]:
    """Return round numbers between two others."""
    ticker = mpl("ticker")
    locator = ticker.LogLocator(numticks=6) if log else ticker.MaxNLocator(nbins=4)
    return [float(tick) for tick in locator.tick_values(least, most) if least < tick < most]


def _scale_of_choices(values: Sequence[Any]) -> Scale:
    choices = sorted({f"{value}" for value in values})
    places = {
        choice: place / (len(choices) - 1) if len(choices) > 1 else 0.5
        for place, choice in enumerate(choices)
    }
    every = math.ceil(len(choices) * _NEAREST)
    labels = [(places[choice], _shortened(choice)) for choice in choices[:: every or 1]]
    return Scale(lambda value: places[f"{value}"], labels)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


# ------------------------------------------------------------------------------------ drawing


def _draw_lines(
    ax: Any,
    metric: Metric,
    successes: list[Report],
    line: Callable[[Report], list[tuple[float, float]]],
) -> list[Any]:
    """Draw the successes, the best on top, and return what stands for it in the legend."""
    worst_first = sorted(successes, key=lambda report: report.loss(metric), reverse=True)
    lines = [line(report) for report in worst_first]
    drawn = mpl("collections").LineCollection(
        lines,
        cmap=_colors(metric),
        norm=mpl("colors").Normalize(0, 1),
        linewidths=1.3,
        alpha=0.8 if len(lines) < _MANY else 0.4,
        zorder=2,
    )
    drawn.set_array([points[-1][1] for points in lines])
    ax.add_collection(drawn)
    if not successes:
        return []
    best = line(min(successes, key=lambda report: report.loss(metric)))  # of several the first
    xs, ys = zip(*best, strict=True)
    return [*ax.plot(xs, ys, color="black", linewidth=2.4, zorder=3, label="best")]


def _draw_others(ax: Any, lines: list[list[tuple[float, float]]]) -> Any:
    drawn = mpl("collections").LineCollection(
        [points for points in lines if points],  # none where configurations are empty
        colors=GREY,
        linewidths=1,
        linestyles=[(0, (4, 3))],
        zorder=1,
        label=f"no value ({len(lines)})",
    )
    return ax.add_collection(drawn)


def _colors(metric: Metric) -> Any:
    """Return colours of which the best is dark, whichever way is better."""
    steps = [step / 255 * _LIGHTEST for step in range(256)]
    viridis = mpl("cm").viridis
    return mpl("colors").ListedColormap(viridis(steps if metric.minimize else steps[::-1]))


def _draw_axes(ax: Any, scales: list[Scale], colors: Any) -> None:
    for x, scale in enumerate(scales):
        ax.plot([x, x], [0, 1], color="black", linewidth=0.8, zorder=4)
        for place, text in scale.labels:
            ax.annotate(
                text,
                (x, place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize="x-small",
                zorder=5,
                bbox={"boxstyle": "square,pad=0.1", "color": "white", "alpha": 0.7},
            )
    steps = [step / 64 for step in range(65)]
    last = len(scales) - 1
    shown = mpl("collections").LineCollection(
        [[(last, low), (last, high)] for low, high in pairwise(steps)],
        cmap=colors,
        norm=mpl("colors").Normalize(0, 1),
        linewidths=6,
        zorder=4,
    )
    shown.set_array(steps[:-1])
    ax.add_collection(shown)


def _axis_name(name: str, scale: Scale) -> str:
    return f"{name}\n(log)" if scale.log else name


def _label_axes(ax: Any, names: list[str], *, absent: bool) -> None:
    long = len(names) * max(len(line) for name in names for line in name.split("\n")) > _ROOM
    ax.set_xticks(
        range(len(names)), names, rotation=30 if long else 0, ha="right" if long else "center"
    )
    ax.set_xlim(-0.15, len(names) - 1 + 0.35)
    ax.set_ylim((_BELOW if absent else 0) - 0.06, 1.06)
    ax.set_yticks([])
    ax.tick_params(axis="x", length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
