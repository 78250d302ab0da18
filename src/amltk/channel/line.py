"""The worker's end of a channel: frames to and from the driver; nothing else runs in the worker."""

from __future__ import annotations

import os
import threading
import time

from amltk.channel import wire
from amltk.channel.connection import Connection, connect
from amltk.channel.ticket import Ticket
from amltk.channel.wire import HEADER, Kind
from amltk.exceptions import CommConnectionError, CommError, CommTimeoutError

#: How long the end of a call waits for the driver to have seen everything. A driver that is busy
#: for longer sees it later, but still before the call is done.
_GOODBYE_S = 5.0


class Line:
    """A connection to the driver, for all threads of one process.

    Args:
        ticket: Which channel, and where.

    Raises:
        CommConnectionError: When the driver cannot be reached, or is not the one it should be.
    """

    def __init__(self, ticket: Ticket) -> None:
        self._ticket = ticket
        #: A forked child must not use its parent's connection.
        self.pid: int = os.getpid()
        self._writing = threading.Lock()
        self._asking = threading.Lock()
        self._buffer = bytearray()
        self._number = 0
        self._connection = Connection(connect(ticket))

    def send(self, kind: Kind, payload: bytes, timeout_s: float, number: int = 0) -> None:
        """Send one frame; blocks while the driver does not keep up.

        Raises:
            CommTimeoutError: When the driver takes nothing for so long; the line is closed then.
            CommConnectionError: When the driver is gone.
            CommError: When the payload is too large.
        """
        if len(payload) > self._ticket.max_bytes:
            message = (
                f"a message of {len(payload)} bytes cannot be sent: no more than "
                f"{self._ticket.max_bytes} are taken; send a path to a file instead, or set "
                f"max_message_bytes= of the plugin"
            )
            raise CommError(message)
        with self._writing:
            try:
                self._connection.write(wire.frame(kind, number, payload), timeout_s)
            except TimeoutError as error:
                self._drop()  # a part of the frame may be out: nothing can follow it
                message = (
                    f"the driver took no message for {timeout_s} s, so the comm was closed; is one "
                    f"of its callbacks stuck?"
                )
                raise CommTimeoutError(message) from error
            except OSError as error:
                self._drop()
                raise self._gone() from error

    def offer(self, kind: Kind, payload: bytes, timeout_s: float, number: int = 0) -> bool:
        """Send one frame unless the driver does not keep up; the line stays open in any case.

        Returns:
            Whether it was taken.

        Raises:
            CommConnectionError: When the driver is gone.
        """
        with self._writing:
            has_flushed = False
            try:
                self._connection.flush(timeout_s)
                has_flushed = True
                self._connection.write(wire.frame(kind, number, payload), timeout_s)
            except TimeoutError:  # what was begun is completed before the next one
                return has_flushed and self._connection.has_unsent
            except OSError as error:
                self._drop()
                raise self._gone() from error
            return True

    def ask(self, payload: bytes, timeout_s: float) -> tuple[Kind, bytes]:
        """Send a request and wait for its answer.

        Raises:
            CommTimeoutError: When there is none in time.
            CommConnectionError: When the driver is gone.
        """
        deadline = time.monotonic() + timeout_s
        if not self._asking.acquire(timeout=timeout_s):
            raise _unanswered(timeout_s)
        try:
            self._number = number = (self._number + 1) & 0xFFFFFFFF
            self.send(Kind.REQUEST, payload, timeout_s, number)
            while True:  # answers to requests that were given up are passed over
                kind, answered, answer = self._read(deadline, timeout_s)
                if answered == number and kind in (Kind.ANSWER, Kind.REFUSAL):
                    return kind, answer
        finally:
            self._asking.release()

    def close(self) -> bytes:
        """Say goodbye and hang up.

        Returns:
            What the driver complains of, as text, or nothing.
        """
        complaints = b""
        try:
            self.send(Kind.BYE, b"", _GOODBYE_S)
            deadline = time.monotonic() + _GOODBYE_S
            if self._asking.acquire(timeout=_GOODBYE_S):
                kind = Kind.BYE
                while kind is not Kind.ACK:
                    kind, _, complaints = self._read(deadline, _GOODBYE_S)
        except CommError:
            # The driver is gone, or busy. What was sent is on its way, and it reads all of it
            # before it tells of the call's end.
            return b""
        finally:
            self._drop()
        return complaints

    def abandon(self) -> None:
        """Close this process's copy of a line that belongs to its parent."""
        self._drop()

    def _read(self, deadline: float, timeout_s: float) -> tuple[Kind, int, bytes]:
        buffer = self._buffer
        while True:
            if len(buffer) >= HEADER.size:
                length, code, number = HEADER.unpack_from(buffer)
                end = HEADER.size + length
                if code not in wire.KINDS or length > self._ticket.max_bytes:
                    self._drop()
                    raise self._gone("what it sent makes no sense")
                if len(buffer) >= end:
                    payload = bytes(memoryview(buffer)[HEADER.size : end])
                    del buffer[:end]
                    return wire.KINDS[code], number, payload
            left = deadline - time.monotonic()
            if left <= 0:
                raise _unanswered(timeout_s)
            try:
                data = self._connection.read(left)
            except TimeoutError:
                continue
            except OSError as error:
                self._drop()
                raise self._gone() from error
            if not data:
                self._drop()
                raise self._gone()
            buffer += data

    def _drop(self) -> None:
        self._connection.close()

    def _gone(self, why: str = "it has hung up") -> CommConnectionError:
        message = (
            f"the driver on {self._ticket.driver} cannot be talked to any more: {why}; its run has "
            f"ended, or this comm was closed"
        )
        return CommConnectionError(message)


def _unanswered(timeout_s: float) -> CommTimeoutError:
    message = (
        f"nobody answered the request within {timeout_s} s; does a callback of Comm.REQUEST call "
        f"respond(), and does it come to it in time?"
    )
    return CommTimeoutError(message)
