"""From what a payload needs of scripts to the parts that travel with it."""

from __future__ import annotations

import hashlib
import io
import pickle
import types
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

from amltk._words import short_error
from amltk.executors.travel.namespaces import INTRINSIC, home_of
from amltk.executors.travel.outbound import Outbound
from amltk.executors.travel.parts import Need, Packed, Part

#: What is not told by the name that it is bound to: nobody can tell one such object from another
#: one, or it has a name of its own.
_NAMELESS: tuple[type, ...] = (
    int,
    float,
    complex,
    str,
    bytes,
    type(None),
    types.EllipsisType,
    range,
    slice,
    tuple,
)
_NAMELESS += (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)

#: How large a global may be that is sent to workers that should have it, since they have the script.
MOST_BYTES = 1 << 24


def pack(value: object, *, has_script: bool) -> Packed:
    """Pickle a value, and what it needs of scripts.

    Args:
        value: What is to travel.
        has_script: Whether workers are expected to have the script itself.

    Raises:
        Exception: Whatever cloudpickle raises when it cannot pickle the value.
    """
    with io.BytesIO() as file:
        pickler = Outbound(file)
        pickler.dump(value)
        payload = file.getvalue()
    most_bytes = MOST_BYTES if has_script else None
    return Packed(payload, _Collection(pickler, most_bytes=most_bytes).parts())


class _Bounded(io.BytesIO):
    """Takes so many bytes and no more."""

    def __init__(self, most_bytes: int | None) -> None:
        super().__init__()
        self._room = most_bytes

    def write(self, data: Any) -> int:
        """Take bytes."""
        if self._room is not None:
            self._room -= len(data)
            if self._room < 0:
                message = "it is too large for what workers should have, since they have the script"
                raise pickle.PicklingError(message)
        return super().write(data)


@dataclass(slots=True)
class _Piece:
    """Globals that have been pickled together."""

    needs: tuple[Need, ...]
    data: bytes = b""
    failure: str = ""
    references: list[Need] = field(default_factory=list)


class _Collection:
    """All that a payload needs of scripts, directly or not.

    Args:
        pickler: What has written the payload.
        most_bytes: How large a part may be; no limit by default.
    """

    def __init__(self, pickler: Outbound, *, most_bytes: int | None) -> None:
        self._most_bytes = most_bytes
        self._spaces: dict[str, dict[str, Any]] = {}
        self._bound: dict[int, Need] = {}
        self._pieces: dict[Need, _Piece] = {}
        self._surely: set[Need] = set()
        waiting = self._needed_by(pickler)
        while waiting:
            need = waiting.pop()
            if need not in self._pieces:
                self._pieces[need], used = self._pickle((need,))
                waiting += used
        # What is only maybe needed, and cannot be sent, is left out.
        for need in [n for n, p in self._pieces.items() if p.failure and n not in self._surely]:
            del self._pieces[need]

    def parts(self) -> tuple[Part, ...]:
        """Return them as they travel, each after those that it is told by name in."""
        while True:
            pieces = list({id(piece): piece for piece in self._pieces.values()}.values())
            graph = {
                place: {self._place_in(pieces, need) for need in piece.references} - {place, -1}
                for place, piece in enumerate(pieces)
            }
            try:
                order = list(TopologicalSorter(graph).static_order())
            except CycleError as error:
                self._join({need for place in error.args[1] for need in pieces[place].needs})
            else:
                return tuple(_part_of(pieces[place]) for place in order)

    def _place_in(self, pieces: list[_Piece], need: Need) -> int:
        found = self._pieces.get(need)
        return next((place for place, piece in enumerate(pieces) if piece is found), -1)

    def _needed_by(self, pickler: Outbound) -> list[Need]:
        for home_id, namespace in pickler.spaces.items():
            if home_id not in self._spaces:
                self._spaces[home_id] = namespace
                self._note_bound(namespace)
        self._surely.update(pickler.references, pickler.uses)
        return [*pickler.references, *pickler.uses, *pickler.maybes]

    def _note_bound(self, namespace: dict[str, Any]) -> None:
        home = home_of(namespace)
        if home is None:
            return
        for name, value in namespace.items():
            if name not in INTRINSIC and not isinstance(value, _NAMELESS):
                self._bound.setdefault(id(value), Need(home, name))

    def _pickle(self, needs: tuple[Need, ...]) -> tuple[_Piece, list[Need]]:
        values = tuple(self._value_of(need) for need in needs)
        with _Bounded(self._most_bytes) as file:
            pickler = Outbound(file, frozenset(needs), self._bound)
            try:
                pickler.dump(values)
            except Exception as error:
                names = " and ".join(f'"{need.name}"' for need in needs)
                failure = f"the global {names} of the script cannot be pickled: "
                return _Piece(needs, failure=failure + short_error(error)), []
            piece = _Piece(needs, file.getvalue(), "", list(pickler.references))
        return piece, self._needed_by(pickler)

    def _value_of(self, need: Need) -> Any:
        return self._spaces[need.home.id][need.name]

    def _join(self, needs: set[Need]) -> None:
        together = {member for need in needs for member in self._pieces[need].needs}
        in_order = sorted(together, key=lambda need: (need.home.id, need.name))
        piece, _ = self._pickle(tuple(in_order))
        for need in together:
            self._pieces[need] = piece


def _part_of(piece: _Piece) -> Part:
    told = repr(([(need.home.id, need.name) for need in piece.needs], piece.failure)).encode()
    digest = hashlib.blake2b(told + piece.data, digest_size=16).digest()
    return Part(digest, piece.needs, piece.data, piece.failure)
