"""Event-driven compute scheduling for AutoML and machine learning experiments.

The names that people import, each resolved on first use: ``import amltk`` loads nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from amltk._lazy import resolve

if TYPE_CHECKING:
    from amltk.events import Emitter as Emitter
    from amltk.events import Event as Event
    from amltk.events import EventManager as EventManager
    from amltk.events import Subscriber as Subscriber
    from amltk.executors.sequential import SequentialExecutor as SequentialExecutor
    from amltk.optimization.history.history import History as History
    from amltk.optimization.optimizer import Optimizer as Optimizer
    from amltk.optimization.optimizers.random import RandomSearch as RandomSearch
    from amltk.optimization.trials.trial import Trial as Trial
    from amltk.plugins.comm import Comm as Comm
    from amltk.plugins.limiter import CallLimiter as CallLimiter
    from amltk.scheduling.plugin import TaskPlugin as TaskPlugin
    from amltk.scheduling.scheduler import Scheduler as Scheduler
    from amltk.scheduling.task import Task as Task

    __version__: str

_WHERE = {
    "CallLimiter": "amltk.plugins.limiter",
    "Comm": "amltk.plugins.comm",
    "Emitter": "amltk.events",
    "Event": "amltk.events",
    "EventManager": "amltk.events",
    "History": "amltk.optimization.history.history",
    "Optimizer": "amltk.optimization.optimizer",
    "RandomSearch": "amltk.optimization.optimizers.random",
    "Scheduler": "amltk.scheduling.scheduler",
    "SequentialExecutor": "amltk.executors.sequential",
    "Subscriber": "amltk.events",
    "Task": "amltk.scheduling.task",
    "TaskPlugin": "amltk.scheduling.plugin",
    "Trial": "amltk.optimization.trials.trial",
}

__all__ = [
    "CallLimiter",
    "Comm",
    "Emitter",
    "Event",
    "EventManager",
    "History",
    "Optimizer",
    "RandomSearch",
    "Scheduler",
    "SequentialExecutor",
    "Subscriber",
    "Task",
    "TaskPlugin",
    "Trial",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("amltk")
    return resolve(globals(), name)


def __dir__() -> list[str]:
    return __all__
