"""The worker's end of a channel where the call runs in the driver's own thread: no socket at all.

What a call sends is handled at once, inside ``send``: the loop is waiting for this very call, and
nothing else is running. Messages are pickled as elsewhere, so that they are copies as elsewhere.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from amltk.channel.line import Line
from amltk.channel.ticket import Ticket
from amltk.channel.wire import Kind
from amltk.exceptions import CommTimeoutError

if TYPE_CHECKING:
    from amltk.channel.channel import Channel


def open_line(ticket: Ticket) -> Line | InlineLine:
    """Open a line to the driver, the one that fits where the call runs.

    Raises:
        CommConnectionError: When the driver cannot be reached.
    """
    channel = ticket.inline
    if channel is None or channel.pid != os.getpid():
        return Line(ticket)  # which says so, where a forked child has no way to the driver
    return InlineLine(channel)


class InlineLine:
    """A line without a connection; see ``Line`` for what it does.

    Args:
        channel: The driver's end.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.pid: int = os.getpid()

    def send(self, kind: Kind, payload: bytes, timeout_s: float, number: int = 0) -> None:
        """Have a frame handled."""
        del timeout_s
        self._hand_over((kind, number, payload), lambda *_: False)

    def offer(self, kind: Kind, payload: bytes, timeout_s: float, number: int = 0) -> bool:
        """Have a frame handled."""
        self.send(kind, payload, timeout_s, number)
        return True

    def ask(self, payload: bytes, timeout_s: float) -> tuple[Kind, bytes]:
        """Have a request handled, and return what it was answered.

        Raises:
            CommTimeoutError: When nobody has answered it.
        """
        answered = threading.Event()
        answers: list[tuple[Kind, bytes]] = []

        def reply(kind: Kind, _number: int, answer: bytes) -> bool:
            answers.append((kind, answer))
            answered.set()
            return True

        self._hand_over((Kind.REQUEST, 0, payload), reply)
        # Here the loop's thread itself asks: callbacks have run, and no other will until it goes
        # on. Another thread might answer, but that is waited for in vain rather seldom.
        if not answered.wait(timeout_s):
            message = (
                f"nobody answered the request within {timeout_s} s; on this engine, where the "
                f"driver waits inside the call, a callback of Comm.REQUEST has to call respond() "
                f"before it returns"
            )
            raise CommTimeoutError(message)
        return answers[0]

    def close(self) -> bytes:
        """Have the end handled."""
        self._hand_over((Kind.BYE, 0, b""), lambda *_: False)
        complaints, self._channel.complaints[:] = self._channel.complaints[:], []
        return "; ".join(complaints).encode()

    def _hand_over(self, frame: tuple[Kind, int, bytes], reply: Any) -> None:
        channel = self._channel
        if channel.in_loop():
            channel.receive_inline(*frame, reply)
        else:  # a thread that the call has started
            channel.post_inline(lambda *_: channel.receive_inline(*frame, reply), None, None)
