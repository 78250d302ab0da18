"""How a space of configurations is written, and what each of its parts can be.

::

    {"lr": (1e-5, 1e-1, "log"), "layers": (1, 8), "kernel": ["rbf", "linear"], "seed": 3}
       Float, by its logarithm     Int, both ends    Choice                       Constant

Where a part depends on another one, a ``ConfigSpace.ConfigurationSpace`` says so; all optimizers
take that too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from amltk.exceptions import InvalidSpaceError

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

    #: How a space is written.
    SpaceLike: TypeAlias = "Mapping[str, Any] | ConfigurationSpace"


@dataclass(frozen=True, slots=True)
class Float:
    """A number between two others."""

    low: float
    high: float
    log: bool = False

    @property
    def size(self) -> float:
        """How many values there are."""
        return math.inf

    def at(self, position: float) -> float:
        """Return the value at a position between 0 and 1; all positions are equally likely."""
        if not self.log:
            return min(self.high, self.low + position * (self.high - self.low))
        low, high = math.log(self.low), math.log(self.high)
        return min(self.high, max(self.low, math.exp(low + position * (high - low))))

    def grid(self, points: int) -> list[float]:
        """Return so many values at equal distances, both ends among them."""
        if points == 1:
            return [self.at(0.5)]
        inner = [self.at(step / (points - 1)) for step in range(1, points - 1)]
        return [self.low, *inner, self.high]


@dataclass(frozen=True, slots=True)
class Int:
    """A whole number from one to another, both included."""

    low: int
    high: int
    log: bool = False

    @property
    def size(self) -> int:
        """How many values there are."""
        return self.high - self.low + 1

    def at(self, position: float) -> int:
        """Return the value at a position between 0 and 1; all positions are equally likely."""
        if not self.log:
            return min(self.high, self.low + int(position * self.size))
        low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
        return min(self.high, max(self.low, round(math.exp(low + position * (high - low)))))

    def grid(self, points: int) -> list[int]:
        """Return at most so many values at equal distances, both ends among them."""
        if points >= self.size:
            return list(range(self.low, self.high + 1))
        steps = Float(self.low, self.high, self.log).grid(points)
        return list(dict.fromkeys(round(step) for step in steps))


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several values, of any kind."""

    values: tuple[Any, ...]

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.values)

    def at(self, position: float) -> Any:
        """Return the value at a position between 0 and 1; all positions are equally likely."""
        return self.values[min(len(self.values) - 1, int(position * len(self.values)))]

    def grid(self, _points: int) -> list[Any]:
        """Return all values."""
        return list(self.values)


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that is always the same."""

    value: Any

    @property
    def size(self) -> int:
        """How many values there are."""
        return 1

    def at(self, _position: float) -> Any:
        """Return the value."""
        return self.value

    def grid(self, _points: int) -> list[Any]:
        """Return the value."""
        return [self.value]


#: What a part of a space can be.
Dimension: TypeAlias = Float | Int | Choice | Constant


def is_configspace(space: object) -> bool:
    """Tell whether this is a space of ConfigSpace, without loading it."""
    return any(
        kind.__module__.partition(".")[0] == "ConfigSpace" and kind.__name__ == "ConfigurationSpace"
        for kind in type(space).__mro__
    )


def parse_space(space: Mapping[str, Any]) -> dict[str, Dimension]:
    """Read a space that is written as a mapping.

    Args:
        space: A range ``(low, high)`` or ``(low, high, "log")``, of whole numbers if both ends
            are; a list of choices; or a constant, for each key.

    Returns:
        What each key can be.

    Raises:
        InvalidSpaceError: When the space is empty, or a part makes no sense; names its key.
    """
    given: object = space
    if not isinstance(given, Mapping) or not given:
        message = (
            f"{space!r:.200} is no space; write it such as "
            f'{{"lr": (1e-5, 1e-1, "log"), "layers": (1, 8), "kernel": ["rbf", "linear"]}}, or '
            f"give a ConfigSpace.ConfigurationSpace"
        )
        raise InvalidSpaceError(message, key="", value=space)
    return {key: _dimension_of(key, value) for key, value in given.items()}


def size_of(dimensions: Mapping[str, Dimension]) -> float:
    """Return how many configurations there are, which may be infinite."""
    return math.prod(dimension.size for dimension in dimensions.values())


def _dimension_of(key: Any, value: Any) -> Dimension:
    if not isinstance(key, str) or not key:
        raise _invalid(key, value, "keys are texts that are not empty")
    if isinstance(value, Float | Int):
        checked = _range_of(key, (value.low, value.high, "log")[: 2 + value.log])
        is_float = isinstance(value, Float)
        return Float(float(value.low), float(value.high), value.log) if is_float else checked
    if isinstance(value, Choice):
        return _choice_of(key, list(value.values))
    if isinstance(value, Constant):
        return value
    if isinstance(value, tuple):
        return _range_of(key, value)
    if isinstance(value, list):
        return _choice_of(key, value)
    if value is None or isinstance(value, bool | int | float | str):
        return Constant(value)
    raise _invalid(key, value, "write a range (low, high), a list of choices, or a constant")


def _choice_of(key: str, values: list[Any]) -> Choice:
    if not values:
        raise _invalid(key, values, "there is nothing to choose from")
    for place, value in enumerate(values):
        if any(
            value is one or (type(value) is type(one) and value == one) for one in values[:place]
        ):
            raise _invalid(key, values, f"{value!r} is there twice")
    return Choice(tuple(values))


def _range_of(key: str, ends: tuple[Any, ...]) -> Float | Int:
    is_log = len(ends) == 3 and ends[2] == "log"  # noqa: PLR2004 - low, high, "log"
    numbers = ends[:2]
    are_numbers = all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers)
    if len(ends) != 2 + is_log or not are_numbers:
        hint = 'a range is (low, high) or (low, high, "log"); choices are written as a list'
        raise _invalid(key, ends, hint)
    low, high = numbers
    if not (low < high and math.isfinite(high - low)):
        raise _invalid(key, ends, "the first number has to be less than the second, both finite")
    if is_log and low <= 0:
        raise _invalid(key, ends, 'with "log", both numbers have to be above 0')
    if isinstance(low, int) and isinstance(high, int):
        return Int(low, high, is_log)
    return Float(float(low), float(high), is_log)


def _invalid(key: Any, value: Any, hint: str) -> InvalidSpaceError:
    message = f"the space's key {key!r} cannot be {value!r:.200}: {hint}"
    return InvalidSpaceError(message, key=str(key), value=value)
