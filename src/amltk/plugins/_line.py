"""The worker's end of a channel: a blocking socket, nothing else runs in the worker."""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from amltk.exceptions import CommConnectionError, CommError, CommTimeoutError
from amltk.plugins import _wire
from amltk.plugins._wire import HEADER, Kind

#: How long a worker tries to reach the driver.
CONNECT_S = 10.0

#: How often it tries again when it is turned away before it could say anything.
_ATTEMPTS = 5
_PAUSE_S = 0.1

#: How long the end of a call waits for the driver to have seen everything. A driver that is busy
#: for longer sees it later, but still before the call is done.
_GOODBYE_S = 5.0

_READ_BYTES = 1 << 16
_SEND_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a worker needs to open one channel; it is sent with the call."""

    #: Host and port, or the name of a socket that only this machine has.
    address: tuple[str, int] | str | None
    channel_id: bytes
    token: bytes = field(repr=False)
    #: Where the driver runs, for messages.
    driver: str
    max_bytes: int
    #: Makes the worker's context of TLS.
    tls: Callable[[], ssl.SSLContext] | None = None
    #: The driver's end itself, where the call runs in the driver's own thread.
    inline: Any = field(default=None, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave the driver's end behind."""
        return Ticket, (
            self.address,
            self.channel_id,
            self.token,
            self.driver,
            self.max_bytes,
            self.tls,
        )


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
        self._socket = _Wire(connect(ticket))

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
                self._socket.write(_wire.frame(kind, number, payload), timeout_s)
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
            try:
                self._socket.flush(timeout_s)
            except TimeoutError:
                return False
            try:
                self._socket.write(_wire.frame(kind, number, payload), timeout_s)
            except TimeoutError:
                return self._socket.has_unsent  # it was begun, and is completed before the next
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
            What the driver complains of, pickled, or nothing.
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
                if code not in _wire.KINDS or length > self._ticket.max_bytes:
                    self._drop()
                    raise self._gone("what it sent makes no sense")
                if len(buffer) >= end:
                    payload = bytes(memoryview(buffer)[HEADER.size : end])
                    del buffer[:end]
                    return _wire.KINDS[code], number, payload
            left = deadline - time.monotonic()
            if left <= 0:
                raise _unanswered(timeout_s)
            try:
                data = self._socket.read(left)
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
        self._socket.close()

    def _gone(self, why: str = "it has hung up") -> CommConnectionError:
        message = (
            f"the driver on {self._ticket.driver} cannot be talked to any more: {why}; its run has "
            f"ended, or this comm was closed"
        )
        return CommConnectionError(message)


class _Wire:
    """A socket that one thread writes to while another one waits for something to read.

    The socket does not block, and waiting is done beside it: a timeout set for one thread would be
    the other one's too, and costs a system call for each message.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.setblocking(False)
        # A socket of TLS is no two-way street: reading may write, and the other way round.
        self._is_plain = not isinstance(sock, ssl.SSLSocket)
        self._lock = nullcontext() if self._is_plain else threading.Lock()
        self._unsent: memoryview | None = None

    @property
    def has_unsent(self) -> bool:
        """Whether the rest of something that was begun is kept here."""
        return self._unsent is not None

    def flush(self, timeout_s: float) -> None:
        """Write the rest of what was begun.

        Raises:
            TimeoutError: When nothing could be written for so long; what is left is kept.
        """
        rest, self._unsent = self._unsent, None
        if rest is not None:
            self._write_on(rest, timeout_s, has_begun=True)

    def write(self, data: bytes, timeout_s: float) -> None:
        """Write all.

        Raises:
            TimeoutError: When nothing could be written for so long; if a part was, the rest is kept.
        """
        n_written = 0
        if self._unsent is not None:
            self.flush(timeout_s)
        if self._is_plain:  # as good as always there is room for all of it
            try:  # noqa: SIM105 - a tenth of the time of a message
                n_written = self._sock.send(data)
            except BlockingIOError:
                pass
            if n_written == len(data):
                return
        self._write_on(memoryview(data)[n_written:], timeout_s, has_begun=n_written > 0)

    def _write_on(self, rest: memoryview, timeout_s: float, *, has_begun: bool) -> None:
        while True:
            wanted = select.POLLOUT
            try:
                with self._lock:
                    n_written = self._sock.send(rest)
            except (BlockingIOError, ssl.SSLWantWriteError):
                n_written = 0
            except ssl.SSLWantReadError:
                n_written, wanted = 0, select.POLLIN
            rest = rest[n_written:]
            if not rest:
                return
            has_begun = has_begun or n_written > 0
            try:
                self._wait(wanted, timeout_s)
            except TimeoutError:
                self._unsent = rest if has_begun else None
                raise

    def read(self, timeout_s: float) -> bytes:
        """Read what is there, waiting for it if need be; nothing when the other side hung up.

        Raises:
            TimeoutError: When nothing came for so long.
        """
        while True:
            wanted = select.POLLIN
            try:
                with self._lock:
                    return self._sock.recv(_READ_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):
                pass
            except ssl.SSLWantWriteError:
                wanted = select.POLLOUT
            self._wait(wanted, timeout_s)

    def close(self) -> None:
        self._sock.close()

    def _wait(self, wanted: int, timeout_s: float) -> None:
        number = self._sock.fileno()
        if number < 0:
            raise ConnectionAbortedError  # another thread of the call has closed it
        poll = select.poll()
        poll.register(number, wanted)
        if not poll.poll(timeout_s * 1000):
            raise TimeoutError


def _unanswered(timeout_s: float) -> CommTimeoutError:
    message = (
        f"nobody answered the request within {timeout_s} s; does a callback of Comm.REQUEST call "
        f"respond(), and does it come to it in time?"
    )
    return CommTimeoutError(message)


def connect(ticket: Ticket) -> socket.socket:
    """Connect to the driver, and prove to each other who we are.

    Raises:
        CommConnectionError: When the driver cannot be reached, or is not the one it should be.
    """
    address = ticket.address
    if address is None:
        message = (
            "the driver cannot be reached from another process, since the call runs in the "
            "driver's own thread, which waits for it; use Scheduler.with_processes(1) instead"
        )
        raise CommConnectionError(message)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _open(ticket, address)
        except CommConnectionError:
            raise
        except ssl.SSLError as error:
            raise _unreachable(ticket, f"TLS failed: {error}") from error
        except OSError as error:
            if attempt == _ATTEMPTS or isinstance(error, (TimeoutError, ConnectionRefusedError)):
                raise _unreachable(ticket, str(error) or type(error).__name__) from error
        time.sleep(_PAUSE_S * attempt)  # turned away at the door: it is crowded there
    raise AssertionError


def _open(ticket: Ticket, address: tuple[str, int] | str) -> socket.socket:
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    else:
        sock = socket.create_connection(address, timeout=CONNECT_S)
    try:
        if isinstance(address, str):
            sock.settimeout(CONNECT_S)
            # By default it holds a few hundred small messages, and sender and reader take turns.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
            sock.connect(address)
        else:
            _wire.tune(sock)
            if ticket.tls is not None:
                sock = ticket.tls().wrap_socket(sock, server_hostname=address[0])
        _shake_hands(sock, ticket)
    except BaseException:
        sock.close()
        raise
    return sock


def _shake_hands(sock: socket.socket, ticket: Ticket) -> None:
    sock.settimeout(_wire.HANDSHAKE_S)
    greeting = _receive(sock, _wire.GREETING_BYTES)
    if not greeting.startswith(_wire.MAGIC):
        raise _unreachable(ticket, "what listens there is no driver of amltk, or another version")
    theirs, ours = greeting[len(_wire.MAGIC) :], os.urandom(_wire.NONCE_BYTES)
    proof = _wire.proof_of(ticket.token, b"worker", theirs, ours)
    sock.sendall(_wire.MAGIC + ticket.channel_id + ours + proof)
    expected = _wire.proof_of(ticket.token, b"driver", theirs, ours)
    if not _wire.is_proof(_receive(sock, _wire.PROOF_BYTES), expected):
        raise _unreachable(ticket, "what listens there is not the driver of this call")


def _receive(sock: socket.socket, n_bytes: int) -> bytes:
    data = b""
    while len(data) < n_bytes:
        more = sock.recv(n_bytes - len(data))
        if not more:
            message = "it hung up before it said who it is, or does not know this call (any more)"
            raise ConnectionAbortedError(message)
        data += more
    return data


def _unreachable(ticket: Ticket, why: str) -> CommConnectionError:
    here, where = socket.gethostname(), name_of(ticket.address)
    message = f"the driver could not be reached at {where}: {why}"
    if here != ticket.driver:
        message += (
            f". It runs on {ticket.driver} and this worker on {here}; give the plugin an address "
            f"that workers reach: host=, and advertise= where they know it by another name"
        )
    return CommConnectionError(message, address=ticket.address)


def name_of(address: tuple[str, int] | str | None) -> str:
    """Show an address as people write it."""
    if isinstance(address, tuple):
        return f"{address[0]}:{address[1]}"
    return "no address" if address is None else address.replace("\0", "@")
