"""Pools that break as a whole, made to lose one call to a death.

::

    executor ── verdict ── generation ── breakable, marks, salvage ══ term, in the worker
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk._lazy import resolve

if TYPE_CHECKING:
    from amltk.executors.recovery.executor import RecoveringExecutor as RecoveringExecutor
    from amltk.executors.recovery.executor import recovering as recovering

_WHERE = {
    "RecoveringExecutor": "amltk.executors.recovery.executor",
    "recovering": "amltk.executors.recovery.executor",
}

__all__ = [
    "RecoveringExecutor",
    "recovering",
]


def __getattr__(name: str) -> Any:
    return resolve(globals(), name)


def __dir__() -> list[str]:
    return __all__
