"""What a worker has of scripts, and how it reads payloads that need it.

::

    Bundle(parts) ── read once ──▶ each part's values, kept as long as a bundle has them
         │ activate: before each call of a function of another bundle than the last one's
         ▼
    the module of the script: each name is bound to what the driver has sent last, unless the
    worker's own code has bound it to something else since
"""

from __future__ import annotations

import io
import pickle
import threading
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from amltk.exceptions import CallUnpicklingError
from amltk.executors.travel.namespaces import (
    globals_at,
    reading_with,
    thing_named,
)

if TYPE_CHECKING:
    from amltk.executors.travel.parts import Need, Part

_MISSING: Any = object()

_lock = threading.RLock()


class _Loaded:
    """The values of a part."""

    __slots__ = ("__weakref__", "failure", "things")

    def __init__(self, things: dict[Need, Any], failure: str) -> None:
        self.things = things
        self.failure = failure


#: The parts that are here, as long as a bundle has them: of each one copy.
_loaded: weakref.WeakValueDictionary[bytes, _Loaded] = weakref.WeakValueDictionary()

#: What names were bound to last, by us, and the part that it is of, which is not read again as long
#: as it is bound; by the id of a namespace and a name in it.
_bound: dict[tuple[str, str], tuple[Any, _Loaded]] = {}

#: The bundle whose values the names of scripts have.
_active: Bundle | None = None


class Bundle:
    """Parts of scripts that belong together, since one payload needs them.

    Args:
        parts: The parts, each after those that it is told by name in.
    """

    def __init__(self, parts: Iterable[Part]) -> None:
        self._parts: list[_Loaded] = []
        #: All of them by namespace and name.
        self._things: dict[tuple[str, str], Any] = {}
        with _lock:
            for part in parts:
                self._take(part)

    def _take(self, part: Part) -> None:
        if all(_is_own(need) for need in part.needs):
            return  # this process has the script itself
        loaded = _loaded.get(part.digest)
        if loaded is None:
            values: tuple[Any, ...] = ()
            if not part.failure:
                with reading_with(self._things), io.BytesIO(part.data) as file:
                    values = _PartUnpickler(file).load()
            loaded = _Loaded(dict(zip(part.needs, values, strict=False)), part.failure)
            _loaded[part.digest] = loaded
        if loaded.failure:
            raise CallUnpicklingError(loaded.failure)
        self._parts.append(loaded)
        for need, value in loaded.things.items():
            self._things[need.home.id, need.name] = value
            if need.name not in globals_at(need.home):
                _bind(need, value, loaded)  # what is read next may call what looks it up

    def activate(self) -> None:
        """Bind the names of scripts to what has come with this bundle."""
        global _active  # noqa: PLW0603 - as there is one set of globals
        if _active is self:
            return
        with _lock:
            for loaded in self._parts:
                for need, value in loaded.things.items():
                    _bind(need, value, loaded)
            _active = self

    def read(self, payload: bytes | memoryview) -> Any:
        """Unpickle what needs these parts.

        Raises:
            Exception: Whatever unpickling raises.
        """
        with reading_with(self._things):
            return pickle.loads(payload)


class _PartUnpickler(pickle.Unpickler):
    def persistent_load(self, need: Need) -> Any:
        """Return what is told by the name that it is bound to."""
        return thing_named(need.home, need.name)


#: What payloads need that need nothing of scripts.
NOTHING: Bundle = Bundle(())


def _is_own(need: Need) -> bool:
    """Tell whether a name was here before the driver has sent anything for it."""
    return (need.home.id, need.name) not in _bound and need.name in globals_at(need.home)


def _bind(need: Need, value: Any, loaded: _Loaded) -> None:
    namespace, place = globals_at(need.home), (need.home.id, need.name)
    current = namespace.get(need.name, _MISSING)
    if current is _MISSING or current is _bound_to(place):
        namespace[need.name] = value
        _bound[place] = value, loaded


def _bound_to(place: tuple[str, str]) -> Any:
    bound = _bound.get(place)
    return object() if bound is None else bound[0]


def is_bound(home_id: str, name: str, thing: object) -> bool:
    """Tell whether a name of a driver's namespace stands for the very thing here that it has sent."""
    return _bound_to((home_id, name)) is thing
