"""Catching what is logged and printed while a call runs, in its worker.

A worker process that runs one call at a time has its descriptors 1 and 2 replaced, which catches
everything. Where other calls, or the driver itself, share the process, descriptors belong to all of
them: there only what Python prints in the call's own thread is caught.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, TextIO

from amltk.channel.connection import connect
from amltk.channel.inline import InlineLine, open_line
from amltk.channel.line import Line
from amltk.channel.ticket import Ticket
from amltk.channel.wire import STREAMS, Kind, frame
from amltk.exceptions import CommError

#: How long a call waits for a driver that does not keep up, before a record is dropped and counted.
_PATIENCE_S = 1.0

#: Held by the one call of this process whose descriptors are replaced.
_descriptors = threading.Lock()


class Capture:
    """Catches what is logged and printed while the context lasts.

    Args:
        ticket: The way to the driver.
        level: From which level on records are sent, ``None`` for none.
        output: Whether what is printed is sent.
        shares_process: Whether other calls or the driver run in this process.
    """

    def __init__(
        self, ticket: Ticket, *, level: int | None, output: bool, shares_process: bool
    ) -> None:
        self._sender = _Sender(ticket)
        self._ticket = ticket
        self._level = level
        self._output = output
        self._shares_process = shares_process
        self._stack = ExitStack()

    def __enter__(self) -> None:
        with ExitStack() as stack:
            stack.callback(self._sender.close)
            self._sender.open()  # a driver that cannot be reached is told now, not by silence
            if self._output:
                self._catch_output(stack)
            if self._level is not None:
                thread = threading.get_ident() if self._shares_process else None
                handler = _Handler(self._sender, thread)
                _root.add(handler, self._level)
                stack.callback(_root.remove, handler, self._level)
            self._stack = stack.pop_all()

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _catch_output(self, stack: ExitStack) -> None:
        alone = not self._shares_process and os.name == "posix" and self._ticket.inline is None
        if alone and _descriptors.acquire(blocking=False):
            stack.callback(_descriptors.release)
            for number in STREAMS:
                stack.enter_context(_ReplacedDescriptor(number, self._ticket))
        else:
            for number, name in STREAMS.items():
                stack.enter_context(_routing(name, _LineSink(self._sender, number).write))


class _Sender:
    """Sends frames by a line that is opened when there is something to send."""

    def __init__(self, ticket: Ticket) -> None:
        self._ticket = ticket
        self._line: Line | InlineLine | None = None
        self._lock = threading.RLock()
        self._n_dropped = 0

    def send(self, kind: Kind, payload: bytes, number: int = 0) -> None:
        """Send a frame; drop and count it if the driver does not keep up or is gone."""
        with self._lock:
            try:
                line = self.open()
                is_taken = self._report(line) and line.offer(kind, payload, _PATIENCE_S, number)
            except CommError:  # the driver is gone
                is_taken = False
            if not is_taken:
                self._n_dropped += 1

    def close(self) -> None:
        with self._lock:
            line, self._line = self._line, None
            if line is not None and line.pid == os.getpid():
                with suppress(CommError):  # the driver is gone: nobody is left to tell
                    self._report(line)
                line.close()

    def open(self) -> Line | InlineLine:
        """Return this process's line; a forked child gets one of its own."""
        line = self._line
        if line is None or line.pid != os.getpid():
            line = self._line = open_line(self._ticket)
        return line

    def _report(self, line: Line | InlineLine) -> bool:
        """Tell how many were dropped, if any were; it goes on being counted otherwise."""
        if self._n_dropped:
            if not line.offer(Kind.LOG, _report_of(self._n_dropped), _PATIENCE_S):
                return False
            self._n_dropped = 0
        return True


def _report_of(n_dropped: int) -> bytes:
    text = f"{n_dropped} records of this call were dropped, since the driver did not keep up"
    record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)
    return pickle.dumps(record.__dict__)


# ------------------------------------------------------------------------------------- records


class _Handler(logging.Handler):
    """Sends records, as far as they belong to the call."""

    def __init__(self, sender: _Sender, thread: int | None) -> None:
        super().__init__()
        self._sender = sender
        self._thread = thread
        self._formatter = logging.Formatter()
        self._here = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        if self._thread is not None and record.thread != self._thread:
            return
        if getattr(self._here, "busy", False):
            return  # logged by who handles a record of this very thread
        self._here.busy = True
        try:
            self._sender.send(Kind.LOG, self._packed(record))
        except Exception:
            self.handleError(record)
        finally:
            self._here.busy = False

    def _packed(self, record: logging.LogRecord) -> bytes:
        """Format what may not travel: arguments, the exception, whatever was added."""
        facts = dict(record.__dict__)
        facts.update(msg=record.getMessage(), args=None, exc_info=None)
        if record.exc_info and not record.exc_text:
            facts["exc_text"] = self._formatter.formatException(record.exc_info)
        try:
            return pickle.dumps(facts)
        except Exception:
            plain = (str, int, float, bool, type(None))
            return pickle.dumps(
                {name: v if isinstance(v, plain) else repr(v) for name, v in facts.items()}
            )


class _AsBefore(logging.Filter):
    """Keeps from other handlers what they got to see only because the root's level was lowered."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self._level = level

    def filter(self, record: logging.LogRecord) -> bool:
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None and logger is not logging.root:
            if logger.level:
                return True  # it has a level of its own, which has let the record through
            logger = logger.parent
        return record.levelno >= self._level


class _RootLogger:
    """The root logger, as several calls of one process may have it listen for them at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: list[int] = []
        self._level_before = logging.NOTSET
        self._others: list[logging.Handler] = []
        self._filter = _AsBefore(logging.NOTSET)

    def add(self, handler: logging.Handler, level: int) -> None:
        """Have a handler get the records from a level on; all else stays as it is."""
        handler.setLevel(level)
        with self._lock:
            if not self._wanted:
                self._begin()
            self._wanted.append(level)
            self._set_level()
            _change_handlers(add=handler)

    def remove(self, handler: logging.Handler, level: int) -> None:
        """Let it go."""
        with self._lock:
            _change_handlers(remove=handler)
            self._wanted.remove(level)
            self._set_level()
            if not self._wanted:
                self._end()

    def _set_level(self) -> None:
        logging.root.setLevel(min([self._level_before, *self._wanted]))

    def _begin(self) -> None:
        self._level_before = logging.root.level
        self._filter = _AsBefore(logging.root.level)
        self._others = list(logging.root.handlers)
        if not self._others and logging.lastResort is not None:
            # It shows warnings where there is no handler, and now there is going to be one.
            _change_handlers(add=logging.lastResort)
            self._others.append(logging.lastResort)
        for other in self._others:
            other.addFilter(self._filter)

    def _end(self) -> None:
        for other in self._others:
            other.removeFilter(self._filter)
        if logging.lastResort is not None and logging.lastResort in self._others:
            _change_handlers(remove=logging.lastResort)
        self._others.clear()


def _change_handlers(
    *, add: logging.Handler | None = None, remove: logging.Handler | None = None
) -> None:
    """Give the root logger another list of handlers.

    Other threads may be going through the one that it has: in a list that loses one, they would miss the
    one behind it, and so lose a record.
    """
    with logging._lock:  # type: ignore[attr-defined] # logging's own, for all changes of this kind
        kept = [handler for handler in logging.root.handlers if handler is not remove]
        logging.root.handlers = kept if add is None else [*kept, add]


_root = _RootLogger()


# -------------------------------------------------------------------------------------- output


class _ReplacedDescriptor:
    """A descriptor leads into a socket of its own."""

    def __init__(self, number: int, ticket: Ticket) -> None:
        self._number = number
        self._ticket = ticket

    def __enter__(self) -> None:
        sock = connect(self._ticket)
        sock.setblocking(True)
        sock.sendall(frame(Kind.RAW, self._number, b""))
        self._flush()
        self._kept = os.dup(self._number)
        with sock:
            os.dup2(sock.fileno(), self._number)
        stream = getattr(sys, STREAMS[self._number])
        self._was_line_buffered = getattr(stream, "line_buffering", True)
        if not self._was_line_buffered and hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)

    def __exit__(self, *error: object) -> None:
        self._flush()
        # So that its end is seen although a process of the call may still hold it.
        with suppress(OSError), socket.socket(fileno=os.dup(self._number)) as sock:
            sock.shutdown(socket.SHUT_WR)
        os.dup2(self._kept, self._number)
        os.close(self._kept)
        stream = getattr(sys, STREAMS[self._number])
        if not self._was_line_buffered and hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=False)

    def _flush(self) -> None:
        with suppress(OSError, ValueError):  # a stream that was closed, a driver that is gone
            getattr(sys, STREAMS[self._number]).flush()


class _LineSink:
    """Makes lines of what is written, and sends each."""

    def __init__(self, sender: _Sender, number: int) -> None:
        self._sender = sender
        self._number = number
        self._rest = ""

    def write(self, text: str, *, ends: bool = False) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        if ends and self._rest:
            lines.append(self._rest)
            self._rest = ""
        for line in lines:
            self._sender.send(Kind.OUTPUT, line.encode(errors="replace"), self._number)


class _Routed:
    """Stands for ``sys.stdout`` or ``sys.stderr``: each thread's text goes where it belongs."""

    def __init__(self, original: TextIO) -> None:
        self.original = original
        self.sinks: dict[int, Callable[..., None]] = {}
        self._here = threading.local()

    def write(self, text: str) -> int:
        sink = self.sinks.get(threading.get_ident())
        if sink is None or getattr(self._here, "busy", False):
            return self.original.write(text)
        self._here.busy = True
        try:
            sink(text)
        finally:
            self._here.busy = False
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)


_routes = threading.Lock()


class _routing:  # noqa: N801 - used as a function
    """What the current thread writes to a stream goes into a sink."""

    def __init__(self, name: str, sink: Callable[..., None]) -> None:
        self._name = name
        self._sink = sink

    def __enter__(self) -> None:
        with _routes:
            stream = getattr(sys, self._name)
            if not isinstance(stream, _Routed):
                stream = _Routed(stream)
                setattr(sys, self._name, stream)
            stream.sinks[threading.get_ident()] = self._sink

    def __exit__(self, *error: object) -> None:
        self._sink("", ends=True)
        with _routes:
            stream = getattr(sys, self._name)
            if isinstance(stream, _Routed):
                stream.sinks.pop(threading.get_ident(), None)
                if not stream.sinks:
                    setattr(sys, self._name, stream.original)
