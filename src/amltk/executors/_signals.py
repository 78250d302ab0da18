"""Keeps the program's own handlers of signals from libraries that replace them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

from amltk._contexts import context

#: The system's default, and a handler of C code, which cannot be set again from here.
_NOT_ITS_OWN = (signal.SIG_DFL, None)


@context
def kept_handler(number: signal.Signals) -> Iterator[None]:
    """Keep what the program does about a signal, unless that is the system's default.

    Args:
        number: The signal. Only the main thread can set handlers, so in others nothing is done.
    """
    handler = signal.getsignal(number)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and handler not in _NOT_ITS_OWN:
            signal.signal(number, handler)
