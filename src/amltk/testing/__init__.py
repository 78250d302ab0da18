"""A clock, executors, faults and contract suites, for our tests and for yours.

Names are resolved on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk._lazy import resolve

if TYPE_CHECKING:
    from amltk.testing.clock import VirtualClock as VirtualClock
    from amltk.testing.executors import ManualExecutor as ManualExecutor

_WHERE = {
    "ManualExecutor": "amltk.testing.executors",
    "VirtualClock": "amltk.testing.clock",
}

__all__ = ["ManualExecutor", "VirtualClock"]


def __getattr__(name: str) -> Any:
    return resolve(globals(), name)


def __dir__() -> list[str]:
    return __all__
