"""How driver and worker talk over their socket.

::

    ┌────────┬────────┬──────┬───────────────┐
    │ length │ call   │ kind │ payload …     │    numbers in network order
    │ 8 bytes│ 8 bytes│ 1    │ length bytes  │
    └────────┴────────┴──────┴───────────────┘

The call's number stands outside the pickled payload, so that a payload that cannot be read is
still known to belong to that call.
"""

from __future__ import annotations

import enum
import struct
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

HEADER = struct.Struct("!QQB")

#: Up to here a frame is put together and sent in one piece; beyond, copying costs more than a call.
_JOIN_BYTES = 1 << 16
_READ_BYTES = 1 << 16


class Kind(enum.IntEnum):
    """What a frame is about."""

    #: To the worker: how to set itself up.
    SETUP = 0
    #: To the worker: a function to keep, behind its digest.
    FUNCTION = 1
    #: To the worker: parts of a script to keep, behind their digest.
    PARTS = 2
    #: To the worker: a call of a function that it keeps: two digests, then the arguments.
    CALL = 3
    #: To the worker: no more calls.
    LEAVE = 4
    #: To the driver: set up, calls may come.
    READY = 5
    #: To the driver: the initializer raised.
    SETUP_FAILED = 6
    #: To the driver: what became of a call.
    OUTCOME = 7


#: How long a digest is.
DIGEST = 16

#: In the place of the digest of parts where arguments need none.
NO_DIGEST = bytes(DIGEST)


Frame = tuple[int, int, bytes | bytearray]


class Channel:
    """The driver's end: never blocks, keeps what is half read and half written.

    Args:
        sock: The socket; it is made non-blocking.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._outbox: deque[memoryview] = deque()
        self._inbox = bytearray()
        #: A large payload that is being read: its header, the room for it, how much is there.
        self._large: tuple[int, int, bytearray] | None = None
        self._n_large = 0
        #: Whether the other end is known to have closed with frames of ours unread: a call whose
        #: frame was the last one has not started then.
        self.was_not_read: bool = False

    def wants_to_write(self) -> bool:
        """Whether something is still to be written."""
        return bool(self._outbox)

    def send(self, kind: Kind, number: int, payload: bytes) -> None:
        """Send a frame, now as far as possible.

        Raises:
            OSError: When the worker is gone.
        """
        header = HEADER.pack(len(payload), number, kind)
        if len(payload) <= _JOIN_BYTES:
            self._outbox.append(memoryview(header + payload))
        else:
            self._outbox.append(memoryview(header))
            self._outbox.append(memoryview(payload))
        self.flush()

    def flush(self) -> None:
        """Write what can be written now.

        Raises:
            OSError: When the worker is gone.
        """
        outbox = self._outbox
        while outbox:
            part = outbox[0]
            try:
                sent = self.sock.send(part)
            except BlockingIOError:
                return
            except OSError:
                self.was_not_read = True
                raise
            if sent == len(part):
                outbox.popleft()
            else:
                outbox[0] = part[sent:]

    def receive(self) -> tuple[list[Frame], bool]:
        """Read what has come.

        Returns:
            The complete frames, as number, kind and payload, and whether the other end is open.
        """
        frames: list[Frame] = []
        while True:
            try:
                is_open = self._read_large() if self._large else self._read_small()
            except BlockingIOError:
                return frames, True
            except OSError:  # the connection was reset, which tells just that
                self.was_not_read = True
                is_open = False
            frames.extend(self._complete_frames())
            if not is_open:
                return frames, False
            if frames:
                # What else may have come is told by the next look at the selector.
                return frames, True

    def close(self) -> None:
        """Close this end."""
        self.sock.close()

    def _read_small(self) -> bool:
        data = self.sock.recv(_READ_BYTES)
        self._inbox += data
        return bool(data)

    def _read_large(self) -> bool:
        assert self._large is not None  # noqa: S101 - asked before
        room = self._large[2]
        n_read = self.sock.recv_into(memoryview(room)[self._n_large :])
        self._n_large += n_read
        return bool(n_read)

    def _complete_frames(self) -> Iterator[Frame]:
        if self._large is not None:
            kind, number, room = self._large
            if self._n_large < len(room):
                return
            self._large = None
            yield number, kind, room
        inbox = self._inbox
        while len(inbox) >= HEADER.size:
            length, number, kind = HEADER.unpack_from(inbox)
            end = HEADER.size + length
            if len(inbox) >= end:
                payload = bytes(inbox[HEADER.size : end])
                del inbox[:end]
                yield number, kind, payload
                continue
            if length > _READ_BYTES:
                room = bytearray(length)
                part = inbox[HEADER.size :]
                room[: len(part)] = part
                self._n_large = len(part)
                self._large = kind, number, room
                inbox.clear()
            return
