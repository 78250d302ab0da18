"""The driver's end of all channels: one server in the loop of the run.

::

    worker ──▶ _Peer: handshake ──▶ frames ──▶ inbox ──▶ handoff ──▶ Channel.receive ──▶ callbacks
                 │                              │
                 │ full: read no more,          │ taken off in the loop's thread, in order, between
                 ▼ so that the worker blocks    ▼ the other events of the run
              bounded memory                 one thread

A channel is what one call has. It may be opened by several processes, such as the child of a
limiter, each with a connection of its own. When the executor has the call's outcome, the exchange
first reads what is still on its way, also from a worker that was killed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import ssl
import sys
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from amltk.exceptions import ExecutorError
from amltk.executors.registry import Traits
from amltk.plugins import _wire
from amltk.plugins._line import Ticket
from amltk.plugins._wire import HEADER, Kind
from amltk.scheduling.services import RunAccess

logger: logging.Logger = logging.getLogger(__name__)

#: Connections that have not said who they are; with more, the oldest one is dropped.
MAX_STRANGERS = 256

#: Connections of one channel.
MAX_PEERS = 64

#: A connection is not read any more while so much of it waits to be handled.
_INBOX_BYTES = 1 << 20
_INBOX_FRAMES = 1024

#: How many frames are handled until others have their turn.
_TURN = 32

#: How long a connection that was not closed may say nothing once the call is over. A worker that
#: has died closes it; this is for processes that the call left behind.
_SILENCE_S = 2.0

_BACKLOG = 1024

#: A line that is longer arrives in parts.
_LINE_BYTES = 1 << 16

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where the driver listens, and how it is protected.

    Plugins with equal settings share one server.
    """

    #: ``None`` is as near as possible: this machine only.
    host: str | None = None
    port: int = 0
    advertise: str | None = None
    tls: ssl.SSLContext | None = None
    worker_tls: Callable[[], ssl.SSLContext] | None = None
    max_bytes: int = 64 << 20

    @property
    def is_anywhere(self) -> bool:
        """Whether the user leaves it open how this machine's workers reach the driver."""
        return self.host is None and self.port == 0 and self.tls is None


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


class Channel:
    """The way between one call and the driver.

    Args:
        exchange: Who it belongs to.
        receiver: Who handles what comes in.
        ticket: What the worker opens it with.
    """

    __slots__ = (
        "_exchange",
        "_told_closed",
        "_was_opened",
        "complaints",
        "future",
        "peers",
        "receiver",
        "ticket",
    )

    def __init__(self, exchange: Exchange, receiver: Receiver, ticket: Ticket) -> None:
        self._exchange = exchange
        self.receiver = receiver
        self.ticket = ticket
        #: Whose it is; set when the call is submitted.
        self.future: Any = None
        self.peers: set[_Peer] = set()
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
        self._exchange.access.post(do, first, second)

    def in_loop(self) -> bool:
        """Tell whether this is the loop's thread."""
        return self._exchange.access.in_loop()

    def forget(self) -> None:
        """Let nobody in any more; the call is over."""
        self._exchange.forget(self)
        for peer in list(self.peers):
            peer.hang_up()

    def _tell_closed(self) -> None:
        if self._was_opened and not self._told_closed:
            self._told_closed = True
            self.receiver.closed(self)


class Exchange:
    """The server of a run, with its channels; it listens once a worker may need it.

    Args:
        access: What it may use of the run.
        listening: Where it listens.
    """

    def __init__(self, access: RunAccess, listening: Listening) -> None:
        self.access = access
        self._listening = listening
        self._secret = os.urandom(32)
        self._channels: dict[bytes, Channel] = {}
        self._strangers: dict[_Peer, None] = {}
        self._peers: set[_Peer] = set()
        self._address: tuple[str, int] | str | None = None
        self._sock: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._starting: asyncio.Task[None] | None = None
        self._is_closed = False
        _open_exchanges.add(self)

    def open(self, receiver: Receiver, traits: Traits) -> Channel:
        """Make a channel for a call that is about to be submitted; with the gate held.

        Args:
            receiver: Who handles what comes in.
            traits: Of the engine: nobody has to listen to calls in the loop's own thread.

        Raises:
            ExecutorError: When the address cannot be listened at.
        """
        channel_id = os.urandom(_wire.ID_BYTES)
        ticket = Ticket(
            None if traits.runs_inline else self._listen(traits),
            channel_id,
            _wire.token_of(self._secret, channel_id),
            socket.gethostname(),
            self._listening.max_bytes,
            self._listening.worker_tls,
        )
        channel = Channel(self, receiver, ticket)
        if traits.runs_inline:
            object.__setattr__(ticket, "inline", channel)
        self._channels[channel_id] = channel
        return channel

    def forget(self, channel: Channel) -> None:
        """Let nobody in to a channel any more."""
        self._channels.pop(channel.ticket.channel_id, None)

    def close(self) -> None:
        """Close everything; in the loop's thread."""
        self._is_closed = True
        _open_exchanges.discard(self)
        if self._starting is not None:
            self._starting.cancel()
        if self._server is not None:
            self._server.close()
        if self._sock is not None:
            self._sock.close()
        for peer in [*self._strangers, *self._peers]:
            peer.shut_up()
        self._channels.clear()

    def close_in_child(self) -> None:
        """Let go of the sockets that a forked child has inherited.

        As long as it holds them, nobody notices that the driver is gone.
        """
        numbers = [peer.descriptor() for peer in [*self._strangers, *self._peers]]
        for number in [*numbers, -1 if self._sock is None else self._sock.fileno()]:
            if number >= 0:
                os.close(number)

    # -------------------------------------------------------------------- used by the peers

    @property
    def max_bytes(self) -> int:
        """How large the payload of a frame may be."""
        return self._listening.max_bytes

    def met(self, peer: _Peer) -> None:
        """Take note of somebody who has connected, and make room if it gets crowded."""
        if self._is_closed:
            peer.hang_up()
            return
        self._strangers[peer] = None
        if len(self._strangers) > MAX_STRANGERS:
            next(iter(self._strangers)).hang_up()

    def admit(self, channel_id: bytes) -> Channel | None:
        """Return the channel that somebody asks for, unless it has as many as it may have."""
        channel = self._channels.get(channel_id)
        return None if channel is None or len(channel.peers) >= MAX_PEERS else channel

    def welcome(self, peer: _Peer, channel: Channel) -> None:
        """Take note of somebody who has proved who he is."""
        self._strangers.pop(peer, None)
        self._peers.add(peer)
        channel.peers.add(peer)
        channel.opened()

    def left(self, peer: _Peer) -> None:
        """Forget somebody whose connection is closed."""
        self._strangers.pop(peer, None)
        self._peers.discard(peer)

    # --------------------------------------------------------------------------- listening

    def _listen(self, traits: Traits) -> tuple[str, int] | str:
        if self._address is None:
            settings = self._listening
            if settings.is_anywhere and traits.shares_machine and sys.platform == "linux":
                self._sock, self._address = _bound_here()
            else:
                host = settings.host or LOOPBACK
                self._sock = _bound(host, settings.port)
                self._address = settings.advertise or host, self._sock.getsockname()[1]
            self.access.loop.call_soon_threadsafe(self._start)
        return self._address

    def _start(self) -> None:
        if not self._is_closed:
            self._starting = self.access.loop.create_task(self._serve())
            self._starting.add_done_callback(self._started)

    def _started(self, starting: asyncio.Task[None]) -> None:
        error = None if starting.cancelled() else starting.exception()
        if error is not None:
            self.access.post(_raise, error, None)

    async def _serve(self) -> None:
        assert self._sock is not None  # noqa: S101 - it was made before this was planned
        tls = self._listening.tls
        self._server = await self.access.loop.create_server(
            lambda: _Peer(self),
            sock=self._sock,
            backlog=_BACKLOG,
            ssl=tls,
            ssl_handshake_timeout=None if tls is None else _wire.HANDSHAKE_S,
        )


class _Peer(asyncio.Protocol):
    """One connection of a worker; all of it in the loop's thread but for `reply`."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._access = exchange.access
        self._transport: asyncio.Transport | None = None
        self._channel: Channel | None = None
        self._nonce = os.urandom(_wire.NONCE_BYTES)
        self._buffer = bytearray()
        self._inbox: deque[tuple[Kind, int, bytes]] = deque()
        self._inbox_bytes = 0
        #: What is printed to this stream comes in, without frames.
        self._stream: int | None = None
        self._is_paused = False
        self._answers_wait = False
        self._is_delivering = False
        self._has_left = False
        self._said_goodbye = False
        self._n_heard = 0
        self._patience: asyncio.TimerHandle | None = None
        self._waiting: list[Callable[[], object]] = []

    @property
    def is_finished(self) -> bool:
        """Whether all that it said has been handled, and nothing more can come."""
        return (self._has_left or self._said_goodbye) and not self._inbox

    # ------------------------------------------------------------------- called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            _wire.tune(sock)
        self._patience = self._access.loop.call_later(_wire.HANDSHAKE_S, self.hang_up)
        self._exchange.met(self)
        if not self._has_left:
            self._transport.write(_wire.MAGIC + self._nonce)

    def data_received(self, data: bytes) -> None:
        self._n_heard += 1
        self._buffer += data
        if self._channel is None and not self._shake_hands():
            return
        self._take_frames()
        self._have_delivered()

    def connection_lost(self, _error: Exception | None) -> None:
        self._has_left = True
        self._exchange.left(self)
        if self._patience is not None:
            self._patience.cancel()
        if self._stream is not None:
            self._take_lines(self._stream, ends=True)
            self._have_delivered()
        if not self._inbox:
            self._release()

    def pause_writing(self) -> None:
        self._answers_wait = True
        self._read_or_wait()

    def resume_writing(self) -> None:
        self._answers_wait = False
        self._read_or_wait()

    # --------------------------------------------------------------------------- handshake

    def _shake_hands(self) -> bool:
        """Let in who proves that he has the token of a channel; drop everybody else."""
        buffer, magic = self._buffer, len(_wire.MAGIC)
        if not _wire.MAGIC.startswith(bytes(buffer[:magic])):
            self.hang_up()
            return False
        if len(buffer) < _wire.REPLY_BYTES:
            return False
        reply = bytes(buffer[: _wire.REPLY_BYTES])
        del buffer[: _wire.REPLY_BYTES]
        channel_id = reply[magic : magic + _wire.ID_BYTES]
        theirs = reply[magic + _wire.ID_BYTES : -_wire.PROOF_BYTES]
        channel = self._exchange.admit(channel_id)
        token = b"" if channel is None else channel.ticket.token
        expected = _wire.proof_of(token, b"worker", self._nonce, theirs)
        is_proof = _wire.is_proof(reply[-_wire.PROOF_BYTES :], expected)
        if channel is None or not is_proof:
            self.hang_up()
            return False
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._channel = channel
        self._exchange.welcome(self, channel)
        self._write(_wire.proof_of(token, b"driver", self._nonce, theirs))
        return True

    # ------------------------------------------------------------------------------ frames

    def _take_frames(self) -> None:
        if self._stream is not None:
            self._take_lines(self._stream)
            return
        buffer, begin, n_bytes = self._buffer, 0, len(self._buffer)
        while n_bytes - begin >= HEADER.size:
            length, code, number = HEADER.unpack_from(buffer, begin)
            kind = _wire.KINDS.get(code)
            if kind is None or length > self._exchange.max_bytes:
                logger.error(
                    "a worker sent what is no message, and was cut off: call %s", self._call()
                )
                begin = n_bytes
                self.hang_up()
                break
            end = begin + HEADER.size + length
            if end > n_bytes:
                break
            begin += HEADER.size
            if kind is Kind.RAW and number in _wire.STREAMS:
                self._stream = number
                break
            self._inbox.append((kind, number, bytes(buffer[begin:end])))
            self._inbox_bytes += length
            begin = end
        if begin:
            del buffer[:begin]
        if self._stream is not None:
            self._take_lines(self._stream)
        self._read_or_wait()

    def _take_lines(self, stream: int, *, ends: bool = False) -> None:
        """Make frames of what is printed: lines, and parts of lines that are too long."""
        *lines, rest = bytes(self._buffer).split(b"\n")
        if rest and (ends or len(rest) > _LINE_BYTES):
            lines.append(rest)
            rest = b""
        self._buffer[:] = rest
        self._inbox.extend((Kind.OUTPUT, stream, line) for line in lines)
        self._inbox_bytes += sum(map(len, lines))
        self._read_or_wait()

    def _have_delivered(self) -> None:
        if self._inbox and not self._is_delivering:
            self._is_delivering = True
            self._access.post_here(self._deliver, None, None)

    def _deliver(self, _first: object, _second: object) -> None:
        """Have what came in handled; in its turn among the events of the run."""
        channel = self._channel
        assert channel is not None  # noqa: S101 - nothing comes in before the handshake
        inbox = self._inbox
        for _ in range(min(_TURN, len(inbox))):
            kind, number, payload = inbox.popleft()
            self._inbox_bytes -= len(payload)
            if kind is Kind.BYE:
                self._drop_inbox()
                self._take_leave(channel)
                break
            channel.receiver.receive(channel, kind, number, payload, self.reply)
        self._read_or_wait()
        if inbox:
            self._access.post(self._deliver, None, None)
            return
        self._is_delivering = False
        if self.is_finished:
            self._release()

    def _take_leave(self, channel: Channel) -> None:
        self._said_goodbye = True
        complaints = "; ".join(channel.complaints).encode()
        channel.complaints.clear()
        self.reply(Kind.ACK, 0, complaints)
        channel.said_goodbye()

    def _read_or_wait(self) -> None:
        """Stop reading while too much waits, go on when there is room again."""
        full = len(self._inbox) > _INBOX_FRAMES or self._inbox_bytes > _INBOX_BYTES
        wait = full or self._answers_wait
        if wait == self._is_paused or self._transport is None or self._transport.is_closing():
            return
        if wait:
            self._transport.pause_reading()
        elif len(self._inbox) > _INBOX_FRAMES // 2 or self._inbox_bytes > _INBOX_BYTES // 2:
            return  # not for each single frame
        else:
            self._transport.resume_reading()
        self._is_paused = wait

    def reply(self, kind: Kind, number: int, payload: bytes) -> bool:
        """Send a frame back; from any thread."""
        if self._has_left:
            return False
        data = _wire.frame(kind, number, payload)
        if self._access.in_loop():
            self._write(data)
        else:
            self._access.loop.call_soon_threadsafe(self._write, data)
        return True

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    # -------------------------------------------------------------------------------- ends

    def when_finished(self, release: Callable[[], object]) -> None:
        """Call something once all is handled; nobody is waited for who says nothing more."""
        self._waiting.append(release)
        if self._patience is None:
            self._patience = self._access.loop.call_later(_SILENCE_S, self._lose_patience, -1)

    def _lose_patience(self, n_heard: int) -> None:
        if self._n_heard == n_heard and not self._inbox:
            self.hang_up()
        else:  # it speaks, or what it said is being handled
            self._patience = self._access.loop.call_later(
                _SILENCE_S, self._lose_patience, self._n_heard
            )

    def hang_up(self) -> None:
        """Close the connection at once; what has come in is still handled."""
        self._has_left = True
        self._exchange.left(self)
        if self._transport is not None:
            self._transport.abort()
        if not self._inbox:
            self._release()

    def shut_up(self) -> None:
        """Close the connection at once, and handle nothing more."""
        self._drop_inbox()
        self.hang_up()

    def _drop_inbox(self) -> None:
        self._inbox.clear()
        self._inbox_bytes = 0

    def descriptor(self) -> int:
        """Return the number of the socket, -1 if there is none any more."""
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        return -1 if sock is None else sock.fileno()

    def _call(self) -> object:
        return None if self._channel is None else self._channel.future

    def _release(self) -> None:
        """Let those go on who waited until all was handled."""
        if self._has_left and self._channel is not None:
            self._channel.peers.discard(self)
        waiting, self._waiting = self._waiting, []
        for release in waiting:
            release()


def _bound_here() -> tuple[socket.socket, str]:
    """Listen under a name that only this machine has, and that leaves no file behind."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    name = f"\0amltk-{secrets.token_hex(16)}"
    sock.bind(name)
    sock.listen(_BACKLOG)
    sock.setblocking(False)
    return sock, name


def _bound(host: str, port: int) -> socket.socket:
    try:
        return _bound_to(host, port)
    except OSError as error:
        message = (
            f"the driver cannot listen at {host}:{port} for messages of its calls: {error}; give "
            f"host= an address of this machine, and port=0 to take any port that is free"
        )
        raise ExecutorError(message) from error


def _bound_to(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _raise(error: BaseException, _second: object) -> None:
    raise error


#: Those that listen, for the children that somebody forks.
_open_exchanges: weakref.WeakSet[Exchange] = weakref.WeakSet()


def _close_in_child() -> None:
    for exchange in list(_open_exchanges):
        exchange.close_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
