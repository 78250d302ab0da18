"""Grid search: all combinations of some values of each key, in a fixed order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from amltk.exceptions import ExhaustedError, InvalidOptionError
from amltk.optimization.optimizers._configgrid import Grid, is_range
from amltk.optimization.optimizers._configspace import own_copy
from amltk.optimization.optimizers._draws import SEEDS, rng_of
from amltk.optimization.optimizers.base import BaseOptimizer, Proposal
from amltk.optimization.space import Dimension, Float, Int, is_configspace, parse_space
from amltk.optimization.trials.metric import Metric

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

    from amltk.optimization.space import SpaceLike

#: How many values a range is divided into that ``points`` does not name.
_POINTS = 5


class GridSearch(BaseOptimizer):
    """Proposes all combinations, the last key changing fastest, and learns nothing from reports.

    ``len(grid)`` is how many there are. They are made when they are asked for, however many. A
    trial that is forgotten counts as proposed.

    Args:
        space: A mapping, such as ``{"lr": (1e-5, 1e-1, "log"), "kernel": ["rbf", "linear"]}``, or
            a ``ConfigSpace.ConfigurationSpace``, whose conditions and forbidden clauses hold, and
            whose keys come in its own order.
        metrics: What trials are measured by.
        points: How many values each range is divided into, both ends among them: one number for
            all, or by key. Of whole numbers there may be fewer.
        seed: For the seeds of the trials, which have none by default.
        name: What the names of its trials begin with.

    Raises:
        InvalidSpaceError: When the space is empty, or a part makes no sense; names its key.
        InvalidOptionError: When ``points`` names what is no range, or is no number of points; when
            there is no metric, or there are two of one name.
    """

    def __init__(
        self,
        space: SpaceLike,
        *,
        metrics: Metric | Iterable[Metric],
        points: int | Mapping[str, int] = _POINTS,
        seed: int | None = None,
        name: str = "grid",
    ) -> None:
        super().__init__(metrics, name=name)
        self.points: int | Mapping[str, int] = points
        #: Whether it never takes longer than a moment; clauses of ConfigSpace may be hard to meet.
        self.is_quick: bool = not is_configspace(space)
        self._rng = None if seed is None else rng_of(seed)
        self._grid = _grid_of(space, points)
        self._length: int | None = None
        self._configs = iter(self._grid)

    def __len__(self) -> int:
        """Return how many combinations there are.

        Where conditions or forbidden clauses rule some out, all are gone through, once.
        """
        if self._length is None:
            self._length = len(self._grid)
        return self._length

    def propose(self) -> Proposal:
        """Return the next combination.

        Raises:
            ExhaustedError: When there is none.
        """
        config = next(self._configs, None)
        if config is None:
            message = (
                f"{self.name!r} has nothing left to try: it was asked for all {self._n_asked} "
                f"combinations of its grid; stop after max_trials={self._n_asked}, or give more "
                f"points"
            )
            raise ExhaustedError(message, n_asked=self._n_asked)
        seed = None if self._rng is None else self._rng.randrange(SEEDS)
        return Proposal(config=config, seed=seed)


class _Product:
    """All combinations of a space that is written as a mapping."""

    def __init__(self, dimensions: Mapping[str, Dimension], points: Mapping[str, int]) -> None:
        self._axes = {key: part.grid(points.get(key, 1)) for key, part in dimensions.items()}

    def __len__(self) -> int:
        return math.prod(map(len, self._axes.values()))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for values in itertools.product(*self._axes.values()):
            yield dict(zip(self._axes, values, strict=True))


class _Allowed:
    """All combinations that a space of ConfigSpace allows."""

    def __init__(self, space: ConfigurationSpace, points: Mapping[str, int]) -> None:
        self._grid = Grid(space, lambda key: points.get(key, 1))

    def __len__(self) -> int:
        return len(self._grid)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (config for _, config in self._grid)


def _grid_of(space: SpaceLike, points: int | Mapping[str, int]) -> _Product | _Allowed:
    if is_configspace(space):
        copied = own_copy(space)
        ranges = [key for key, part in copied.items() if is_range(part)]
        return _Allowed(copied, _points_of(points, ranges))
    dimensions = parse_space(space)
    ranges = [key for key, part in dimensions.items() if isinstance(part, Float | Int)]
    return _Product(dimensions, _points_of(points, ranges))


def _points_of(points: int | Mapping[str, int], ranges: list[str]) -> dict[str, int]:
    """Return how many points each range has."""
    by_key = points if isinstance(points, Mapping) else dict.fromkeys(ranges, points)
    for key, number in by_key.items():
        given: object = number
        if key not in ranges:
            known = ", ".join(map(repr, ranges)) or "none"
            hint = f"{key!r} is no range of the space; its ranges are: {known}"
        elif not isinstance(given, int) or isinstance(given, bool) or given < 1:
            hint = f"{number!r} is no number of points; give a whole number above 0"
        else:
            continue
        message = f"points={points!r} is not possible: {hint}"
        raise InvalidOptionError(message, option="points", value=points)
    return {key: by_key.get(key, _POINTS) for key in ranges}
