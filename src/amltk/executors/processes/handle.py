"""One worker process, as the pool's thread sees it."""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress

from amltk.executors.processes import launch
from amltk.executors.processes.frames import Channel
from amltk.executors.processes.future import NO_CALL, PackedCall, PoolFuture
from amltk.executors.travel.portable import Kept, Wire


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
        #: The number of the call that it got last.
        self.number = 0
        #: What its call is about, in case that it dies before it has read it.
        self.packed: PackedCall = NO_CALL
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
        #: What it keeps, as it keeps the same lists.
        self.functions: Kept[bool] = Kept()
        self.parts: Kept[bool] = Kept()

    def lacks(self, kept: Kept[bool], wire: Wire) -> bool:
        """Tell whether it has to be sent something, which it has from then on."""
        if kept.get(wire.digest):
            return False
        kept.put(wire.digest, True, len(wire.data))
        return True

    def has_ended(self) -> bool:
        """Tell whether the process has ended."""
        # Asked without collecting where that is possible: as long as the dead process is not
        # collected, its group's number cannot be given to strangers.
        if self.sentinel is not None:
            look = select.poll()  # which needs no descriptor of its own
            look.register(self.sentinel, select.POLLIN)
            return bool(look.poll(0))
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
