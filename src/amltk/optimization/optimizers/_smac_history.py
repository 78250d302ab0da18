"""What SMAC's own methods cannot do with its history and its configurations.

SMAC keeps what runs, and what became of it, in a ``RunHistory``, to which one can only add. What is
done here beyond that touches its insides, and only here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smac.facade.abstract_facade import AbstractFacade
    from smac.runhistory import RunHistory, TrialInfo, TrialKey

#: A configuration that runs is drawn so often, for one trial, only where there is no other one.
_MOST_REPEATS = 20


class NothingNewError(Exception):
    """SMAC goes in circles, since every configuration that it finds is running already."""


def key_of(history: RunHistory, info: TrialInfo) -> TrialKey:
    """Return the key by which the history knows a trial."""
    from smac.runhistory import TrialKey

    budget = None if info.budget is None else float(info.budget)
    key: TrialKey = TrialKey(
        config_id=history.get_config_id(info.config),
        instance=info.instance,
        seed=info.seed,
        budget=budget,
    )
    return key


def take_back(history: RunHistory, info: TrialInfo) -> None:
    """Make it as if a running trial had never been asked for, so that it can be asked for again."""
    history._data.pop(key_of(history, info))
    history._running_trials.remove(info)
    history._running -= 1
    history._submitted -= 1


def set_cost(history: RunHistory, info: TrialInfo, cost: Any) -> None:
    """Change what a trial has cost, which was told before."""
    key = key_of(history, info)
    history._data[key] = dataclasses.replace(history._data[key], cost=cost)
    history.update_cost(info.config)


def bound(facade: AbstractFacade) -> Callable[[], None]:
    """Have SMAC's search for a configuration come to an end.

    As long as it was told of nothing, SMAC draws at random, and draws on while all that it finds is
    running: without end, if that is all there is.

    Returns:
        What is to be called before SMAC is asked for a trial.
    """
    n_drawn: dict[Any, int] = {}

    def bounded(configurations: Iterator[Any]) -> Iterator[Any]:
        for configuration in configurations:
            if configuration in n_drawn:
                n_drawn[configuration] += 1
                if n_drawn[configuration] > _MOST_REPEATS:
                    raise NothingNewError
            yield configuration

    def begin() -> None:
        n_drawn.clear()
        n_drawn.update(dict.fromkeys(facade.runhistory.get_running_configs(), 0))

    intensifier = facade.intensifier
    intensifier._config_generator = bounded(intensifier.config_generator)
    return begin
