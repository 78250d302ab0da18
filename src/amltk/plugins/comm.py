"""Messages, requests and events between a running call and the driver.

::

    worker                                driver, in the loop's thread
    with comm:
        comm.send(1)              ─────▶  Comm.MESSAGE(msg)
        comm.request("next?")     ─────▶  Comm.REQUEST(msg)
                                  ◀─────      msg.respond(answer)
        comm.emit(EPOCH, 3, 0.1)  ─────▶  EPOCH(3, 0.1)
                                  ─────▶  Comm.CLOSE(msg), then the call's DONE
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, Self, TypeAlias

from amltk._errors import add_note
from amltk._logs import log_failure
from amltk._signatures import signature_of
from amltk._words import short_error
from amltk.channel.inline import InlineLine, open_line
from amltk.channel.line import Line
from amltk.channel.plugin import ChannelPlugin
from amltk.channel.ticket import Ticket, name_of
from amltk.channel.wire import Kind
from amltk.events import Event
from amltk.events.manager import FailuresOf
from amltk.exceptions import CommConnectionError, CommError, InvalidOptionError
from amltk.executors.travel.envelope import dumps
from amltk.scheduling.plugin import Wrapped

if TYPE_CHECKING:
    from amltk.channel.channel import Channel, Reply
    from amltk.scheduling.future import Future
    from amltk.scheduling.plugin import PlannedCall
    from amltk.scheduling.task import Task

P = ParamSpec("P")

logger: logging.Logger = logging.getLogger(__name__)

#: What is emitted for a message that is no event: nothing.
_NO_EVENT: Any = (None, (), {})

#: How long a worker waits for an answer, or for a driver that takes nothing, in seconds.
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class CommMsg:
    """What a call has sent, in the driver."""

    #: What was sent; ``None`` when the comm was closed.
    data: Any
    #: Whose call it is.
    task: Task[..., Any]
    #: The call.
    future: Future[Any]
    #: Names the call in the run, by the task's name and the call's number.
    identifier: str
    _max_bytes: int = field(default=0, repr=False)
    _reply: Callable[[Kind, bytes], bool] | None = field(default=None, repr=False)

    def respond(self, answer: Any = None) -> bool:
        """Answer a request; from any thread, at once or later.

        Args:
            answer: What ``comm.request`` returns in the worker.

        Returns:
            Whether the call was still there to hear it.

        Raises:
            CommError: When this is no request, or the answer cannot be sent; the worker is told
                so too, instead of waiting.
        """
        if self._reply is None:
            message = f"{self.identifier} has asked nothing: only a REQUEST can be answered"
            raise CommError(message)
        try:
            payload = dumps(answer)
        except BaseException as error:
            raise self._refuse(f"cannot be pickled: {short_error(error)}") from error
        if len(payload) > self._max_bytes:
            raise self._refuse(
                f"has {len(payload)} bytes, and no more than {self._max_bytes} are taken; send a "
                f"path to a file instead, or set max_message_bytes= of the plugin"
            )
        return self._reply(Kind.ANSWER, payload)

    def _refuse(self, why: str) -> CommError:
        """Tell the worker that there is no answer, and make the error that says so here."""
        message = f"the answer to {self.identifier} {why}"
        if self._reply is not None:
            self._reply(Kind.REFUSAL, message.encode())
        return CommError(message)


class Comm:
    """A running call's way to the driver; open it with ``with comm:``.

    A call gets one from ``Comm.Plugin`` and uses it in the process that runs it. It may be sent on
    to processes that the call starts.
    """

    #: A call has sent something.
    MESSAGE: ClassVar[Event[CommMsg]] = Event("comm-message")
    #: A call waits for an answer.
    REQUEST: ClassVar[Event[CommMsg]] = Event("comm-request")
    #: A call sends nothing more, since it closed the comm, is over, or its worker is dead.
    CLOSE: ClassVar[Event[CommMsg]] = Event("comm-close")

    Msg: TypeAlias = CommMsg
    Plugin: ClassVar[type[CommPlugin]]

    def __init__(self, ticket: Ticket) -> None:
        self._ticket = ticket
        self._line: Line | InlineLine | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        """Show where it leads to, and not what opens it."""
        state = "closed" if self._is_closed else "new" if self._line is None else "open"
        return f"<Comm to {name_of(self._ticket.address)} on {self._ticket.driver}, {state}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel without the connection; another one is made where it is used."""
        return Comm, (self._ticket,)

    def __enter__(self) -> Self:
        """Connect to the driver."""
        self._open()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Close the comm."""
        self._close(error)

    def send(self, data: Any, *, timeout: float = TIMEOUT_S) -> None:
        """Send something to the driver, which emits ``Comm.MESSAGE``.

        Blocks while the driver does not keep up.

        Args:
            data: Anything that can be pickled.
            timeout: How many seconds the driver may take nothing.

        Raises:
            CommError: When it cannot be sent.
            CommTimeoutError: When the driver takes nothing for so long.
        """
        if timeout is not TIMEOUT_S:
            _check_seconds(timeout)
        self._open().send(Kind.MESSAGE, _packed(data), timeout)

    def request(self, data: Any = None, *, timeout: float = TIMEOUT_S) -> Any:
        """Ask the driver, which emits ``Comm.REQUEST``, and wait for the answer.

        Args:
            data: Anything that can be pickled.
            timeout: How many seconds to wait at most.

        Returns:
            What a callback gave to ``Msg.respond``.

        Raises:
            CommTimeoutError: When nobody has answered in time.
            CommError: When the request cannot be sent, or its answer cannot.
        """
        _check_seconds(timeout)
        kind, payload = self._open().ask(_packed(data), timeout)
        if kind is Kind.REFUSAL:
            raise CommError(payload.decode())
        return pickle.loads(payload)

    def emit(self, event: Event[P], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Emit an event of your own on the task, in the driver.

        Args:
            event: The event.
            *args: Passed on to its callbacks.
            **kwargs: Passed on to its callbacks.

        Raises:
            CommError: When the arguments cannot be sent.
        """
        self._open().send(Kind.EMIT, _packed((event, args, kwargs)), TIMEOUT_S)

    def close(self) -> None:
        """Close the comm; a second time it does nothing.

        Waits a few seconds, if need be, until the driver has handled what was sent.

        Raises:
            CommError: When the driver could not read what was sent.
        """
        self._close(None)

    def _open(self) -> Line | InlineLine:
        line = self._line
        if line is not None and line.pid == os.getpid():
            return line
        if self._is_closed:
            message = (
                "nothing can be sent: this comm is closed; keep it open until the last message"
            )
            raise CommConnectionError(message)
        if isinstance(line, Line):
            line.abandon()
        self._line = open_line(self._ticket)
        return self._line

    def _close(self, error: BaseException | None) -> None:
        line, self._line = self._line, None
        self._is_closed = True
        if line is None or line.pid != os.getpid():
            return
        complaints = line.close().decode()
        if complaints and error is None:
            message = f"the driver could not read what this call sent: {complaints}"
            raise CommError(message)
        if complaints and error is not None:
            add_note(error, f"the driver could not read what this call sent: {complaints}")


class _Connected(Wrapped):
    """Gives the function its comm, and closes what it leaves open."""

    def __init__(self, fn: Callable[..., Any], *, by_name: bool) -> None:
        super().__init__(fn)
        self._by_name = by_name

    def __call__(self, ticket: Ticket, /, *args: Any, **kwargs: Any) -> Any:
        comm = Comm(ticket)
        kept = _plugins_of(args)
        if kept is not None:
            kept["comm"] = comm
        if self._by_name:
            kwargs["comm"] = comm
        error: BaseException | None = None
        try:
            return self.fn(*args, **kwargs)
        except BaseException as raised:
            error = raised
            raise
        finally:
            if kept is not None:  # a trial travels back, and its comm is of no use there
                kept.pop("comm", None)
            comm._close(error)


class CommPlugin(ChannelPlugin):
    """Gives each call of a task a ``Comm``: messages, requests and events to the driver.

    The task's function takes it as ``comm: Comm | None = None``; a trial's function finds it at
    ``trial.plugins["comm"]``. The task gets the subscribers ``on_message``, ``on_request`` and
    ``on_comm_close``.
    """

    name: ClassVar[str] = "comm"

    def attach_task(self, task: Task[..., Any]) -> None:
        """Give the task its subscribers.

        Raises:
            InvalidOptionError: When workers of the task's engine cannot reach the driver.
        """
        super().attach_task(task)
        self._by_name = _takes_comm(task.function)
        task.on_message = task.subscriber(Comm.MESSAGE)
        task.on_request = task.subscriber(Comm.REQUEST)
        task.on_comm_close = task.subscriber(Comm.CLOSE)

    def wrap(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Put a comm among the arguments."""
        return _Connected(fn, by_name=self._by_name)

    def pre_submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> PlannedCall | None:
        """Give the call a channel.

        Raises:
            InvalidOptionError: When the function has no way to get at its comm.
        """
        if not self._by_name and _plugins_of(args) is None:
            message = (
                f"{fn!r} has no way to get at its comm; give it a parameter "
                f"`comm: Comm | None = None`, or a trial as its first argument"
            )
            raise InvalidOptionError(message, option="function", value=fn)
        if "comm" in kwargs and self._by_name:
            message = "comm= is given by Comm.Plugin; leave it out when the task is called"
            raise InvalidOptionError(message, option="comm", value=kwargs["comm"])
        return super().pre_submit(fn, *args, **kwargs)

    def receive(
        self, channel: Channel, kind: Kind, number: int, payload: bytes, reply: Reply
    ) -> None:
        """Emit what came in."""
        try:
            data = pickle.loads(payload)
            event, args, kwargs = data if kind is Kind.EMIT else _NO_EVENT
        except BaseException as error:  # the worker hears of it, at once or when it closes the comm
            text = short_error(error)
            log_failure(logger, "a message of %s could not be read", channel.future)
            if kind is Kind.REQUEST:
                reply(Kind.REFUSAL, number, f"the request could not be read: {text}".encode())
            else:
                channel.complaints.append(text)
            return
        if kind is Kind.EMIT:
            self.emit(event, *args, **kwargs)
        elif kind is Kind.REQUEST:
            self._emit_request(channel, data, lambda kind, answer: reply(kind, number, answer))
        else:
            self.emit(Comm.MESSAGE, self._msg(channel, data))

    def _emit_request(
        self, channel: Channel, data: Any, reply: Callable[[Kind, bytes], bool]
    ) -> None:
        """Emit a request; the worker does not wait for the answer of a callback that has raised."""
        task = self.task
        assert task is not None  # noqa: S101 - only a task's calls have channels
        answered: list[Kind] = []

        def answer(kind: Kind, payload: bytes) -> bool:
            answered.append(kind)
            return reply(kind, payload)

        with FailuresOf(task.plugin_events) as failures:
            self.emit(Comm.REQUEST, self._msg(channel, data, answer))
        if failures and not answered:
            told = (
                f"a callback that might have answered has raised {short_error(failures[0].error)}"
            )
            reply(Kind.REFUSAL, told.encode(errors="replace"))

    def closed(self, channel: Channel) -> None:
        """Emit ``Comm.CLOSE``."""
        self.emit(Comm.CLOSE, self._msg(channel, None))

    def events(self) -> Iterable[Event[...]]:
        """Tell which events the plugin emits on its task."""
        return Comm.MESSAGE, Comm.REQUEST, Comm.CLOSE

    def _msg(
        self, channel: Channel, data: Any, reply: Callable[[Kind, bytes], bool] | None = None
    ) -> CommMsg:
        task, future = self.task, channel.future
        assert task is not None  # noqa: S101 - only a task's calls have channels
        # Without the property: each message comes by here.
        identifier = f"{task.event_manager.name}-{future.number}"
        return CommMsg(data, task, future, identifier, self.listening.max_bytes, reply)


Comm.Plugin = CommPlugin
# As users write them, and messages name them.
CommPlugin.__qualname__ = "Comm.Plugin"
CommMsg.__qualname__ = "Comm.Msg"


def _takes_comm(function: Callable[..., Any]) -> bool:
    try:
        return "comm" in signature_of(function).parameters
    except (TypeError, ValueError):  # a builtin that does not tell
        return False


def _plugins_of(args: tuple[Any, ...]) -> MutableMapping[str, Any] | None:
    """Return where a trial, the first argument, keeps what plugins give it."""
    kept = getattr(args[0], "plugins", None) if args else None
    return kept if isinstance(kept, MutableMapping) else None


def _packed(data: object) -> bytes:
    try:
        return dumps(data)
    except (Exception, SystemExit) as error:
        message = (
            f"{type(data).__qualname__} cannot be sent to the driver, since it cannot be pickled: "
            f"{short_error(error)}"
        )
        raise CommError(message) from error


def _check_seconds(timeout: float) -> None:
    # `not >` instead of `<=`, so that NaN is refused too.
    if not isinstance(timeout, (int, float)) or not timeout > 0:
        message = f"timeout={timeout!r} is not possible; give a number of seconds above 0"
        raise InvalidOptionError(message, option="timeout", value=timeout)
