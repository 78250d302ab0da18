"""How the values of a configuration are asked of a trial of Optuna.

::

    a mapping ───────────────┐
    a ConfigurationSpace ────┤──▶ suggester(space) ──▶ suggest(optuna trial) ──▶ config
    a function of a trial ───┘

Optuna knows no forbidden configurations. One that is forbidden raises ``Refused`` instead of
returning, and another trial is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from amltk._optional import require
from amltk.exceptions import InvalidSpaceError
from amltk.optimization.optimizers._configspace import own_copy, plain_value
from amltk.optimization.space import (
    Choice,
    Constant,
    Dimension,
    Float,
    Int,
    is_configspace,
    parse_space,
)

if TYPE_CHECKING:
    import optuna
    from ConfigSpace import ConfigurationSpace

#: Makes a configuration of what it asks of a trial of Optuna.
Suggest: TypeAlias = "Callable[[optuna.Trial], Mapping[str, Any]]"

_PLAIN = (type(None), bool, int, float, str)


class Refused(Exception):  # noqa: N818 - no error: the configuration is not to be tried out
    """The configuration that a trial suggests is forbidden."""


def suggester(space: Any) -> Suggest:
    """Return what makes a configuration of a trial of Optuna.

    Args:
        space: A mapping, a ``ConfigurationSpace``, or a function of a trial.

    Raises:
        InvalidSpaceError: When the space makes no sense, or has a part that Optuna has not.
    """
    if is_configspace(space):
        return _of_configspace(own_copy(space))
    if callable(space) and not isinstance(space, Mapping):
        function: Any = space
        return _of_function(function)
    return _of_mapping(parse_space(space))


def _of_mapping(dimensions: Mapping[str, Dimension]) -> Suggest:
    parts = {key: _of_dimension(key, dimension) for key, dimension in dimensions.items()}
    return lambda trial: {key: part(trial) for key, part in parts.items()}


def _of_dimension(key: str, dimension: Dimension) -> Callable[[optuna.Trial], Any]:
    if isinstance(dimension, Constant):
        constant = dimension.value
        return lambda _trial: constant
    if isinstance(dimension, Choice):
        return _of_choices(key, dimension.values)
    low, high, log = dimension.low, dimension.high, dimension.log
    if isinstance(dimension, Int):
        return lambda trial: trial.suggest_int(key, int(low), int(high), log=log)
    return lambda trial: trial.suggest_float(key, low, high, log=log)


def _of_choices(key: str, choices: Sequence[Any]) -> Callable[[optuna.Trial], Any]:
    place = _place_of(key, choices)
    return lambda trial: choices[place(trial)]


def _place_of(key: str, choices: Sequence[Any]) -> Callable[[optuna.Trial], int]:
    """Ask for one of several values, and return its place.

    Optuna stores ``None``, truth values, numbers and texts, and finds a choice by equality: where
    two of these are equal, as ``1`` and ``True`` are, or other values are among them, Optuna is
    told of places.
    """
    plain = all(type(each) in _PLAIN and each == each for each in choices)  # noqa: PLR0124 - NaN
    if plain and len(set(choices)) == len(choices):
        values = tuple(choices)
        return lambda trial: values.index(trial.suggest_categorical(key, values))
    places = tuple(range(len(choices)))
    return lambda trial: trial.suggest_categorical(key, places)


def _of_function(function: Suggest) -> Suggest:
    library = require("optuna", extra="optuna", purpose="OptunaOptimizer")

    def suggest(trial: optuna.Trial) -> Mapping[str, Any]:
        try:
            config: object = function(trial)
        except library.TrialPruned as refused:
            raise Refused from refused
        if isinstance(config, Mapping):
            return config
        message = (
            f"the space's function returned {config!r:.200}, which is no configuration; end it "
            f'such as with return {{"lr": lr, "layers": layers}}'
        )
        raise InvalidSpaceError(message, key="", value=config)

    return suggest


# ------------------------------------------------------------------------------- ConfigSpace


def _of_configspace(space: ConfigurationSpace) -> Suggest:
    # A hyperparameter comes after those that its conditions ask for.
    asks = [(place, key, _of_hyperparameter(space[key])) for place, key in enumerate(space)]
    conditions = {key: space.parent_conditions_of[key] for key in space}

    def suggest(trial: optuna.Trial) -> dict[str, Any]:
        config: dict[str, Any] = {}
        # What ConfigSpace computes with: a number for each hyperparameter, NaN if it is inactive.
        vector = _nothing_set(len(asks))
        for place, key, ask in asks:
            if all(each.satisfied_by_vector(vector) for each in conditions[key]):
                config[key], vector[place] = ask(trial)
        if any(clause.is_forbidden_vector(vector) for clause in space.forbidden_clauses):
            raise Refused
        return config

    return suggest


def _nothing_set(length: int) -> Any:
    # Whoever has ConfigSpace has numpy.
    return require("numpy", extra="configspace", purpose="OptunaOptimizer").full(length, math.nan)


def _of_hyperparameter(part: Any) -> Callable[[optuna.Trial], tuple[Any, float]]:
    """Return what asks for a value, and for the number that ConfigSpace has for it."""
    library = require("ConfigSpace", extra="configspace", purpose="OptunaOptimizer")
    if isinstance(part, library.Constant):
        constant = plain_value(part.value), float(part.to_vector(part.value))
        return lambda _trial: constant
    if isinstance(part, library.OrdinalHyperparameter):
        return _of_ordered(part.name, tuple(map(plain_value, part.sequence)))
    if isinstance(part, library.CategoricalHyperparameter):
        if len(set(part.probabilities)) > 1:
            raise _beyond_optuna(part, "Optuna has no choices with weights; leave the weights out")
        return _of_unordered(part.name, tuple(map(plain_value, part.choices)))
    if isinstance(part, library.UniformFloatHyperparameter):
        dimension: Dimension = Float(float(part.lower), float(part.upper), bool(part.log))
    elif isinstance(part, library.UniformIntegerHyperparameter):
        dimension = Int(int(part.lower), int(part.upper), bool(part.log))
    else:
        hint = "of numbers, Optuna has those that are uniformly distributed, or their logarithms"
        raise _beyond_optuna(part, hint)
    number = _of_dimension(part.name, dimension)
    return lambda trial: _with_vector(part, number(trial))


def _with_vector(part: Any, value: Any) -> tuple[Any, float]:
    return value, float(part.to_vector(value))


def _of_ordered(key: str, values: Sequence[Any]) -> Callable[[optuna.Trial], tuple[Any, float]]:
    def ask(trial: optuna.Trial) -> tuple[Any, float]:
        place = trial.suggest_int(key, 0, len(values) - 1)
        return values[place], float(place)

    return ask


def _of_unordered(key: str, values: Sequence[Any]) -> Callable[[optuna.Trial], tuple[Any, float]]:
    place_of = _place_of(key, values)

    def ask(trial: optuna.Trial) -> tuple[Any, float]:
        place = place_of(trial)
        return values[place], float(place)

    return ask


def _beyond_optuna(part: Any, hint: str) -> InvalidSpaceError:
    message = f"the space's key {part.name!r} cannot be {part!r:.200} with Optuna: {hint}"
    return InvalidSpaceError(message, key=str(part.name), value=part)
