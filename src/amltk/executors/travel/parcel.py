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

import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from amltk.executors.travel.envelope import (
    CANNOT_PICKLE,
    bundle_from,
    pack_unreadable,
    pickling_failure,
    portable,
    received_from,
    run_to_bytes,
)
from amltk.executors.travel.loading import NOTHING
from amltk.executors.travel.packing import pack
from amltk.executors.travel.parts import Packed, Part, require_sendable
from amltk.executors.travel.portable import Wire, digest_of

H = TypeVar("H")

#: From how many bytes on an argument travels apart.
LARGE_BYTES = 1 << 20

#: How many blobs that no live call needs are kept, for the calls that come next.
KEPT = 4

#: The place of an argument: its position, or its name.
_Place: TypeAlias = int | str

#: What many calls have in common: itself, or its digest and which of the blobs it is.
_Shared: TypeAlias = Wire | tuple[bytes, int]

#: A blob as a worker gets it: its bytes, or what reads them.
Blob: TypeAlias = bytes | Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Parcel:
    """A packed call.

    Attributes:
        payload: The call without its large arguments.
        blobs: What is large, pickled, by its digest, in the order in which the worker takes them.
    """

    payload: bytes
    blobs: Mapping[str, bytes] = field(default_factory=dict)


def pack_parcel(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    large: int = LARGE_BYTES,
    large_function: int | None = None,
    has_script: bool = False,
) -> Parcel:
    """Pack a call for ``run_parcel``.

    Args:
        function: What to call; give a ``PortableFunction`` to have it packed only once.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        large: From how many bytes on an argument travels apart.
        large_function: From how many bytes on the function does, with the globals that it uses;
            as arguments do by default.
        has_script: Whether workers may have the script itself, and so what cannot be sent of it.

    Returns:
        The parcel; most have no blobs.

    Raises:
        CallPicklingError: When function or arguments cannot be pickled; the cause says why.
    """
    try:
        wire = portable(function).wire(has_script=has_script)
        blobs: dict[str, bytes] = {}
        arguments = pack((args, dict(kwargs), ()), has_script=has_script)
        if len(arguments.payload) >= large:
            arguments = _split(args, kwargs, large, blobs, has_script=has_script) or arguments
        if not has_script:
            require_sendable(arguments.parts)
        least = large if large_function is None else large_function
        shared = _shared(wire, least, blobs)
        parts = _shared(Wire.of(arguments.parts), least, blobs) if arguments.parts else None
        payload = pickle.dumps((shared, arguments.payload, parts), pickle.HIGHEST_PROTOCOL)
    except CANNOT_PICKLE as error:
        raise pickling_failure(function, args, kwargs) from error
    return Parcel(payload, blobs)


def _shared(wire: Wire, least: int, blobs: dict[str, bytes]) -> _Shared:
    if len(wire.data) < least:
        return wire
    return wire.digest, _add(blobs, wire.digest.hex(), wire.data)


def _add(blobs: dict[str, bytes], digest: str, data: bytes) -> int:
    blobs.setdefault(digest, data)
    return list(blobs).index(digest)


def _split(
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    large: int,
    blobs: dict[str, bytes],
    *,
    has_script: bool,
) -> Packed | None:
    """Put large arguments into blobs; ``None`` if no single one is large."""
    left: dict[_Place, Any] = {**dict(enumerate(args))}
    left.update(kwargs)
    parts: dict[bytes, Part] = {}
    places: list[tuple[_Place, int]] = []
    for place, value in left.items():
        packed = pack(value, has_script=has_script)
        if len(packed.payload) >= large:
            digest = digest_of(packed.payload).hex()
            places.append((place, _add(blobs, digest, packed.payload)))
            parts.update((part.digest, part) for part in packed.parts)
    if not places:
        return None
    for place, _ in places:
        left[place] = None
    small_args = tuple(left[place] for place in range(len(args)))
    small_kwargs = {name: left[name] for name in kwargs}
    rest = pack((small_args, small_kwargs, tuple(places)), has_script=has_script)
    parts.update((part.digest, part) for part in rest.parts)
    return Packed(rest.payload, tuple(parts.values()))


def run_parcel(
    payload: bytes, *blobs: Blob, on_end: Callable[[BaseException | None], object] | None = None
) -> bytes:
    """Run a packed call in the worker.

    Args:
        payload: The parcel's payload.
        *blobs: The parcel's blobs, in their order.
        on_end: Called once the function has ended, before the outcome is packed, with what it has
            raised.

    Returns:
        The packed outcome, for ``unpack_outcome``. Nothing is raised, not even ``SystemExit``.
    """
    try:
        shared, arguments, parts = pickle.loads(payload)
        digest, data = _reader_of(shared, blobs)
        received = received_from(digest, data)
        bundle = NOTHING if parts is None else bundle_from(*_reader_of(parts, blobs))
        function, load = received.function(), bundle.read
        args, kwargs, places = load(arguments)
        if places:
            args, kwargs = _filled(args, kwargs, places, [_bytes_of(blob) for blob in blobs], load)
    except BaseException as error:
        return pack_unreadable(error)
    return run_to_bytes(function, args, kwargs, on_end)


def _reader_of(shared: _Shared, blobs: tuple[Blob, ...]) -> tuple[bytes, Callable[[], bytes]]:
    if isinstance(shared, Wire):
        return shared.digest, lambda: shared.data
    digest, which = shared
    return digest, lambda: _bytes_of(blobs[which])


def _bytes_of(blob: Blob) -> bytes:
    return blob() if callable(blob) else blob


def _filled(
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    places: tuple[tuple[_Place, int], ...],
    blobs: list[bytes],
    load: Callable[[bytes], Any],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    filled = list(args)
    for place, which in places:
        # Each place gets a copy of its own, so that a function may change what it is given.
        value = load(blobs[which])
        if isinstance(place, int):
            filled[place] = value
        else:
            kwargs[place] = value
    return tuple(filled), kwargs


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
            # With the lock held: a file that is put again meanwhile has the same name.
            self._let_go(self._surplus(self._kept))

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
