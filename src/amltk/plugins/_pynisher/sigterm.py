"""Keeps the worker's handler of TERM while pynisher runs a call."""

from __future__ import annotations

import os
import signal
import threading


class OwnSigterm:
    """Keeps the program's handler of TERM, which pynisher replaces in the main thread."""

    def __init__(self) -> None:
        self._is_main = threading.current_thread() is threading.main_thread()
        self._handler = signal.getsignal(signal.SIGTERM) if self._is_main else None
        #: TERM has come while pynisher's handler was there, which does nothing about it.
        self.has_come = False
        if self._handler is signal.SIG_IGN:
            signal.signal(signal.SIGTERM, _ignore)  # the same, but pynisher does not warn of it

    def restore(self) -> None:
        """Put the program's handler back."""
        if self._handler is not None and signal.getsignal(signal.SIGTERM) is not self._handler:
            signal.signal(signal.SIGTERM, self._handler)

    def raise_if_it_came(self) -> None:
        """Have the program's handler do what it would have done."""
        if self.has_come:
            self.has_come = False
            os.kill(os.getpid(), signal.SIGTERM)


def _ignore(number: int, frame: object) -> None:
    """Ignore a signal."""
