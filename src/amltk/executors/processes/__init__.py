"""A pool of worker processes of our own, in which a death costs one call.

::

    executor ── pool ── handle, starts ── future, launch, frames ══ worker
                  └── deaths: what is said of them, also by recovery
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk._lazy import resolve

if TYPE_CHECKING:
    from amltk.executors.processes.executor import ProcessExecutor as ProcessExecutor
    from amltk.executors.processes.executor import processes_factory as processes_factory

_WHERE = {
    "ProcessExecutor": "amltk.executors.processes.executor",
    "processes_factory": "amltk.executors.processes.executor",
}

__all__ = [
    "ProcessExecutor",
    "processes_factory",
]


def __getattr__(name: str) -> Any:
    return resolve(globals(), name)


def __dir__() -> list[str]:
    return __all__
