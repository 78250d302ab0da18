"""Suites of tests to subclass: pass them, and what you wrote works with amltk."""

from __future__ import annotations

from amltk.testing.contracts.executor import ExecutorContract
from amltk.testing.contracts.optimizer import OptimizerContract
from amltk.testing.contracts.plugin import PluginContract

__all__ = ["ExecutorContract", "OptimizerContract", "PluginContract"]
