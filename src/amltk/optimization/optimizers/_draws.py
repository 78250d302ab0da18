"""Drawing configurations from a space, however it is written.

::

    draw() ──▶ key, drawn        the key tells configurations apart: equal values of two types
      all() ─▶ key, drawn …      are two choices, and a choice that cannot be hashed is one too
    config(drawn) ──▶ what a trial is given
"""

from __future__ import annotations

import operator
import random
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Protocol

from amltk.optimization.optimizers._configgrid import Grid, is_range
from amltk.optimization.optimizers._configspace import own_copy, plain_config
from amltk.optimization.space import (
    Choice,
    Constant,
    Dimension,
    Float,
    Int,
    is_configspace,
    parse_space,
    size_of,
)

if TYPE_CHECKING:
    from ConfigSpace import Configuration, ConfigurationSpace

#: Seeds are less than that, as numpy wants them.
SEEDS = 2**31
#: So many configurations are drawn from ConfigSpace at once: that takes it little longer than one.
_AT_ONCE = 32


class Draws(Protocol):
    """Draws from a space."""

    #: How many configurations there are at most, which may be infinite.
    size: float

    def draw(self) -> tuple[Any, Any]:
        """Return the key of a random configuration, and what ``config`` makes it of."""
        ...

    def all(self) -> Iterator[tuple[Any, Any]]:
        """Return the same of all configurations of a finite space."""
        ...

    def config(self, drawn: Any) -> dict[str, Any]:
        """Return the configuration that was drawn."""
        ...


def rng_of(seed: int | None) -> random.Random:
    """Return what draws numbers: the same ones for the same seed, in whatever process.

    Args:
        seed: A whole number, of numpy too, or ``None`` for other numbers each time.
    """
    return random.Random(None if seed is None else operator.index(seed))  # noqa: S311 - no secret


def draws_of(space: Any, rng: random.Random) -> Draws:
    """Return what draws from a space.

    Args:
        space: A mapping, or a space of ConfigSpace, of which a copy is drawn from.
        rng: Where the randomness comes from.

    Raises:
        InvalidSpaceError: When the space is empty, or a part makes no sense.
    """
    if is_configspace(space):
        return _FromConfigSpace(space, rng)
    return _FromMapping(parse_space(space), rng)


class _FromMapping:
    """Keeps the number of a configuration where there are finitely many, else its places.

    A place is the value in a range, and the index of a choice.
    """

    def __init__(self, dimensions: Mapping[str, Dimension], rng: random.Random) -> None:
        self.size: float = size_of(dimensions)
        self._dimensions = dimensions
        self._rng = rng
        self._is_finite = all(not isinstance(each, Float) for each in dimensions.values())

    def draw(self) -> tuple[Any, Any]:
        places = [self._draw_place(dimension) for dimension in self._dimensions.values()]
        if not self._is_finite:
            return _digest(places), places
        number = 0
        for dimension, place in zip(self._dimensions.values(), places, strict=True):
            low = dimension.low if isinstance(dimension, Int) else 0
            number = number * int(dimension.size) + int(place) - low
        return number, number

    def all(self) -> Iterator[tuple[Any, Any]]:
        return ((number, number) for number in range(int(self.size)))

    def config(self, drawn: Any) -> dict[str, Any]:
        places = self._places_of(drawn) if self._is_finite else drawn
        pairs = zip(self._dimensions.items(), places, strict=True)
        return {key: _value(dimension, place) for (key, dimension), place in pairs}

    def _draw_place(self, dimension: Dimension) -> float:
        if isinstance(dimension, Constant):
            return 0
        if isinstance(dimension, Choice):
            return self._rng.randrange(len(dimension.values))
        return dimension.at(self._rng.random())

    def _places_of(self, number: int) -> list[int]:
        places = []
        for dimension in reversed(list(self._dimensions.values())):
            number, place = divmod(number, int(dimension.size))
            places.append(place + dimension.low if isinstance(dimension, Int) else place)
        return places[::-1]


class _FromConfigSpace:
    """Lets ConfigSpace draw, which knows conditions, forbidden clauses and priors."""

    def __init__(self, space: ConfigurationSpace, rng: random.Random) -> None:
        self._space = own_copy(space)
        self._space.seed(rng.randrange(SEEDS))
        self.size: float = self._space.estimate_size()
        self._drawn: list[Configuration] = []

    def draw(self) -> tuple[Any, Any]:
        if not self._drawn:
            self._drawn = self._space.sample_configuration(_AT_ONCE)[::-1]
        configuration = self._drawn.pop()
        config = plain_config(configuration)
        return self._key(configuration.get_array(), config), config

    def all(self) -> Iterator[tuple[Any, Any]]:
        # Where there are finitely many, no range has more points than that.
        for vector, config in Grid(self._space, lambda _key: int(self.size)):
            yield self._key(vector, config), config

    def config(self, drawn: Any) -> dict[str, Any]:
        return dict(drawn)

    def _key(self, vector: Any, config: Mapping[str, Any]) -> bytes:
        pairs = zip(self._space.values(), vector, strict=True)
        return _digest([_place(part, place, config) for part, place in pairs])


def _value(dimension: Dimension, place: Any) -> Any:
    if isinstance(dimension, Choice):
        return dimension.values[place]
    return dimension.value if isinstance(dimension, Constant) else place


def _place(part: Any, place: float, config: Mapping[str, Any]) -> Any:
    if part.name not in config:
        return None
    return config[part.name] if is_range(part) else int(place)


def _digest(places: list[Any]) -> bytes:
    """Return 16 bytes in the place of numbers that would take a hundred or more."""
    return blake2b(repr(places).encode(), digest_size=16).digest()
