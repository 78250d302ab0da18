"""Suites of tests to subclass: pass them, and what you wrote works with amltk."""

from __future__ import annotations

from amltk.testing.contracts.executor import ExecutorContract

__all__ = ["ExecutorContract"]
