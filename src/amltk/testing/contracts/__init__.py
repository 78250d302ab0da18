"""Suites of tests to subclass: pass them, and what you wrote works with amltk.

Names are resolved on first use, so that a worker that is sent one of ``functions`` loads no suite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk._lazy import resolve

if TYPE_CHECKING:
    from amltk.testing.contracts.executor import ExecutorContract as ExecutorContract
    from amltk.testing.contracts.optimizer import OptimizerContract as OptimizerContract
    from amltk.testing.contracts.plugin import PluginContract as PluginContract

_WHERE = {
    "ExecutorContract": "amltk.testing.contracts.executor",
    "OptimizerContract": "amltk.testing.contracts.optimizer",
    "PluginContract": "amltk.testing.contracts.plugin",
}

__all__ = ["ExecutorContract", "OptimizerContract", "PluginContract"]


def __getattr__(name: str) -> Any:
    return resolve(globals(), name)


def __dir__() -> list[str]:
    return __all__
