"""The name of something that can happen."""

from __future__ import annotations

import enum
from typing import Any, Generic, ParamSpec, Self, TypeVar

P = ParamSpec("P")
SelfT = TypeVar("SelfT", bound="Event[...]")

#: Anything hashable may be an event. For type checkers these kinds are listed one by one: an
#: overload for every hashable would also take a typed event whose callback does not fit.
PlainEvent = str | bytes | int | float | enum.Enum | tuple[Any, ...] | frozenset[Any] | type[Any]


class Event(Generic[P]):
    """Something that can happen, with the types of what its callbacks receive.

    ``Event[int, str]`` is for callbacks that take an ``int`` and a ``str``, ``Event[[]]`` for those
    that take nothing. Two events are the same only if they are one object.

    Args:
        name: How the event is called in messages and views.
    """

    __slots__ = ("__weakref__", "name")

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        """Show the name."""
        return f"Event({self.name!r})"

    def __copy__(self) -> Self:
        """Return the event itself: a copy would be another event."""
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        """Return the event itself: a copy would be another event."""
        return self


def name_of_event(event: object) -> str:
    """Name an event in a message."""
    return f'"{event.name}"' if isinstance(event, Event) else repr(event)
