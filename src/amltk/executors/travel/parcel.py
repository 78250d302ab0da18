"""Calls whose large arguments travel apart, once for all calls that share them.

::

    driver   pack_parcel(fn, args, kwargs) ──▶ Parcel(payload, blobs by digest)
             Held.take(parcel) ──▶ the engine's handles of the blobs, each put once
    worker   run_parcel(payload, *blobs) ──▶ the outcome's bytes, for `unpack_outcome`
    driver   Held.release(parcel), when the call is done

A blob goes by the digest of its bytes and not by the object's identity: an array that is changed
between two calls is another blob.
"""

from __future__ import annotations

import hashlib
import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from amltk.exceptions import CallPicklingError
from amltk.executors.travel.envelope import dumps, pack_unreadable, pickling_failure, run_to_bytes

H = TypeVar("H")

#: From how many bytes on an argument travels apart.
LARGE_BYTES = 1 << 20

#: How many blobs that no live call needs are kept, for the calls that come next.
KEPT = 4

#: The place of an argument: its position, or its name.
_Place = int | str

#: The place of the function, which is large when it holds on to large things.
_FUNCTION = -1


@dataclass(frozen=True, slots=True)
class Parcel:
    """A packed call.

    Attributes:
        payload: The call without its large arguments.
        blobs: The pickled large arguments by their digests, in the order in which the worker
            takes them.
    """

    payload: bytes
    blobs: Mapping[str, bytes] = field(default_factory=dict)


def pack_parcel(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    large: int = LARGE_BYTES,
) -> Parcel:
    """Pack a call for ``run_parcel``.

    Args:
        function: What to call; give a ``PortableFunction`` to have it pickled only once.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        large: From how many bytes on an argument travels apart.

    Returns:
        The parcel; most have no blobs.

    Raises:
        CallPicklingError: When function or arguments cannot be pickled; the cause says why.
    """
    try:
        payload = dumps((function, args, kwargs, ()))
        if len(payload) < large:
            return Parcel(payload)
        return _split(function, args, kwargs, large) or Parcel(payload)
    except CallPicklingError:
        raise
    except Exception as error:
        raise pickling_failure(function, args, kwargs) from error


def _split(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], large: int
) -> Parcel | None:
    """Put large arguments, and a large function, into blobs; ``None`` if no single one is large."""
    left: dict[_Place, Any] = {_FUNCTION: function, **dict(enumerate(args))}
    left.update(kwargs)
    blobs: dict[str, bytes] = {}
    places: list[tuple[_Place, int]] = []
    for place, value in left.items():
        piece = dumps(value)
        if len(piece) >= large:
            digest = hashlib.blake2b(piece, digest_size=16).hexdigest()
            blobs.setdefault(digest, piece)
            places.append((place, list(blobs).index(digest)))
    if not blobs:
        return None
    for place, _ in places:
        left[place] = None
    small_args = tuple(left[place] for place in range(len(args)))
    small_kwargs = {name: left[name] for name in kwargs}
    return Parcel(dumps((left[_FUNCTION], small_args, small_kwargs, tuple(places))), blobs)


def run_parcel(payload: bytes, *blobs: bytes) -> bytes:
    """Run a packed call in the worker.

    Args:
        payload: The parcel's payload.
        *blobs: The parcel's blobs, in their order.

    Returns:
        The packed outcome, for ``unpack_outcome``. Nothing is raised, not even ``SystemExit``.
    """
    try:
        function, args, kwargs, places = pickle.loads(payload)
        if places:
            function, args, kwargs = _filled(function, args, kwargs, places, blobs)
    except BaseException as error:
        return pack_unreadable(error)
    return run_to_bytes(function, args, kwargs)


def _filled(
    function: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    places: tuple[tuple[_Place, int], ...],
    blobs: tuple[bytes, ...],
) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    filled = list(args)
    for place, which in places:
        # Each place gets a copy of its own, so that a function may change what it is given.
        value = pickle.loads(blobs[which])
        if place == _FUNCTION:
            function = value
        elif isinstance(place, int):
            filled[place] = value
        else:
            kwargs[place] = value
    return function, tuple(filled), kwargs


@dataclass(slots=True)
class _Holding(Generic[H]):
    handle: H
    n_users: int = 0


class Held(Generic[H]):
    """The blobs that an engine holds, each put there once while calls need it.

    Args:
        put: Gives a blob to the engine, with its digest, and returns the engine's handle.
        drop: Called with a handle that is not needed any more, where the engine wants to know.
        kept: How many blobs that no live call needs are kept, for the calls that come next.
    """

    def __init__(
        self,
        put: Callable[[str, bytes], H],
        drop: Callable[[H], object] | None = None,
        *,
        kept: int = KEPT,
    ) -> None:
        self._put = put
        self._drop = drop
        self._kept = kept
        self._held: OrderedDict[str, _Holding[H]] = OrderedDict()
        # Held while a blob is put, so that two threads do not put the same one.
        self._lock = threading.Lock()

    def take(self, parcel: Parcel) -> list[H]:
        """Return the handles of a parcel's blobs, in their order; ``release`` gives them back."""
        if not parcel.blobs:
            return []
        with self._lock:
            # All are put before any is counted: a `put` that raises leaves nothing counted.
            holdings = [self._holding(digest, blob) for digest, blob in parcel.blobs.items()]
            for holding in holdings:
                holding.n_users += 1
            return [holding.handle for holding in holdings]

    def release(self, parcel: Parcel) -> None:
        """Note that a call is done with its blobs."""
        if not parcel.blobs:
            return
        with self._lock:
            for digest in parcel.blobs:
                holding = self._held.get(digest)
                if holding is not None:
                    holding.n_users -= 1
            dropped = self._surplus(self._kept)
        self._let_go(dropped)

    def clear(self) -> None:
        """Let go of all blobs, whoever uses them: the engine is being shut down."""
        with self._lock:
            dropped = [holding.handle for holding in self._held.values()]
            self._held.clear()
        self._let_go(dropped)

    def _holding(self, digest: str, blob: bytes) -> _Holding[H]:
        holding = self._held.get(digest)
        if holding is None:
            holding = self._held[digest] = _Holding(self._put(digest, blob))
        self._held.move_to_end(digest)
        return holding

    def _surplus(self, kept: int) -> list[H]:
        idle = [digest for digest, holding in self._held.items() if holding.n_users <= 0]
        surplus = idle[: max(0, len(idle) - kept)]
        return [self._held.pop(digest).handle for digest in surplus]

    def _let_go(self, handles: list[H]) -> None:
        if self._drop is not None:
            for handle in handles:
                self._drop(handle)
