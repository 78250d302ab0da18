"""Workers of pools that end when they are told to, whatever the program does about TERM.

Pools end their workers by TERM. Many programs have a handler that makes ``SystemExit`` of it (Ray
sets one), and forked workers have it too. Raised within a call it looks like the call's own, and
the worker goes on; raised between two calls it can lose the result that is being sent.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from enum import Enum, auto
from types import FrameType
from typing import Any

from amltk.executors.travel.envelope import run_packed, unpack_outcome


class _Phase(Enum):
    """What the worker is about."""

    WAITING = auto()
    RUNNING = auto()
    NOTING = auto()


class Term:
    """A handler of TERM around the program's own, which ends the worker where that one wants to."""

    def __init__(self) -> None:
        self._phase = _Phase.WAITING
        self._own: Callable[[int, FrameType | None], Any] = signal.default_int_handler
        #: The program's handler has raised ``SystemExit`` in this call.
        self._was_raised = False

    def install(self) -> None:
        """Take the place of the program's handler, if it has one; called in the worker."""
        own = signal.getsignal(signal.SIGTERM)
        if own == self._handle or not callable(own):
            return
        if threading.current_thread() is threading.main_thread():
            self._own = own
            signal.signal(signal.SIGTERM, self._handle)

    def run(self, payload: bytes) -> bytes:
        """Run a packed call; until ``rest`` is called, its outcome is not cut off by TERM."""
        self._was_raised = False
        self._phase = _Phase.RUNNING
        outcome = run_packed(payload)
        if self._was_raised and _is_exit(outcome):
            _end()
        self._was_raised = False
        self._phase = _Phase.NOTING
        return outcome

    def rest(self) -> None:
        """Let TERM end the worker from now on."""
        self._phase = _Phase.WAITING
        if self._was_raised:
            _end()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        try:
            self._own(number, frame)
        except SystemExit:
            # Told twice, by the pool and by us, a worker ends although its call is still coming to its
            # end: raised once more, say while the first one is packed, it would be the call's outcome.
            if self._phase is _Phase.WAITING or self._was_raised:
                _end()
            self._was_raised = True
            if self._phase is _Phase.RUNNING:
                raise


def _is_exit(outcome: bytes) -> bool:
    returned, value = unpack_outcome(outcome)
    return not returned and isinstance(value, SystemExit)


def _end() -> None:
    """End this process as TERM does where nobody handles it."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
