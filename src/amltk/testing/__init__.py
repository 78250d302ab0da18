"""A clock, executors, faults and contract suites, for our tests and for yours."""

from __future__ import annotations

from amltk.testing.clock import VirtualClock
from amltk.testing.executors import ManualExecutor

__all__ = ["ManualExecutor", "VirtualClock"]
