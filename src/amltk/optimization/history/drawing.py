"""What the pictures of a history share: colours, labels, legends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from amltk._optional import require
from amltk.optimization.trials.metric import Metric
from amltk.optimization.trials.report import Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of Okabe and Ito, who chose colours that nearly everybody can tell apart.
BLUE, GREEN, ORANGE, RED, GREY = "#0072B2", "#009E73", "#E69F00", "#D55E00", "#8C8C8C"
#: What statuses look like.
COLORS = {Status.SUCCESS: GREEN, Status.FAIL: ORANGE, Status.CRASHED: RED}
MARKERS = {Status.SUCCESS: "o", Status.FAIL: "s", Status.CRASHED: "x"}

#: Up to how many seconds times are told in which unit, and how long it is.
_UNITS = ((180, "s", 1), (3 * 3600, "min", 60), (3 * 86400, "h", 3600))


def mpl(module: str) -> Any:
    """Return a module of matplotlib."""
    return require(f"matplotlib.{module}", extra="plots", purpose="a picture of a history")


def new_axes(ax: Axes | None, *, size: tuple[float, float] = (7.2, 4.2)) -> Any:
    """Return the given axes, or those of a new figure."""
    if ax is not None:
        return ax
    return mpl("pyplot").subplots(figsize=size, layout="constrained")[1]


def label_of(metric: Metric) -> str:
    """Return a metric as the label of an axis."""
    return f"{metric.name} ({'lower' if metric.minimize else 'higher'} is better)"


def unit_of(span_s: float) -> tuple[str, float]:
    """Return the unit that a span of time is best told in, and how many seconds it has."""
    for most, unit, seconds in _UNITS:
        if span_s <= most:
            return unit, seconds
    return "days", 86400


def left_out(n: int, why: str) -> str:
    """Return what an axis' label says of reports that are not drawn."""
    return "" if n == 0 else f"\n({n} report{'' if n == 1 else 's'} {why}, not drawn)"


def legend_beside(ax: Any, handles: Sequence[Any] | None = None) -> None:
    """Put the legend beside the data, where it hides none."""
    if handles is None:
        handles = ax.get_legend_handles_labels()[0]
    ax.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False
    )
