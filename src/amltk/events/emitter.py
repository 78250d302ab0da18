"""The base class of all that emits events."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Hashable, Mapping
from inspect import getattr_static
from typing import Any, ParamSpec, TypeVar, overload

from amltk.events.event import Event, PlainEvent, Takes
from amltk.events.failure import Arguments
from amltk.events.manager import EventManager
from amltk.events.subscriber import Registrar, Subscriber
from amltk.exceptions import InvalidOptionError

P = ParamSpec("P")
CallbackT = TypeVar("CallbackT", bound=Callable[..., Any])
R = TypeVar("R")


class Emitter:
    """Something that emits events to listeners of its own.

    Two emitters of the same event have separate listeners.

    Args:
        name: How it is called in messages and views.
    """

    def __init__(self, name: str) -> None:
        self.event_manager: EventManager = EventManager(name)
        if type(self).emit is Emitter.emit:
            # Where nobody overrides it, one call less on the way, which costs more than the event.
            self.__dict__["emit"] = self.event_manager.emit

    @property
    def name(self) -> str:
        """How it is called in messages and views."""
        return self.event_manager.name

    @property
    def event_counts(self) -> dict[Hashable, int]:
        """How often each event was emitted so far; 0 for one that never was."""
        return self.event_manager.event_counts

    @overload
    def subscriber(self, event: Event[P]) -> Subscriber[P]: ...
    @overload
    def subscriber(self, event: PlainEvent) -> Subscriber[...]: ...
    def subscriber(self, event: Any) -> Subscriber[...]:
        """Return what registers callbacks for one event, also as a decorator.

        Args:
            event: The event.

        Returns:
            A subscriber, to be kept as ``self.on_...``.
        """
        return self.event_manager.subscriber(event)

    @overload
    def on(
        self,
        event: Takes[CallbackT],
        callback: CallbackT,
        *,
        name: str | None = None,
        when: Callable[[], object] | None = None,
        limit: int | None = None,
        repeat: int = 1,
        every: int = 1,
    ) -> CallbackT: ...
    @overload
    def on(
        self,
        event: Event[P],
        callback: Callable[[], R],
        *,
        name: str | None = None,
        when: Callable[[], object] | None = None,
        limit: int | None = None,
        repeat: int = 1,
        every: int = 1,
    ) -> Callable[[], R]: ...
    @overload
    def on(
        self,
        event: Event[P],
        callback: None = None,
        *,
        name: str | None = None,
        when: Callable[[], object] | None = None,
        limit: int | None = None,
        repeat: int = 1,
        every: int = 1,
    ) -> Registrar[P]: ...
    @overload
    def on(
        self,
        event: PlainEvent,
        callback: Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        when: Callable[[], object] | None = None,
        limit: int | None = None,
        repeat: int = 1,
        every: int = 1,
    ) -> Callable[..., Any]: ...
    def on(
        self,
        event: Any,
        callback: Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        when: Callable[[], object] | None = None,
        limit: int | None = None,
        repeat: int = 1,
        every: int = 1,
    ) -> Callable[..., Any]:
        """Register a callback for any event, or return a decorator that does.

        Args:
            event: The event, of this class or of a plugin.
            callback: Called with what the event passes; with nothing if it takes no arguments.
            name: For messages and ``remove``; the callback's own name by default.
            when: A predicate without arguments, asked at each emission.
            limit: The callback is called at most so many times ever.
            repeat: The callback is called so many times in a row at each emission.
            every: The callback is called only at each ``every``-th emission.

        Returns:
            The callback itself, or a decorator when none was given.

        Raises:
            InvalidCallbackError: When ``callback`` or ``when`` cannot be called.
            InvalidOptionError: When an option makes no sense, or the name is taken.
        """
        if isinstance(event, str):
            self._refuse_misspelt(event)
        subscriber: Subscriber[...] = self.subscriber(event)
        options: dict[str, Any] = {
            "name": name,
            "when": when,
            "limit": limit,
            "repeat": repeat,
            "every": every,
        }
        if callback is None:
            return subscriber(**options)
        return subscriber(callback, **options)

    def _refuse_misspelt(self, text: str) -> None:
        """Refuse a text that is meant to name one of this class's events, which are no texts.

        Raises:
            InvalidOptionError: When it is like one of their names.
        """
        names = {
            name.lower(): name
            for name in dir(type(self))
            if isinstance(getattr_static(type(self), name), Event)
        }
        plain = text.lower().replace("-", "_").removeprefix("on_")
        close = difflib.get_close_matches(plain, names, n=1, cutoff=0.75)
        if not close:
            return  # an event of the user's own
        kind, name = type(self).__qualname__, names[close[0]]
        message = (
            f"on({text!r}) would hear of an event of that text, which nobody emits here; give "
            f"{kind}.{name}, or use on_{close[0]}"
        )
        raise InvalidOptionError(message, option="event", value=text)

    @overload
    def emit(self, event: Event[P], /, *args: P.args, **kwargs: P.kwargs) -> None: ...
    @overload
    def emit(self, event: PlainEvent, /, *args: Any, **kwargs: Any) -> None: ...
    def emit(self, event: Any, /, *args: Any, **kwargs: Any) -> None:
        """Call the callbacks of an event, in the order of registration.

        Args:
            event: The event.
            *args: Passed on to the callbacks.
            **kwargs: Passed on to the callbacks.

        Raises:
            CallbackArgumentsError: When the arguments do not fit a callback.
            BaseException: What a callback raised, with a note that names event and callback.
        """
        self.event_manager.emit(event, *args, **kwargs)

    def emit_many(self, events: Mapping[Any, Arguments]) -> None:
        """Emit several events as one: callbacks run in the order of registration over all.

        Args:
            events: For each event the positional and the keyword arguments.
        """
        self.event_manager.emit_many(events)

    def remove(
        self, name_or_callback: str | Callable[..., object], event: Hashable | None = None
    ) -> int:
        """Remove a callback.

        Args:
            name_or_callback: The callback or its name; all of that name are removed.
            event: Only for this event; for all by default.

        Returns:
            How many registrations were removed.

        Raises:
            UnknownCallbackError: When there is no such callback.
        """
        return self.event_manager.remove(name_or_callback, event)
