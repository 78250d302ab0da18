"""All configurations of a space of ConfigSpace, one after the other.

ConfigSpace lists a grid as well, but all of it at once, and not with each kind of condition.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from amltk._optional import require
from amltk.optimization.space import Float, Int

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

#: Stands for the value of a key whose conditions do not hold: for ConfigSpace, and for us.
_INACTIVE: tuple[float, Any] = (math.nan, object())


def is_range(hyperparameter: Any) -> bool:
    """Tell whether a part of a space is a range of numbers."""
    return hasattr(hyperparameter, "lower") and hasattr(hyperparameter, "upper")


def grid_of(hyperparameter: Any, points: int) -> list[tuple[float, Any]]:
    """Return the values of a part of a space, for ConfigSpace and for the user.

    Args:
        hyperparameter: The part.
        points: How many values a range is divided into.
    """
    if hasattr(hyperparameter, "sequence"):
        return list(enumerate(hyperparameter.sequence))
    if hasattr(hyperparameter, "choices"):
        chances = hyperparameter.probabilities  # of 0 for what is never to be taken
        return [(n, each) for n, each in enumerate(hyperparameter.choices) if chances[n] > 0]
    if not is_range(hyperparameter):
        return [(float(hyperparameter.lower_vectorized), hyperparameter.value)]
    kind = Int if isinstance(hyperparameter.lower, int) else Float
    ends = hyperparameter.lower, hyperparameter.upper, getattr(hyperparameter, "log", False)
    return [(float(hyperparameter.to_vector(each)), each) for each in kind(*ends).grid(points)]


class Grid:
    """All configurations that conditions and forbidden clauses allow; the last key is fastest.

    Args:
        space: The space.
        points: Returns how many values the range of a key is divided into.
    """

    def __init__(self, space: ConfigurationSpace, points: Callable[[str], int]) -> None:
        self._library = require("ConfigSpace", extra="configspace", purpose="a grid")
        self._space = space
        self._keys = list(space)  # those that others depend on come before these
        self._axes = [grid_of(space[key], points(key)) for key in self._keys]
        self._is_simple = not space.conditions and not space.forbidden_clauses

    def __len__(self) -> int:
        """Count them, which takes going through all of them where some are not allowed."""
        if self._is_simple:
            return math.prod(map(len, self._axes))
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[tuple[list[float], dict[str, Any]]]:
        """Go through them: as a vector of ConfigSpace, used again, and as plain values."""
        vector = [math.nan] * len(self._keys)
        values: list[Any] = [None] * len(self._keys)
        ahead = [self._options(vector, 0)]
        while ahead:
            place = len(ahead) - 1
            option = next(ahead[place], None)
            if option is None:
                ahead.pop()
                continue
            vector[place], values[place] = option
            if len(ahead) < len(self._keys):
                ahead.append(self._options(vector, place + 1))
            elif self._is_simple or self._is_allowed(vector):
                pairs = zip(self._keys, values, strict=True)
                yield vector, {k: v for k, v in pairs if v is not _INACTIVE[1]}

    def _options(self, vector: list[float], place: int) -> Iterator[tuple[float, Any]]:
        """Return what a key can be, with the values of the keys before it."""
        known: Any = vector
        conditions = self._space.parent_conditions_of[self._keys[place]]
        is_active = all(condition.satisfied_by_vector(known) for condition in conditions)
        return iter(self._axes[place] if is_active else [_INACTIVE])

    def _is_allowed(self, vector: list[float]) -> bool:
        try:
            self._library.Configuration(self._space, vector=vector).check_valid_configuration()
        except ValueError:  # each of ConfigSpace's errors for what it does not allow is one
            return False
        return True
