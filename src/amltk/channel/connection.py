"""A worker's connection to the driver: reaching it, knowing it, writing and reading bytes."""

from __future__ import annotations

import os
import random
import select
import socket
import ssl
import threading
import time
from contextlib import nullcontext

from amltk.channel import wire
from amltk.channel.ticket import Address, Ticket, name_of
from amltk.exceptions import CommConnectionError

#: How long a worker tries to connect.
CONNECT_S = 10.0

#: How long it then waits for the driver to say something, which may be busy with its callbacks.
GREETING_S = 60.0

#: For how long it tries again when it is turned away before it could say anything, and how long it
#: waits in between, at first and at most.
RETRY_S = 30.0
_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 0.5

#: What trying again does not change.
_FINAL = (TimeoutError, ConnectionRefusedError, ssl.SSLCertVerificationError)

#: As ``select.poll`` knows them, where there is that.
_READING, _WRITING = 1, 4

_READ_BYTES = 1 << 16
_SEND_BYTES = 1 << 20


class Connection:
    """A socket that one thread writes to while another one waits for something to read.

    The socket does not block, and waiting is done beside it: a timeout set for one thread would be
    the other one's too, and costs a system call for each message.

    Args:
        sock: The socket, on which both sides know each other; see ``connect``.
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
            wanted = _WRITING
            try:
                with self._lock:
                    n_written = self._sock.send(rest)
            except (BlockingIOError, ssl.SSLWantWriteError):
                n_written = 0
            except ssl.SSLWantReadError:
                n_written, wanted = 0, _READING
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
            wanted = _READING
            try:
                with self._lock:
                    return self._sock.recv(_READ_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):
                pass
            except ssl.SSLWantWriteError:
                wanted = _WRITING
            self._wait(wanted, timeout_s)

    def close(self) -> None:
        """Close it; whoever waits for it hears so."""
        self._sock.close()

    def _wait(self, wanted: int, timeout_s: float) -> None:
        number = self._sock.fileno()
        if number < 0:
            raise ConnectionAbortedError  # another thread of the call has closed it
        if not _is_ready(number, wanted, timeout_s):
            raise TimeoutError


def _is_ready(number: int, wanted: int, timeout_s: float) -> bool:
    """Wait until something can be read from a socket or written to it."""
    if not hasattr(select, "poll"):  # Windows, where numbers may be as large as they like
        reads, writes = ([number], []) if wanted == _READING else ([], [number])
        return any(select.select(reads, writes, [], timeout_s))
    poll = select.poll()
    poll.register(number, wanted)
    return bool(poll.poll(timeout_s * 1000))


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
    give_up_at = time.monotonic() + RETRY_S
    pause_s = _PAUSE_S
    while True:
        try:
            return _open(ticket, address)
        except CommConnectionError:
            raise
        except OSError as error:
            if time.monotonic() > give_up_at or isinstance(error, _FINAL):
                why = "TLS failed: " if isinstance(error, ssl.SSLError) else ""
                why += str(error) or type(error).__name__
                raise _unreachable(ticket, why) from error
        # Turned away at the door: it is crowded there. Not all who were are back at the same moment.
        time.sleep(pause_s * (0.5 + random.random()))  # noqa: S311 - no secret
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _open(ticket: Ticket, address: Address) -> socket.socket:
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
            wire.tune(sock)
            if ticket.tls is not None:
                sock.settimeout(GREETING_S)
                sock = ticket.tls().wrap_socket(sock, server_hostname=address[0])
        _shake_hands(sock, ticket)
    except BaseException:
        sock.close()
        raise
    return sock


def _shake_hands(sock: socket.socket, ticket: Ticket) -> None:
    sock.settimeout(GREETING_S)
    greeting = _receive(sock, wire.GREETING_BYTES)
    if not greeting.startswith(wire.MAGIC):
        raise _unreachable(ticket, "what listens there is no driver of amltk, or another version")
    theirs, ours = greeting[len(wire.MAGIC) :], os.urandom(wire.NONCE_BYTES)
    proof = wire.proof_of(ticket.token, b"worker", theirs, ours)
    sock.sendall(wire.MAGIC + ticket.channel_id + ours + proof)
    expected = wire.proof_of(ticket.token, b"driver", theirs, ours)
    answer = _receive(sock, wire.PROOF_BYTES)
    if answer == wire.REFUSAL:
        raise _unreachable(
            ticket, "the driver does not know this call any more, or it has too many connections"
        )
    if not wire.is_proof(answer, expected):
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
