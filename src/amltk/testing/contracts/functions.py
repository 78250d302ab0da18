"""What the suites hand to workers; importing it loads nothing else.

A worker imports the module of a function that it is sent. Were these in the suites' own files, each
worker would import pytest and the scheduler first, which costs more than the calls.
"""

from __future__ import annotations

import dataclasses
import os
import sys
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


class Counter:
    """Counts its calls."""

    def __init__(self) -> None:
        self.n_calls: int = 0

    def count(self) -> int:
        """Return how many calls there were, with this one."""
        self.n_calls += 1
        return self.n_calls


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    """Takes no attributes, not even a cause."""


class SpeechlessError(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        """Refuse, by what is no ``Exception``."""
        raise SystemExit

    __repr__ = __str__


def raise_frozen() -> None:
    """Raise what takes no attributes."""
    raise FrozenError


def raise_speechless() -> None:
    """Raise what cannot say what it is."""
    raise SpeechlessError


def print_much() -> int:
    """Print some 200 kB."""
    for number in range(2000):
        print(f"{number:99}")  # noqa: T201 - what is tested
    return 1


def fork_and_return(x: int) -> int:
    """Fork children that come out of this function: by returning, exiting and raising."""
    for how in ("return", "exit", "raise"):
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            if how == "exit":
                sys.exit(3)
            if how == "raise":
                raise KeyError(x)
            return -1
        os.waitpid(child, 0)
    return x


#: A script: its functions are found in no module, so that they travel by value.
SCRIPT = """
import functools

data = None

def load():
    global data
    data = [1, 2, 3]

@functools.cache
def total():
    return sum(data)

@functools.singledispatch
def name(x):
    return "thing"

@name.register
def name_of_number(x: int):
    return "number"

def work():
    load()
    return data, total(), total.cache_info().misses, name(1), name("")
"""


def script() -> dict[str, Any]:
    """Return what a script has made."""
    made: dict[str, Any] = {"__name__": "a script"}
    exec(compile(SCRIPT, "<script>", "exec", dont_inherit=True), made)  # noqa: S102 - our own
    return made


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
