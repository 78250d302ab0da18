"""The driver's end of one channel: who has it open, and who handles what comes in."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol

from amltk.channel.ticket import Ticket
from amltk.channel.wire import Kind
from amltk.scheduling.services import RunAccess


class Reply(Protocol):
    """Sends something back to whom a frame came from."""

    def __call__(self, kind: Kind, number: int, payload: bytes, /) -> bool:
        """Send it, from any thread; tell whether anybody is there."""
        ...


class Receiver(Protocol):
    """Who handles what comes in on a channel; in the loop's thread."""

    def receive(
        self, channel: Channel, kind: Kind, number: int, payload: bytes, reply: Reply
    ) -> None:
        """Handle one frame."""

    def closed(self, channel: Channel) -> None:
        """Hear that nothing more comes from this attempt; once, if it was ever opened."""


class Open(Protocol):
    """Somebody who has the channel open."""

    @property
    def is_finished(self) -> bool:
        """Whether all that it said has been handled, and nothing more can come."""
        ...

    def when_finished(self, release: Callable[[], object]) -> None:
        """Call something once that is so."""

    def hang_up(self) -> None:
        """Close the connection at once."""


class Channel:
    """The way between one call and the driver.

    Args:
        receiver: Who handles what comes in.
        ticket: What the worker opens it with.
        access: What may be used of the run.
        forget: Has nobody let in any more.
    """

    __slots__ = (
        "_access",
        "_forget",
        "_told_closed",
        "_was_opened",
        "complaints",
        "future",
        "peers",
        "pid",
        "receiver",
        "ticket",
    )

    def __init__(
        self,
        receiver: Receiver,
        ticket: Ticket,
        access: RunAccess,
        forget: Callable[[Channel], object],
    ) -> None:
        self._access = access
        #: The driver's; a forked child has a copy of this, which is of no use there.
        self.pid: int = os.getpid()
        self._forget = forget
        self.receiver: Receiver = receiver
        self.ticket: Ticket = ticket
        #: Whose it is; set when the call is submitted.
        self.future: Any = None
        self.peers: set[Open] = set()
        #: What could not be read, for the worker to hear when it says goodbye.
        self.complaints: list[str] = []
        self._was_opened = False
        self._told_closed = False

    def opened(self) -> None:
        """Note that somebody has connected."""
        self._was_opened = True
        self._told_closed = False

    def said_goodbye(self) -> None:
        """Tell that it is closed, unless somebody else has it open."""
        if all(peer.is_finished for peer in self.peers):
            self._tell_closed()

    def hold(self, release: Callable[[], object]) -> bool:
        """Tell whether something is still on its way; if so, release when it is through."""
        waiting = [peer for peer in self.peers if not peer.is_finished]
        if waiting:
            waiting[0].when_finished(release)
            return True
        self._tell_closed()
        return False

    def receive_inline(self, kind: Kind, number: int, payload: bytes, reply: Reply) -> None:
        """Handle a frame of a call that runs in the loop's own thread."""
        self._was_opened = True
        if kind is Kind.BYE:
            self._tell_closed()
        else:
            self.receiver.receive(self, kind, number, payload, reply)

    def post_inline(self, do: Callable[[Any, Any], object], first: Any, second: Any) -> None:
        """Have something done in the loop's thread when it is free again."""
        self._access.post(do, first, second)

    def in_loop(self) -> bool:
        """Tell whether this is the loop's thread."""
        return self._access.in_loop()

    def forget(self) -> None:
        """Let nobody in any more; the call is over."""
        self._forget(self)
        for peer in list(self.peers):
            peer.hang_up()

    def _tell_closed(self) -> None:
        if self._was_opened and not self._told_closed:
            self._told_closed = True
            self.receiver.closed(self)
