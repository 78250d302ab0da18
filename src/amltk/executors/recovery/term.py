"""Workers of pools that end when they are told to, whatever the program does about TERM.

Pools end their workers by TERM. Many programs have a handler that makes ``SystemExit`` of it (Ray
sets one), and forked workers have it too. Raised within a call it looks like the call's own, and
the worker goes on; raised between two calls it can lose the result that is being sent.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable
from enum import Enum, auto
from functools import partial
from types import FrameType
from typing import Any

from amltk.exceptions import CallExitError
from amltk.executors.travel.shelf import run_shelved


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
        #: Which signals were blocked before a call's end.
        self._mask: Iterable[int] | None = None

    def install(self) -> None:
        """Take the place of the program's handler, if it has one; called in the worker."""
        own = signal.getsignal(signal.SIGTERM)
        if own == self._handle or not callable(own):
            return
        if threading.current_thread() is threading.main_thread():
            self._own = own
            signal.signal(signal.SIGTERM, self._handle)

    def run(self, payload: bytes, *paths: str, note: Callable[[], object]) -> bytes:
        """Run a packed call; from its end until ``rest`` is called, TERM does not end the worker.

        Args:
            payload: The call, as ``run_shelved`` takes it.
            *paths: Its files, likewise.
            note: Called once the call has ended, before its outcome is packed.
        """
        self._was_raised = False
        self._phase = _Phase.RUNNING
        outcome = run_shelved(payload, *paths, on_end=partial(self._ended, note))
        self._phase = _Phase.NOTING  # also where the call could not begin
        return outcome

    def _ended(self, note: Callable[[], object], error: BaseException | None) -> None:
        if self._was_raised and isinstance(error, CallExitError):
            _end()  # it is what the program's handler has raised, and no end of the call
        self._was_raised = False
        self._phase = _Phase.NOTING
        if hasattr(signal, "pthread_sigmask"):
            self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        note()

    def rest(self) -> None:
        """Let TERM end the worker from now on."""
        self._phase = _Phase.WAITING
        if self._mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            self._mask = None
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


def _end() -> None:
    """End this process as TERM does where nobody handles it."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
