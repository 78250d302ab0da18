"""From a space that is written as a mapping to ConfigSpace, and from its configurations back.

::

    {"lr": (1e-5, 1e-1, "log"), "kernel": ["rbf", None]}      what the user writes
        parse_space ──▶ dimensions ──▶ to_configspace
    {"lr": 0.003, "kernel": "1"}                              what ConfigSpace knows
        decode ──▶ {"lr": 0.003, "kernel": None}              what a trial is given

ConfigSpace compares choices by equality, puts them into arrays of one type and rounds numbers to
13 places. So a choice is known there by its place, and a range that is too narrow or too wide for
it by positions between 0 and 1; a trial is always given the user's own objects.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from amltk._optional import require
from amltk.exceptions import InvalidSpaceError
from amltk.optimization.space import Choice, Constant, Dimension, Float, Int

if TYPE_CHECKING:
    from ConfigSpace import Configuration, ConfigurationSpace

#: ConfigSpace rounds to 13 places; at least so much leaves five digits or more.
_FINEST = 1e-8
#: It counts in floating point, in which beyond this not every whole number exists.
_MOST_INTEGERS = 2**31


def to_configspace(
    dimensions: Mapping[str, Dimension], *, seed: int | None = None
) -> ConfigurationSpace:
    """Make a space of ConfigSpace, whose configurations ``decode`` can read.

    Args:
        dimensions: What ``parse_space`` returned.
        seed: For what is sampled from it.

    Raises:
        MissingExtraError: When ConfigSpace is not installed.
    """
    library = require("ConfigSpace", extra="configspace", purpose="this optimizer")
    space: ConfigurationSpace = library.ConfigurationSpace(seed=seed)
    space.add([_hyperparameter(library, key, each) for key, each in dimensions.items()])
    return space


def decode(config: Mapping[str, Any], dimensions: Mapping[str, Dimension]) -> dict[str, Any]:
    """Return the user's own values of a configuration, in the order of the space.

    Args:
        config: A configuration of the space that ``to_configspace`` made.
        dimensions: What that was made of.
    """
    return {key: _decoded(config[key], dimension) for key, dimension in dimensions.items()}


def plain_config(configuration: Configuration) -> dict[str, Any]:
    """Return a configuration of a user's own ``ConfigurationSpace`` as plain Python values.

    Choices are the user's own objects; keys whose conditions do not hold are left out.

    Args:
        configuration: The configuration.
    """
    space = configuration.config_space
    return {key: _plain(space[key], configuration) for key in configuration}


def plain_value(value: Any) -> Any:
    """Return a value that ConfigSpace holds as Python's own, where numpy has made it a scalar.

    Args:
        value: The value.
    """
    is_scalar = type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0
    return value.item() if is_scalar else value


def own_copy(space: Any) -> ConfigurationSpace:
    """Return a copy of a space of ConfigSpace, with the user's own objects as choices.

    Args:
        space: The space.

    Raises:
        InvalidSpaceError: When it is empty.
    """
    if not len(space):
        message = "the ConfigurationSpace is empty; add hyperparameters to it first"
        raise InvalidSpaceError(message, key="", value=space)
    own: list[Any] = []
    for part in space.values():
        for name in ("choices", "sequence"):
            own += getattr(part, name, ())
        own.append(getattr(part, "value", None))
    copied: ConfigurationSpace = copy.deepcopy(space, {id(value): value for value in own})
    return copied


def _hyperparameter(library: Any, key: str, dimension: Dimension) -> Any:
    if dimension.size == 1:
        return library.Constant(key, "0")
    if isinstance(dimension, Choice):
        places = [str(place) for place in range(len(dimension.values))]
        return library.CategoricalHyperparameter(key, places)
    assert not isinstance(dimension, Constant)  # noqa: S101 - it has one value
    if _is_by_position(dimension):
        return library.UniformFloatHyperparameter(key, 0.0, 1.0)
    kind = (
        library.UniformFloatHyperparameter
        if isinstance(dimension, Float)
        else library.UniformIntegerHyperparameter
    )
    return kind(key, dimension.low, dimension.high, log=dimension.log)


def _is_by_position(dimension: Float | Int) -> bool:
    """Tell whether ConfigSpace has to be given positions, since it cannot tell values apart."""
    if isinstance(dimension, Int):
        return dimension.size > _MOST_INTEGERS or max(-dimension.low, dimension.high) > 2**53
    least = dimension.low if dimension.log else dimension.high - dimension.low
    return least < _FINEST


def _decoded(value: Any, dimension: Dimension) -> Any:
    if dimension.size == 1:
        return dimension.at(0.0)
    if isinstance(dimension, Choice):
        return dimension.values[int(value)]
    assert not isinstance(dimension, Constant)  # noqa: S101 - it has one value
    if _is_by_position(dimension):
        return dimension.at(float(value))
    kind = float if isinstance(dimension, Float) else int
    return min(dimension.high, max(dimension.low, kind(value)))


def _plain(hyperparameter: Any, configuration: Configuration) -> Any:
    # Not the configuration's value, which is an element of an array of one type for all choices.
    for values in ("choices", "sequence"):
        if hasattr(hyperparameter, values):
            place = configuration.config_space.index_of[hyperparameter.name]
            value = getattr(hyperparameter, values)[int(configuration.get_array()[place])]
            break
    else:
        is_constant = hasattr(hyperparameter, "value")
        value = hyperparameter.value if is_constant else configuration[hyperparameter.name]
    return plain_value(value)
