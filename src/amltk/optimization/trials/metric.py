"""What a trial is measured by: a name, which way is better, and between which bounds it lies."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from amltk.exceptions import InvalidOptionError, MetricError

_TEXT = re.compile(
    # Greedy, since a name may itself look like a metric's text.
    r"(?P<name>.+) \((?P<direction>minimize|maximize)\)"
    r"(?: \[(?P<low>[^\[\],]+), (?P<high>[^\[\],]+)\])?",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Metric:
    """What a trial is measured by.

    ``str(metric)`` is such as ``"accuracy (maximize) [0.0, 1.0]"``, which ``Metric.parse`` reads.

    Raises:
        InvalidOptionError: When the name is empty, or the bounds are none.
    """

    #: What it is called in reports.
    name: str
    #: Whether less is better.
    minimize: bool = field(default=True, kw_only=True)
    #: The least and the most that it can be; either may be infinite. Nothing by default.
    bounds: tuple[float, float] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        named: object = self.name
        if not isinstance(named, str) or not named:
            message = f"a metric needs a name, not {self.name!r}"
            raise InvalidOptionError(message, option="name", value=self.name)
        if self.bounds is None:
            return
        try:
            low, high = map(float, self.bounds)
        except (TypeError, ValueError):
            low = high = math.nan
        if not low < high:
            message = (
                f"bounds={self.bounds!r} of the metric {self.name!r} are not possible; give the "
                f"least and the most that it can be, such as (0, 1)"
            )
            raise InvalidOptionError(message, option="bounds", value=self.bounds)
        object.__setattr__(self, "bounds", (low, high))

    def __str__(self) -> str:
        """Show it in the way that ``parse`` reads."""
        direction = "minimize" if self.minimize else "maximize"
        bounds = "" if self.bounds is None else f" [{self.bounds[0]!r}, {self.bounds[1]!r}]"
        return f"{self.name} ({direction}){bounds}"

    @classmethod
    def parse(cls, text: str) -> Metric:
        """Read a metric from what ``str`` made of it.

        Args:
            text: Such as ``"accuracy (maximize) [0.0, 1.0]"``.

        Raises:
            InvalidOptionError: When it cannot be read.
        """
        found = _TEXT.fullmatch(text)
        try:
            ends = [float(end) for end in found.group("low", "high") if end] if found else []
        except ValueError:
            found, ends = None, []
        if found is None:
            message = (
                f"{text!r} is no metric; write it such as 'accuracy (maximize) [0.0, 1.0]', or "
                f"without the bounds"
            )
            raise InvalidOptionError(message, option="text", value=text)
        bounds = (ends[0], ends[1]) if ends else None
        return cls(found["name"], minimize=found["direction"] == "minimize", bounds=bounds)

    @property
    def best_possible(self) -> float:
        """The best that it can be, which may be infinite."""
        low, high = self.bounds or (-math.inf, math.inf)
        return low if self.minimize else high

    @property
    def worst_possible(self) -> float:
        """The worst that it can be, which may be infinite."""
        low, high = self.bounds or (-math.inf, math.inf)
        return high if self.minimize else low

    def check(self, value: object) -> float:
        """Return a value as a number, if it can be one of this metric.

        Args:
            value: A number, of numpy or another library too.

        Raises:
            MetricError: When it is no number, NaN, or out of bounds.
        """
        number = _number_of(value)
        if number is None:
            message = (
                f"the metric {self.name!r} cannot be {value!r:.200}, which is no number; give one "
                f"number, or note it in trial.summary"
            )
            raise MetricError(message, metric=self.name, value=value)
        if math.isnan(number):
            message = (
                f"the metric {self.name!r} is NaN, which is neither good nor bad; return "
                f"trial.fail() for a trial whose result is of no use"
            )
            raise MetricError(message, metric=self.name, value=value)
        low, high = self.bounds or (-math.inf, math.inf)
        if not low <= number <= high:
            message = (
                f"the metric {self.name!r} is {number!r}, which is out of its bounds "
                f"[{low!r}, {high!r}]; correct the value, or the bounds of the metric"
            )
            raise MetricError(message, metric=self.name, value=value)
        return number

    def loss(self, value: float) -> float:
        """Return a value such that less is better."""
        return value if self.minimize else -value

    def normalized_loss(self, value: float) -> float:
        """Return a value on a scale from 0, the best possible, to 1, the worst possible.

        Raises:
            MetricError: When the metric has no finite bounds, so that there is no such scale.
        """
        best, worst = self.best_possible, self.worst_possible
        if math.isinf(best) or math.isinf(worst):
            message = (
                f"a loss of {self.name!r} cannot be normalized, since the metric has no finite "
                f"bounds; make it with Metric({self.name!r}, …, bounds=(least, most))"
            )
            raise MetricError(message, metric=self.name, value=value)
        return (value - best) / (worst - best)

    def is_better(self, value: float, than: float) -> bool:
        """Tell whether a value is better than another one."""
        return self.loss(value) < self.loss(than)

    def best(self, values: Iterable[float]) -> float:
        """Return the best of some values."""
        return min(values, key=self.loss)


def _number_of(value: Any) -> float | None:
    """Return a value as a number, or ``None``: a text is none, even if it could be read as one."""
    if isinstance(value, str | bytes | bytearray):
        return None
    try:
        return float(value)
    except Exception:  # whatever a library raises for what is no single number; told as one error
        return None


def as_metrics(metrics: Metric | Iterable[Metric]) -> tuple[Metric, ...]:
    """Return one or several metrics as a tuple.

    Raises:
        InvalidOptionError: When there is none, something else among them, or two of one name.
    """
    found = (metrics,) if isinstance(metrics, Metric) else tuple(metrics)
    for metric in found:
        given: object = metric
        if not isinstance(given, Metric):
            message = (
                f"{metric!r} is no metric; write it such as Metric('accuracy', minimize=False)"
            )
            raise InvalidOptionError(message, option="metrics", value=metric)
    names = [metric.name for metric in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not found:
        problem = f"{', '.join(twice)} is there twice" if twice else "there is none"
        message = f"metrics={metrics!r} is not possible: {problem}; give each metric once"
        raise InvalidOptionError(message, option="metrics", value=metrics)
    return found


def dominates(
    values: Mapping[str, float], others: Mapping[str, float], metrics: Iterable[Metric]
) -> bool:
    """Tell whether values are as good as others by all metrics and better by one."""
    pairs = [(m.loss(values[m.name]), m.loss(others[m.name])) for m in metrics]
    return all(one <= two for one, two in pairs) and any(one < two for one, two in pairs)
