"""Deciding what runs, following it to its end, telling listeners.

Names are resolved on first use. Some of them live in rooms above this one, since that is where
users look for them; this is the one place that looks upwards.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from amltk._lazy import resolve

if TYPE_CHECKING:
    from amltk.events import Event as Event
    from amltk.events import Subscriber as Subscriber
    from amltk.executors.sequential import SequentialExecutor as SequentialExecutor
    from amltk.plugins.comm import Comm as Comm
    from amltk.plugins.limiter import CallLimiter as CallLimiter
    from amltk.scheduling.batch import Batch as Batch
    from amltk.scheduling.future import Future as Future
    from amltk.scheduling.plugin import TaskPlugin as TaskPlugin
    from amltk.scheduling.policy import ExitCode as ExitCode
    from amltk.scheduling.scheduler import Scheduler as Scheduler
    from amltk.scheduling.snapshot import SchedulerSnapshot as SchedulerSnapshot
    from amltk.scheduling.snapshot import TaskSnapshot as TaskSnapshot
    from amltk.scheduling.task import Task as Task

_WHERE = {
    "Batch": "amltk.scheduling.batch",
    "CallLimiter": "amltk.plugins.limiter",
    "Comm": "amltk.plugins.comm",
    "Event": "amltk.events",
    "ExitCode": "amltk.scheduling.policy",
    "Future": "amltk.scheduling.future",
    "Scheduler": "amltk.scheduling.scheduler",
    "SchedulerSnapshot": "amltk.scheduling.snapshot",
    "SequentialExecutor": "amltk.executors.sequential",
    "Subscriber": "amltk.events",
    "Task": "amltk.scheduling.task",
    "TaskPlugin": "amltk.scheduling.plugin",
    "TaskSnapshot": "amltk.scheduling.snapshot",
}

__all__ = [
    "Batch",
    "CallLimiter",
    "Comm",
    "Event",
    "ExitCode",
    "Future",
    "Scheduler",
    "SchedulerSnapshot",
    "SequentialExecutor",
    "Subscriber",
    "Task",
    "TaskPlugin",
    "TaskSnapshot",
]


def live_view() -> Any:
    """Return the view that ``run(display=True)`` shows; it needs the extra ``display``."""
    return importlib.import_module("amltk.display.live").LiveView


def __getattr__(name: str) -> Any:
    return resolve(globals(), name)


def __dir__() -> list[str]:
    return __all__
