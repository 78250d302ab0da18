"""Functions on their way to workers: packed once, and again only if they have a state.

::

    driver   PortableFunction(train).packed() ──▶ wire: payload and parts, by their digest
    worker   Received(wire).function() ──▶ the same function for each call, if it has no state;
                                           else a copy for each call, as it was when submitted
"""

from __future__ import annotations

import hashlib
import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

from amltk.executors.travel.loading import Bundle
from amltk.executors.travel.packing import pack
from amltk.executors.travel.parts import require_sendable
from amltk.executors.travel.state import is_name, keeps_state

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

#: How many functions a worker keeps.
FUNCTIONS_KEPT = 128

#: How many bytes of them, as they came.
BYTES_KEPT = 1 << 28


def digest_of(data: bytes) -> bytes:
    """Return sixteen bytes that stand for others."""
    return hashlib.blake2b(data, digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Wire:
    """Bytes that many calls have in common, and what stands for them."""

    digest: bytes
    data: bytes

    @classmethod
    def of(cls, value: object) -> Wire:
        """Make one of plain data."""
        data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
        return cls(digest_of(data), data)


class PortableFunction(Generic[P, R]):
    """A function that is packed once, or for each call if it has a state.

    Args:
        function: The function to carry.
    """

    __slots__ = ("__weakref__", "_last", "_packed", "function")

    def __init__(self, function: Callable[P, R]) -> None:
        self.function: Callable[P, R] = function
        #: As it is packed for all calls.
        self._packed: Wire | None = None
        #: As it was packed last; most functions with a state do not change it.
        self._last: Wire | None = None

    def wire(self, *, has_script: bool = False) -> Wire:
        """Return the function as workers take it, as it is now.

        Args:
            has_script: Whether workers may have the script itself, and so what cannot be sent of it.

        Raises:
            Exception: Whatever pickling it raises.
        """
        if self._packed is not None:
            return self._packed
        packed = pack(self.function, has_script=has_script)
        if not has_script:
            require_sendable(packed.parts)
        is_plain_name = not packed.parts and is_name(packed.payload)
        has_state = not is_plain_name and keeps_state(self.function)
        wire = Wire.of((not has_state, packed.payload, packed.parts))
        if not has_state:
            self._packed = wire
        elif self._last is not None and self._last.digest == wire.digest:
            return self._last  # so that equal bytes are held once
        self._last = wire
        return wire

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function."""
        return self.function(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as the function."""
        return _same, (self.function,)


def _same(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


class Received:
    """A function as it has come to a worker.

    Args:
        data: The data of its wire.
    """

    def __init__(self, data: bytes | memoryview) -> None:
        self._data: bytes | memoryview = data
        self._bundle: Bundle | None = None
        self._payload = b""
        self._is_shared = False
        self._function: Callable[..., Any] | None = None

    def function(self) -> Callable[..., Any]:
        """Return the function for the next call, with the globals of its script in place.

        Raises:
            Exception: Whatever unpickling raises; the next call tries again.
        """
        if self._bundle is None:
            self._is_shared, self._payload, parts = pickle.loads(self._data)
            self._bundle = Bundle(parts)
            self._data = b""
        self._bundle.activate()
        if self._function is not None:
            return self._function
        function: Callable[..., Any] = self._bundle.read(self._payload)
        if self._is_shared:
            self._function, self._payload = function, b""
        return function


class Kept(Generic[T]):
    """What a worker keeps by digest, what was used last kept longest.

    A driver that keeps the same list with the same calls knows what a worker has.

    Args:
        capacity: How many are kept.
        most_bytes: How many bytes they may have had on their way.
    """

    def __init__(self, capacity: int = FUNCTIONS_KEPT, most_bytes: int = BYTES_KEPT) -> None:
        self._capacity = capacity
        self._most_bytes = most_bytes
        self._n_bytes = 0
        self._things: OrderedDict[bytes, tuple[T, int]] = OrderedDict()
        # Engines with several threads in one worker (Dask) come here at once.
        self._lock = threading.Lock()

    def get(self, digest: bytes) -> T | None:
        """Look something up by its digest."""
        with self._lock:
            found = self._things.get(digest)
            if found is None:
                return None
            self._things.move_to_end(digest)
            return found[0]

    def put(self, digest: bytes, thing: T, n_bytes: int) -> None:
        """Keep something, and let go of what was not used for longest; the new one stays."""
        with self._lock:
            before = self._things.pop(digest, None)
            self._n_bytes += n_bytes - (before[1] if before is not None else 0)
            self._things[digest] = thing, n_bytes
            while len(self._things) > 1 and self._is_full():
                _, (_, n_gone) = self._things.popitem(last=False)
                self._n_bytes -= n_gone

    def _is_full(self) -> bool:
        return len(self._things) > self._capacity or self._n_bytes > self._most_bytes
