"""What each worker was doing when: a lane for each, a bar for each trial.

A report that its worker could not time, since it died for instance, is drawn from when the trial
was sent off to when its report was there, hatched, in a lane of its own: it waited for a worker in
a part of that time. Bars that overlap in a lane share its height.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from amltk.exceptions import HistoryError
from amltk.optimization.history.drawing import (
    COLORS,
    left_out,
    legend_beside,
    mpl,
    new_axes,
    unit_of,
)
from amltk.optimization.trials.report import Report, Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNKNOWN = "unknown"
_HEIGHT = 0.8
#: Up to so many bars each has an edge; more would be nothing but edges.
_MANY = 300
#: Up to so many lanes each has its label.
_MOST_LABELS = 40


@dataclass(frozen=True, slots=True)
class Bar:
    """When a trial ran, as far as it is known."""

    start: float
    end: float
    status: Status
    lane: str
    timed: bool


def draw(reports: Sequence[Report], *, ax: Axes | None) -> Any:
    """Draw the bars."""
    bars = [bar for bar in map(_bar, reports) if bar is not None]
    if not bars:
        message = (
            f"no timeline can be drawn, since none of {len(reports)} reports has a time; reports "
            f"have one when Trial.Task or optimize has run their trials"
        )
        raise HistoryError(message)
    bars.sort(key=lambda bar: bar.start)
    start = bars[0].start
    unit, seconds = unit_of(max(bar.end for bar in bars) - start)
    lanes = list(dict.fromkeys(bar.lane for bar in bars if bar.lane != UNKNOWN))
    lanes += [UNKNOWN] if any(bar.lane == UNKNOWN for bar in bars) else []
    drawn = new_axes(ax, size=(7.2, min(12, 1.4 + 0.4 * len(lanes))))
    places = {lane: float(middle) for middle, lane in enumerate(lanes)}
    _draw_bars(drawn, bars, places, start=start, seconds=seconds)
    _label(drawn, lanes)
    drawn.set_xlabel(f"time [{unit}]{left_out(len(reports) - len(bars), 'without a time')}")
    legend_beside(drawn, _handles(bars))
    return drawn


def _bar(report: Report) -> Bar | None:
    if report.time is not None:
        start, end = report.time.started_at, report.time.ended_at
        return Bar(start, end, report.status, report.worker or UNKNOWN, timed=True)
    if report.submitted_at is None or report.reported_at is None:
        return None
    return Bar(report.submitted_at, report.reported_at, report.status, UNKNOWN, timed=False)


def _draw_bars(
    ax: Any, bars: list[Bar], places: dict[str, float], *, start: float, seconds: float
) -> None:
    looks: dict[tuple[Status, bool], list[list[tuple[float, float]]]] = defaultdict(list)
    for lane, middle in places.items():
        in_lane = [bar for bar in bars if bar.lane == lane]
        rows = _rows(in_lane)
        height = _HEIGHT / (1 + max(rows))
        for bar, row in zip(in_lane, rows, strict=True):
            left, right = (bar.start - start) / seconds, (bar.end - start) / seconds
            top = middle - _HEIGHT / 2 + row * height
            bottom = top + height
            corners = [(left, top), (left, bottom), (right, bottom), (right, top)]
            looks[bar.status, bar.timed].append(corners)
    for (status, timed), rectangles in looks.items():
        # The edge lets a bar be seen that is shorter than a point is wide.
        edge = "#333333" if len(bars) <= _MANY else COLORS[status]
        look = _look(status, timed=timed, edge=edge)
        ax.add_collection(mpl("collections").PolyCollection(rectangles, linewidth=0.5, **look))
    ax.margins(x=0.01)
    ax.autoscale_view()


def _rows(bars: list[Bar]) -> list[int]:
    """Return in which row of its lane each bar is, so that none overlaps another."""
    running: list[tuple[float, int]] = []
    free: list[int] = []
    found = []
    for bar in bars:
        while running and running[0][0] <= bar.start:
            heappush(free, heappop(running)[1])
        row = heappop(free) if free else len(running)
        heappush(running, (bar.end, row))
        found.append(row)
    return found


def _look(status: Status, *, timed: bool, edge: str) -> dict[str, Any]:
    color = COLORS[status]
    if timed:
        return {"facecolor": color, "edgecolor": edge}
    return {"facecolor": "white", "edgecolor": color, "hatch": "////"}


def _label(ax: Any, lanes: list[str]) -> None:
    hosts = {lane.partition(":")[0] for lane in lanes if lane != UNKNOWN}
    shared = f"{hosts.pop()}:" if len(hosts) == 1 else ""
    every = -(-len(lanes) // _MOST_LABELS)
    ax.set_yticks(
        range(0, len(lanes), every), [lane.removeprefix(shared) for lane in lanes[::every]]
    )
    ax.set_ylim(len(lanes) - 0.4, -0.6)  # the first above
    ax.set_ylabel(f"worker on {shared[:-1]}" if shared else "worker")


def _handles(bars: list[Bar]) -> list[Any]:
    patch = mpl("patches").Patch
    counts = {status: sum(bar.status is status for bar in bars) for status in Status}
    handles = [
        patch(facecolor=COLORS[status], edgecolor="#333333", label=f"{status.value} ({n})")
        for status, n in counts.items()
        if n
    ]
    if not all(bar.timed for bar in bars):
        look = {"facecolor": "white", "edgecolor": "#333333", "hatch": "////"}
        handles.append(patch(**look, label="sent off to reported"))
    return handles
