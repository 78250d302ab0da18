"""Time under the test's control.

::

    loop waits for a timer in 60 s and nothing else ──▶ the clock jumps 60 s ──▶ the timer fires

A run takes all its times from its event loop, so a loop with a clock of its own is all it takes
to test a timeout of an hour in a millisecond.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualClock:
    """Runs coroutines on a loop whose time jumps when everything waits.

    Real input still counts: a loop that is woken by a thread handles that first. Use it with
    executors that complete calls from the test, such as ``ManualExecutor``; with real workers the
    clock would jump over the time that they need.
    """

    def __init__(self) -> None:
        self._now = 0.0

    def time(self) -> float:
        """Tell the virtual time in seconds since the clock was made."""
        return self._now

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on a new loop with this clock.

        Args:
            coroutine: What to run, such as ``scheduler.async_run(timeout=60)``.

        Returns:
            What the coroutine returns.
        """
        with asyncio.Runner(loop_factory=lambda: _VirtualLoop(self)) as runner:
            return runner.run(coroutine)

    def _advance(self, seconds: float) -> None:
        self._now += seconds


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting for a timer, let the clock jump to it."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> Any:
        """Return what is ready; wait only where nothing but real input can come."""
        ready = super().select(None if timeout is None else 0)
        if not ready and timeout is not None and timeout > 0:
            self._clock._advance(timeout)
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(_JumpingSelector(clock))
        self._virtual_clock = clock

    def time(self) -> float:
        return self._virtual_clock.time()
