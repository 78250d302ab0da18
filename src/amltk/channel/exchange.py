"""The driver's end of all channels: one server in the loop of the run.

::

    worker ──▶ Exchange listens ──▶ Peer: handshake, frames ──▶ Channel of the call ──▶ Receiver

A channel is what one call has. It may be opened by several processes, such as the child of a
limiter, each with a connection of its own. When the executor has the call's outcome, the exchange
first reads what is still on its way, also from a worker that was killed.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import ssl
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from amltk.channel import wire
from amltk.channel.channel import Channel, Receiver
from amltk.channel.peer import Peer
from amltk.channel.ticket import Address, Ticket
from amltk.exceptions import ExecutorError
from amltk.executors.registry import Traits
from amltk.scheduling.services import RunAccess

#: Connections that have not said who they are. With more, those are dropped that take their time, and
#: with many more those that came first.
CROWD_OF_STRANGERS = 256
MAX_STRANGERS = 1024

#: How long one may take in a crowd; a worker takes some milliseconds.
CROWDED_S = 1.0

#: Connections of one channel.
MAX_PEERS = 64

_BACKLOG = 1024

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
        #: When each of them came, by the loop's time, in that order.
        self._strangers: dict[Peer, float] = {}
        self._peers: set[Peer] = set()
        self._address: Address | None = None
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
        channel_id = os.urandom(wire.ID_BYTES)
        ticket = Ticket(
            None if traits.runs_inline else self._listen(traits),
            channel_id,
            wire.token_of(self._secret, channel_id),
            socket.gethostname(),
            self._listening.max_bytes,
            self._listening.worker_tls,
        )
        channel = Channel(receiver, ticket, self.access, self.forget)
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

        As long as it holds them, nobody notices that the driver is gone. Their numbers go on
        being used, so that what still knows them here can do no harm.
        """
        numbers = [peer.descriptor for peer in [*self._strangers, *self._peers]]
        if self._sock is not None:
            numbers.append(self._sock.fileno())
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in numbers:
            if number >= 0:
                os.dup2(nowhere, number, inheritable=False)
        os.close(nowhere)

    # -------------------------------------------------------------------- used by the peers

    @property
    def max_bytes(self) -> int:
        """How large the payload of a frame may be."""
        return self._listening.max_bytes

    def met(self, peer: Peer) -> None:
        """Take note of somebody who has connected, and make room if it gets crowded."""
        if self._is_closed:
            peer.hang_up()
            return
        now = self.access.loop.time()
        self._strangers[peer] = now
        while len(self._strangers) > CROWD_OF_STRANGERS:
            first, came_at = next(iter(self._strangers.items()))
            if now - came_at < CROWDED_S and len(self._strangers) <= MAX_STRANGERS:
                return
            first.hang_up()
            self._strangers.pop(first, None)

    def admit(self, channel_id: bytes) -> Channel | None:
        """Return the channel that somebody asks for, unless it has as many as it may have."""
        channel = self._channels.get(channel_id)
        return None if channel is None or len(channel.peers) >= MAX_PEERS else channel

    def welcome(self, peer: Peer, channel: Channel) -> None:
        """Take note of somebody who has proved who he is."""
        self._strangers.pop(peer, None)
        self._peers.add(peer)
        channel.peers.add(peer)
        channel.opened()

    def left(self, peer: Peer) -> None:
        """Forget somebody whose connection is closed."""
        self._strangers.pop(peer, None)
        self._peers.discard(peer)

    # --------------------------------------------------------------------------- listening

    def _listen(self, traits: Traits) -> Address:
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
            lambda: Peer(self),
            sock=self._sock,
            backlog=_BACKLOG,
            ssl=tls,
            ssl_handshake_timeout=None if tls is None else wire.HANDSHAKE_S,
        )


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
