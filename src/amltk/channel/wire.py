"""What driver and worker say to each other on a channel, byte by byte.

::

    driver                                    worker
    MAGIC, nonce                 ──────────▶
                                 ◀──────────  MAGIC, id, nonce, proof of the token
    proof of the token           ──────────▶
                                 ◀──────────  frame, frame, …  (length, kind, number, payload)
    frame, …                     ──────────▶

Each side proves that it has the channel's token by an HMAC over both nonces; nothing is unpickled
before. The token of a channel is made of the run's secret, which never leaves the driver, so who
has one ticket can open one channel and no other.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import os
import socket
import struct
from contextlib import suppress

MAGIC = b"amltk\x00\x01\n"
ID_BYTES = 16
NONCE_BYTES = 32
PROOF_BYTES = 32
GREETING_BYTES = len(MAGIC) + NONCE_BYTES
REPLY_BYTES = len(MAGIC) + ID_BYTES + NONCE_BYTES + PROOF_BYTES

#: Length of the payload, kind, and a number that an answer shares with its request.
HEADER = struct.Struct(">IBI")

#: How long either side waits for the other one's part of the handshake.
HANDSHAKE_S = 5.0

#: A host that vanished is noticed after about so long: idle, then four probes.
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 4}


class Kind(enum.IntEnum):
    """What a frame is."""

    # From the worker.
    MESSAGE = 1
    REQUEST = 2
    EMIT = 3
    BYE = 4
    LOG = 5
    OUTPUT = 6
    #: What follows on this connection is what is printed, without frames.
    RAW = 7
    #: Of another plugin: figures, warnings.
    NOTE = 8
    # From the driver.
    ANSWER = 16
    REFUSAL = 17
    ACK = 18


#: The streams that may be sent, by their descriptor, which is the number of their frames.
STREAMS = {1: "stdout", 2: "stderr"}

#: The kinds by their number; looking there costs less than making one.
KINDS = {int(kind): kind for kind in Kind}


#: Process, user and group, as Linux tells them.
_CREDENTIALS = struct.Struct("3i")


#: Says in the place of the driver's proof that there is no such channel here, or that it is full.
REFUSAL = bytes(PROOF_BYTES)


def frame(kind: Kind, number: int, payload: bytes) -> bytes:
    """Return the bytes of a frame."""
    return HEADER.pack(len(payload), kind, number) + payload


def token_of(secret: bytes, channel_id: bytes) -> bytes:
    """Make the token of a channel."""
    return hmac.digest(secret, b"channel" + channel_id, hashlib.sha256)


def proof_of(token: bytes, side: bytes, greeting_nonce: bytes, reply_nonce: bytes) -> bytes:
    """Prove that one has a token.

    Args:
        token: The token.
        side: Who proves it, so that a proof cannot be sent back to where it came from.
        greeting_nonce: The driver's nonce.
        reply_nonce: The worker's nonce.
    """
    return hmac.digest(token, side + greeting_nonce + reply_nonce, hashlib.sha256)


def is_proof(given: bytes, expected: bytes) -> bool:
    """Compare two proofs in constant time."""
    return hmac.compare_digest(given, expected)


def tune(sock: socket.socket) -> None:
    """Have small frames sent at once, and a vanished host noticed."""
    with suppress(OSError):  # not TCP, or closed already: the next use says so
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def is_of_another_user(sock: socket.socket) -> bool:
    """Tell whether another user of this machine is at the other end, where the system says so.

    Anybody may connect to a name that has no file, and occupy the driver.
    """
    peer_credentials = getattr(socket, "SO_PEERCRED", None)
    if peer_credentials is None or sock.family != socket.AF_UNIX:
        return False
    credentials = sock.getsockopt(socket.SOL_SOCKET, peer_credentials, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(credentials)
    return uid not in (os.getuid(), 0)
