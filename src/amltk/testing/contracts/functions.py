"""What the suites hand to workers; importing it loads nothing else.

A worker imports the module of a function that it is sent. Were these in the suites' own files, each
worker would import pytest and the scheduler first, which costs more than the calls.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amltk.optimization.trials.report import Report
    from amltk.optimization.trials.trial import Trial

# ---------------------------------------------------------------------------------- executors


def add(x: int, y: int = 1) -> int:
    """Add two numbers."""
    return x + y


def fail(message: str) -> None:
    """Raise with a message."""
    raise ValueError(message)


def repeat(**keywords: Any) -> dict[str, Any]:
    """Return the keywords."""
    return keywords


class Refusing:
    """Cannot be pickled."""

    def __reduce__(self) -> Any:
        """Refuse."""
        message = "not me"
        raise TypeError(message)


# ------------------------------------------------------------------------------------ plugins


def work(x: int, y: int = 1) -> int:
    """Add, fail at 0 and die at -1."""
    if x == 0:
        message = f"cannot work with {x}"
        raise LookupError(message)
    if x == -1:
        os._exit(7)
    return x + y


# --------------------------------------------------------------------------------- optimizers


def evaluate(config: Mapping[str, Any]) -> float:
    """Return a number for a configuration of any space: the best is 0."""
    numbers = [value for value in config.values() if isinstance(value, int | float)]
    return float(sum(number * number for number in numbers))


def values_of(trial: Trial, evaluate: Callable[[Mapping[str, Any]], float]) -> dict[str, float]:
    """Return a value for each metric of a trial."""
    loss = evaluate(trial.config)
    return {metric.name: loss if metric.minimize else -loss for metric in trial.metrics}


def measure(trial: Trial, *, evaluate: Callable[[Mapping[str, Any]], float]) -> Report:
    """Try a trial out."""
    with trial.begin():
        values = values_of(trial, evaluate)
    return trial.success(**values)


def measure_or_raise(
    trial: Trial, number: int, evaluate: Callable[[Mapping[str, Any]], float]
) -> Report:
    """Try a trial out; each third one raises."""
    if number % 3 == 2:
        message = f"number {number} raises"
        raise ArithmeticError(message)
    return measure(trial, evaluate=evaluate)
