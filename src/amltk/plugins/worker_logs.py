"""What a call logs and prints, in the driver while it runs.

::

    worker                                        driver, in the loop's thread
    logging ──▶ a handler ──▶ frames       ─────▶  WorkerLogs.LOG(future, record)
    print, C code, subprocesses ──▶ fd 1, 2 ═════▶  WorkerLogs.OUTPUT(future, "stdout", line)

Nothing is kept in the worker: a record is written to the socket when it is logged, and what is
printed goes into a socket that has taken the place of the descriptor. So a worker that is killed
has told all that it said.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from amltk._logs import log_failure
from amltk.channel.plugin import ChannelPlugin
from amltk.channel.wire import STREAMS, Kind
from amltk.events import Event
from amltk.exceptions import InvalidOptionError
from amltk.plugins._capture import Capture
from amltk.scheduling.plugin import Layer, Wrapped

if TYPE_CHECKING:
    from amltk.channel.channel import Channel, Reply
    from amltk.channel.ticket import Ticket
    from amltk.scheduling.future import Future

logger: logging.Logger = logging.getLogger(__name__)

#: Where forwarded output is logged.
output_logger: logging.Logger = logging.getLogger("amltk.output")


class _Captured(Wrapped):
    """Catches what the function logs and prints."""

    def __init__(
        self, fn: Callable[..., Any], *, level: int | None, output: bool, shares_process: bool
    ) -> None:
        super().__init__(fn)
        self._capture = partial(Capture, level=level, output=output, shares_process=shares_process)

    def __call__(self, ticket: Ticket, /, *args: Any, **kwargs: Any) -> Any:
        with self._capture(ticket):
            return self.fn(*args, **kwargs)


class WorkerLogs(ChannelPlugin):
    """Brings what calls log and print to the driver, each line while the call runs.

    Args:
        level: From which level on records are sent, as a number or a name; ``None`` for none.
        output: Whether what is printed is sent, also by C code and by processes that the call
            starts. It does not appear where the worker would have printed it.
        forward: Whether records are also handled by the driver's ``logging``, under the name of
            their logger, and lines that were printed by the logger ``amltk.output``. Records have
            the attributes ``task`` and ``call``, a name and a number.
        **channel: Where the driver listens; see ``ChannelPlugin``.

    Raises:
        InvalidOptionError: When an option makes no sense.
    """

    name: ClassVar[str] = "worker-logs"
    layer: ClassVar[Layer] = Layer.CAPTURE

    #: A call has logged something.
    LOG: ClassVar[Event[Future[Any], logging.LogRecord]] = Event("worker-log")
    #: A call has printed a line; passes ``"stdout"`` or ``"stderr"`` and the line without its end.
    OUTPUT: ClassVar[Event[Future[Any], str, str]] = Event("worker-output")

    def __init__(
        self,
        *,
        level: int | str | None = logging.INFO,
        output: bool = True,
        forward: bool = False,
        **channel: Any,
    ) -> None:
        super().__init__(**channel)
        self.level: int | None = _level_of(level)
        self.output = output
        self.forward = forward
        if output and self.listening.tls is not None:
            message = (
                "what is printed goes straight from the worker's descriptors into a socket, so TLS "
                "cannot encrypt it; give output=False to have records only"
            )
            raise InvalidOptionError(message, option="output", value=output)

    def wrap(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Catch what it logs and prints."""
        return _Captured(
            fn, level=self.level, output=self.output, shares_process=self._shares_process()
        )

    def receive(
        self, channel: Channel, kind: Kind, number: int, payload: bytes, reply: Reply
    ) -> None:
        """Emit a record or a line."""
        del reply
        task, future = self.task, channel.future
        assert task is not None  # noqa: S101 - only a task's calls have channels
        if kind is Kind.OUTPUT:
            line = payload.decode(errors="replace")
            if self.forward:
                facts = {"task": task.name, "call": future.number}
                output_logger.info("%s", line, extra=facts)
            self.emit(self.OUTPUT, future, STREAMS[number], line)
            return
        try:
            record = logging.makeLogRecord(pickle.loads(payload))
        except BaseException:  # what the worker has in it may not be importable here
            log_failure(logger, "a log record of %s could not be read", future)
            return
        record.task, record.call = task.name, future.number
        if self.forward and not self._shares_process():  # there it has been logged already
            there = logging.getLogger(record.name)
            if there.isEnabledFor(record.levelno):
                there.handle(record)
        self.emit(self.LOG, future, record)

    def events(self) -> Iterable[Event[...]]:
        """Tell which events the plugin emits on its task."""
        return self.LOG, self.OUTPUT

    def settings(self) -> dict[str, Any]:
        """Return the options, to make another plugin with them."""
        mine = {"level": self.level, "output": self.output, "forward": self.forward}
        return {**super().settings(), **mine}

    def _shares_process(self) -> bool:
        """Tell whether calls have the driver's own ``logging``, in its thread or in others.

        Threads whose calls have to be pickled have interpreters of their own.
        """
        traits = None if self.task is None else self.task.scheduler.traits
        return traits is not None and (
            traits.runs_inline or (traits.runs_in_threads and not traits.pickles)
        )


def _level_of(level: int | str | None) -> int | None:
    if level is None or (isinstance(level, int) and not isinstance(level, bool)):
        return level
    number = logging.getLevelNamesMapping().get(level) if isinstance(level, str) else None
    if number is None:
        names = ", ".join(logging.getLevelNamesMapping())
        message = f"level={level!r} is not possible; give a number or one of {names}, or None"
        raise InvalidOptionError(message, option="level", value=level)
    return number
