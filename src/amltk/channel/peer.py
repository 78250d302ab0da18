"""One connection of a worker, in the loop of the run.

::

    handshake ──▶ frames ──▶ inbox ──▶ handoff ──▶ Receiver.receive ──▶ callbacks
                               │
                               ▼ full: read no more, so that the worker blocks
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

from amltk.channel import wire
from amltk.channel.channel import Channel
from amltk.channel.wire import HEADER, Kind
from amltk.scheduling.services import RunAccess

logger: logging.Logger = logging.getLogger(__name__)

#: A connection is not read any more while so much of it waits to be handled.
_INBOX_BYTES = 1 << 20
_INBOX_FRAMES = 1024

#: How many frames are handled until others have their turn.
_TURN = 32

#: How long a connection that was not closed may say nothing once the call is over. A worker that
#: has died closes it; this is for processes that the call left behind.
_SILENCE_S = 2.0

#: A line that is longer arrives in parts.
_LINE_BYTES = 1 << 16


class House(Protocol):
    """Who lets peers in: the exchange."""

    access: RunAccess

    @property
    def max_bytes(self) -> int:
        """How large the payload of a frame may be."""
        ...

    def met(self, peer: Peer) -> None:
        """Take note of somebody who has connected."""

    def admit(self, channel_id: bytes) -> Channel | None:
        """Return the channel that somebody asks for, if there is room."""

    def welcome(self, peer: Peer, channel: Channel) -> None:
        """Take note of somebody who has proved who he is."""

    def left(self, peer: Peer) -> None:
        """Forget somebody whose connection is closed."""


class Peer(asyncio.Protocol):
    """One connection of a worker; all of it in the loop's thread but for ``reply``.

    Args:
        house: Who lets it in.
    """

    def __init__(self, house: House) -> None:
        self._house = house
        self._access = house.access
        self._transport: asyncio.Transport | None = None
        self._channel: Channel | None = None
        self._nonce = os.urandom(wire.NONCE_BYTES)
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
        """Greet who has connected."""
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            if wire.is_of_another_user(sock):
                self._transport.abort()
                return
            wire.tune(sock)
        self._patience = self._access.loop.call_later(wire.HANDSHAKE_S, self.hang_up)
        self._house.met(self)
        if not self._has_left:
            self._transport.write(wire.MAGIC + self._nonce)

    def data_received(self, data: bytes) -> None:
        """Take what came in."""
        self._n_heard += 1
        self._buffer += data
        if self._channel is None and not self._shake_hands():
            return
        self._take_frames()
        self._have_delivered()

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle what is left, and forget it."""
        del exc
        self._has_left = True
        self._house.left(self)
        if self._patience is not None:
            self._patience.cancel()
        if self._stream is not None:
            self._take_lines(self._stream, ends=True)
            self._have_delivered()
        if not self._inbox:
            self._release()

    def pause_writing(self) -> None:
        """Read no more while answers wait to be taken."""
        self._answers_wait = True
        self._read_or_wait()

    def resume_writing(self) -> None:
        """Go on reading."""
        self._answers_wait = False
        self._read_or_wait()

    # --------------------------------------------------------------------------- handshake

    def _shake_hands(self) -> bool:
        """Let in who proves that he has the token of a channel; drop everybody else."""
        buffer, magic = self._buffer, len(wire.MAGIC)
        if not wire.MAGIC.startswith(bytes(buffer[:magic])):
            self.hang_up()
            return False
        if len(buffer) < wire.REPLY_BYTES:
            return False
        reply = bytes(buffer[: wire.REPLY_BYTES])
        del buffer[: wire.REPLY_BYTES]
        channel_id = reply[magic : magic + wire.ID_BYTES]
        theirs = reply[magic + wire.ID_BYTES : -wire.PROOF_BYTES]
        channel = self._house.admit(channel_id)
        token = b"" if channel is None else channel.ticket.token
        expected = wire.proof_of(token, b"worker", self._nonce, theirs)
        is_proof = wire.is_proof(reply[-wire.PROOF_BYTES :], expected)
        if channel is None or not is_proof:
            self._refuse()
            return False
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._channel = channel
        self._house.welcome(self, channel)
        self._write(wire.proof_of(token, b"driver", self._nonce, theirs))
        return True

    # ------------------------------------------------------------------------------ frames

    def _take_frames(self) -> None:
        if self._stream is not None:
            self._take_lines(self._stream)
            return
        buffer, begin, n_bytes = self._buffer, 0, len(self._buffer)
        while n_bytes - begin >= HEADER.size:
            length, code, number = HEADER.unpack_from(buffer, begin)
            kind = wire.KINDS.get(code)
            if kind is None or length > self._house.max_bytes:
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
            if kind is Kind.RAW and number in wire.STREAMS:
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
        try:
            self._deliver_turn(channel)
        finally:  # what one frame made somebody raise does not hold up those that come after it
            self._read_or_wait()
            if self._inbox:
                self._access.post(self._deliver, None, None)
            else:
                self._is_delivering = False
                if self.is_finished:
                    self._release()

    def _deliver_turn(self, channel: Channel) -> None:
        for _ in range(min(_TURN, len(self._inbox))):
            kind, number, payload = self._inbox.popleft()
            self._inbox_bytes -= len(payload)
            if kind is Kind.BYE:
                self._drop_inbox()
                self._take_leave(channel)
                break
            channel.receiver.receive(channel, kind, number, payload, self.reply)

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
        data = wire.frame(kind, number, payload)
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

    def _refuse(self) -> None:
        """Say no, so that a worker does not take it for the crowd that it cannot get through."""
        self._has_left = True
        self._house.left(self)
        if self._transport is not None:
            self._write(wire.REFUSAL)
            self._transport.close()

    def hang_up(self) -> None:
        """Close the connection at once; what has come in is still handled."""
        self._has_left = True
        self._house.left(self)
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

    @property
    def descriptor(self) -> int:
        """The number of the socket, -1 if there is none any more."""
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
