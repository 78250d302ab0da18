"""Results that reached a broken pool's pipe but that the pool never read.

A pool that notices a dead worker reads no further, while its other workers go on for a moment:
they end calls, take the next ones, and send results that nobody wants. A pipe keeps what was
written to it, so these results are read after the workers are gone.
"""

from __future__ import annotations

import os
import pickle
import select
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

#: How a ``multiprocessing`` connection begins a message, and a message of 2 GiB or more.
_LENGTH = struct.Struct("!i")
_LONG_LENGTH = struct.Struct("!Q")

_READ_AT_ONCE = 1 << 16


def keep_pipe(pool: Any) -> int | None:
    """Return a descriptor of the pipe of a pool's results that stays open until ``salvage``.

    Args:
        pool: A pool whose own thread does not read from the pipe any more.
    """
    if os.name == "nt":  # no descriptors there, and reading cannot be had without waiting
        return None
    try:
        return os.dup(pool._result_queue._reader.fileno())
    except (AttributeError, OSError):  # shut down, or a pool of another make
        return None


def salvage(pipe: int | None) -> dict[int, bytes]:
    """Read what is left in a pipe, and close it.

    Args:
        pipe: What ``keep_pipe`` returned.

    Returns:
        The packed outcomes of calls by ``run_marked``, by number.
    """
    found: dict[int, bytes] = {}
    if pipe is None:
        return found
    try:
        for message in _split(_read_all(pipe)):
            with suppress(Exception):  # not from one of ours
                number, outcome = pickle.loads(message).result
                if outcome is not None:
                    found[number] = outcome
    finally:
        os.close(pipe)
    return found


def _read_all(pipe: int) -> bytes:
    """Read what is there without ever waiting for more."""
    chunks = []
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    while any(event & select.POLLIN for _, event in poll.poll(0)):
        chunk = os.read(pipe, _READ_AT_ONCE)
        if not chunk:
            break
        chunks.append(chunk)
    return b"".join(chunks)


def _split(data: bytes) -> Iterator[bytes]:
    """Split into messages; the last one may be cut short by its sender's death, and is left out."""
    start = 0
    while len(data) - start >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(data, start)
        start += _LENGTH.size
        if length < 0:
            if len(data) - start < _LONG_LENGTH.size:
                return
            (length,) = _LONG_LENGTH.unpack_from(data, start)
            start += _LONG_LENGTH.size
        if len(data) - start < length:
            return
        yield data[start : start + length]
        start += length
