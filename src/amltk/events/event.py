"""The name of something that can happen."""

from __future__ import annotations

import enum
import operator
import sys
import uuid
import weakref
from collections.abc import Callable
from importlib import import_module
from typing import Any, Generic, ParamSpec, Protocol, Self, TypeVar

P = ParamSpec("P")
CallbackT = TypeVar("CallbackT", contravariant=True)

#: Anything hashable may be an event. For type checkers these kinds are listed one by one: an
#: overload for every hashable would also take a typed event whose callback does not fit.
PlainEvent = str | bytes | int | float | enum.Enum | tuple[Any, ...] | frozenset[Any] | type[Any]


class Takes(Protocol[CallbackT]):
    """An event, for type checkers, as that which takes callbacks of a type.

    With ``Event[P]`` and ``Callable[P, ...]`` side by side mypy finds some ``P`` for both, also
    where their numbers of arguments differ. Asked whether an event takes a callback, it does not.
    """

    def _takes(self, callback: CallbackT, /) -> None: ...


class Event(Generic[P]):
    """Something that can happen, with the types of what its callbacks receive.

    ``Event[int, str]`` is for callbacks that take an ``int`` and a ``str``, ``Event[[]]`` for those
    that take nothing. Two events are the same only if they are one object, so an event is pickled
    by the place it can be imported from: a class attribute or a global of a module. One that has
    no such place comes back as one object per process, in the process it came from as itself.

    Args:
        name: How the event is called in messages and views.
    """

    __slots__ = ("__weakref__", "_place", "_token", "name")

    def __init__(self, name: str) -> None:
        self.name: str = name
        self._place: tuple[str, str] | None = None
        self._token: str | None = None

    def __set_name__(self, owner: type, attribute: str) -> None:
        """Note the class attribute that this event is."""
        if self._place is None:
            self._place = owner.__module__, f"{owner.__qualname__}.{attribute}"

    def _takes(self, callback: Callable[P, object], /) -> None:
        """Do nothing; see ``Takes``."""

    def __repr__(self) -> str:
        """Show the name."""
        return f"Event({self.name!r})"

    def __copy__(self) -> Self:
        """Return the event itself: a copy would be another event."""
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        """Return the event itself: a copy would be another event."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the place to import from, or else a token to be known by."""
        place = self._place if _is_at(self._place, self) else _place_in_modules(self)
        if place is not None:
            return _import, place
        if self._token is None:
            self._token = uuid.uuid4().hex
            _by_token[self._token] = self
        return _of_token, (type(self), self._token, self.name)


#: Another process has another main module, so nothing can be imported from there.
_MAIN_MODULES = ("__main__", "__mp_main__")

#: Events that were pickled and have no place to be imported from.
_by_token: weakref.WeakValueDictionary[str, Event[...]] = weakref.WeakValueDictionary()


def _of_token(kind: type[Event[...]], token: str, name: str) -> Event[...]:
    event = _by_token.get(token)
    if event is None:
        event = _by_token[token] = kind(name)
        event._token = token
    return event


def _import(module: str, path: str) -> object:
    return operator.attrgetter(path)(import_module(module))


def _is_at(place: tuple[str, str] | None, event: Event[...]) -> bool:
    if place is None or place[0] in _MAIN_MODULES:
        return False
    try:
        return _import(*place) is event
    except (ImportError, AttributeError):
        return False


def _place_in_modules(event: Event[...]) -> tuple[str, str] | None:
    for name, module in list(sys.modules.items()):
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if value is event and name not in _MAIN_MODULES:
                return name, attribute
    return None


def name_of_event(event: object) -> str:
    """Name an event in a message."""
    return f'"{event.name}"' if isinstance(event, Event) else repr(event)
