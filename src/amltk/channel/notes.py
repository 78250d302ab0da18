"""What plugins share whose worker side has one thing to tell, such as figures, when a call ends."""

from __future__ import annotations

import logging
import pickle
from typing import TYPE_CHECKING, Any

from amltk._logs import log_failure
from amltk.channel.inline import open_line
from amltk.channel.plugin import ChannelPlugin
from amltk.channel.wire import Kind
from amltk.executors.travel.envelope import dumps

if TYPE_CHECKING:
    from amltk.channel.channel import Channel, Reply
    from amltk.channel.ticket import Ticket
    from amltk.events import Event
    from amltk.scheduling.future import Future

logger: logging.Logger = logging.getLogger(__name__)

#: How long a call waits for a driver that takes nothing.
NOTE_S = 10.0


def send_note(ticket: Ticket, note: object) -> None:
    """Send something to the driver's plugin; in the worker.

    Args:
        ticket: The call's.
        note: Anything that can be pickled.

    Raises:
        CommError: When the driver cannot be reached, or does not take it.
    """
    line = open_line(ticket)
    line.send(Kind.NOTE, dumps(note), NOTE_S)
    line.close()


class NotePlugin(ChannelPlugin):
    """Base class of plugins that hear notes of their worker side; override ``noted``."""

    def receive(
        self, channel: Channel, kind: Kind, number: int, payload: bytes, reply: Reply
    ) -> None:
        """Read a note."""
        del kind, number, reply
        try:
            note = pickle.loads(payload)
        except BaseException:  # the driver's log has it; it is no reason for the call to fail
            log_failure(logger, "what %s noted for %s could not be read", channel.future, self.name)
            return
        self.noted(channel.future, note)

    def emit_note(self, event: Event[Future[Any], Any], future: Future[Any], note: object) -> bool:
        """Emit a note; tell whether anybody listens."""
        self.emit(event, future, note)
        return self.task is not None and self.task.plugin_events.has(event)

    def noted(self, future: Future[Any], note: Any) -> None:
        """Hear a note of a call; in the loop's thread, before the call is done."""
        raise NotImplementedError
