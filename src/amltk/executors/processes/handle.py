"""One worker process, as the pool's thread sees it."""

from __future__ import annotations

import os
import selectors
import signal
from contextlib import suppress

from amltk.executors.processes import launch
from amltk.executors.processes.frames import Channel
from amltk.executors.processes.future import PoolFuture
from amltk.executors.travel.envelope import FunctionCache


class Handle:
    """One worker process; all of it is the manager's alone.

    Args:
        process: The process.
        channel: The driver's end of its socket.
    """

    def __init__(self, process: launch.Process, channel: Channel) -> None:
        self.process = process
        self.channel = channel
        self.sentinel: int | None = launch.open_sentinel(process.pid)
        self.call: PoolFuture | None = None
        self.payload = b""
        self.n_calls = 0
        self.is_ready = False
        #: Its end of the socket is closed, or it was asked to leave: it gets no more calls.
        self.is_leaving = False
        #: A thread is ending it.
        self.is_being_ended = False
        #: That thread is done.
        self.was_ended = False
        #: When it is ended if it has not ended by itself.
        self.deadline: float | None = None
        self.kept: FunctionCache = FunctionCache()

    def has_ended(self) -> bool:
        """Tell whether the process has ended."""
        # Asked without collecting where that is possible: as long as the dead process is not
        # collected, its group's number cannot be given to strangers.
        if self.sentinel is not None:
            with selectors.DefaultSelector() as look:
                look.register(self.sentinel, selectors.EVENT_READ)
                return bool(look.select(0))
        return self.process.poll() is not None

    def kill_group(self) -> None:
        """Kill what it has left behind; it is the leader of its own group."""
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Let go of what belongs to it, once it has ended."""
        if self.sentinel is not None:
            os.close(self.sentinel)
        self.channel.close()
        self.process.release()
