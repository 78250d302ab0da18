"""The one place that knows what time it is.

All times of a run are the times of its event loop, so that a test can run it on a loop whose time
it controls (``amltk.testing.VirtualClock``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """Something that will happen, unless it is called off."""

    def cancel(self) -> object:
        """Call it off."""


class Clock:
    """The clock of an event loop.

    Args:
        loop: The loop whose time it tells.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        #: The current time in seconds; only differences mean anything. Asked between any two
        #: callbacks, so the detour over asyncio's own method is left out where it is that one.
        self.now: Callable[[], float] = (
            time.monotonic if type(loop).time is asyncio.BaseEventLoop.time else loop.time
        )

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> Timer:
        """Call something after a delay, in the loop's thread."""
        return self._loop.call_later(delay_s, callback)
