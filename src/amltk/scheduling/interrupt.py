"""Ctrl-C during a run.

The default handler raises ``KeyboardInterrupt`` wherever the main thread happens to be, which in
the middle of our own bookkeeping would leave calls untold and workers behind. While a run is on,
Ctrl-C therefore asks the run to end. Only where the main thread is in the user's code (a callback,
or a call of the sequential executor) it is raised right there too, so that a long callback does
not have to be waited for.

A handler that the user installed stays in force. The one that ``asyncio.run`` installs is called
as well: it cancels the main task, and turns that into ``KeyboardInterrupt`` in the end.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from amltk._contexts import context

#: Where our code calls the user's: below such a frame, the user's code is running.
_CALLING_MODULES = ("amltk.events.", "amltk.executors.sequential")

#: What plugins put around a call, and their hooks: whose code that is, the frame above them tells.
_PASSED_MODULES = ("amltk.plugins.", "amltk.scheduling.plugin")


class InterruptGuard:
    """What Ctrl-C does while a run is on.

    Args:
        interrupt: Asks the run to end; called in the main thread, and told whether the coroutine
            of the run is going to be cancelled for this very Ctrl-C.
        previous: The handler that was there before.
    """

    def __init__(self, interrupt: Callable[[bool], object], previous: Any) -> None:
        self._interrupt = interrupt
        self._previous = previous
        self._count = 0
        #: Whether asyncio's runner takes care of raising ``KeyboardInterrupt``.
        self.runner_raises: bool = _is_runners(previous)

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Handle SIGINT."""
        self._count += 1
        in_users_code = _in_users_code(frame)
        cancels = self.runner_raises and self._count == 1 and not in_users_code
        self._interrupt(cancels)
        if in_users_code:
            raise KeyboardInterrupt
        if cancels:
            self._previous(signum, frame)


@context
def guard_interrupts(interrupt: Callable[[bool], object]) -> Iterator[InterruptGuard | None]:
    """Have Ctrl-C end a run while the context lasts.

    Args:
        interrupt: Asks the run to end; see ``InterruptGuard``.

    Yields:
        The guard, or ``None`` where Ctrl-C is not ours to handle: outside the main thread, or
        when the user has a handler of their own.
    """
    if threading.current_thread() is not threading.main_thread():
        yield None
        return
    previous = signal.getsignal(signal.SIGINT)
    if previous is not signal.default_int_handler and not _is_runners(previous):
        yield None
        return
    guard = InterruptGuard(interrupt, previous)
    signal.signal(signal.SIGINT, guard)
    try:
        yield guard
    finally:
        signal.signal(signal.SIGINT, previous)


def _is_runners(handler: object) -> bool:
    function = getattr(handler, "func", None)  # asyncio.Runner installs a partial
    return getattr(function, "__qualname__", "") == "Runner._on_sigint"


def _in_users_code(frame: FrameType | None) -> bool:
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("amltk.") and not module.startswith(_PASSED_MODULES):
            return bool(module.startswith(_CALLING_MODULES))
        frame = frame.f_back
    return False
