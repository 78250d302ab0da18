"""What registers callbacks for one event: ``scheduler.on_start`` and its like."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload

from amltk.events.handler import Options

P = ParamSpec("P")
R = TypeVar("R")


class Manager(Protocol):
    """What a subscriber needs of an ``EventManager``."""

    @property
    def name(self) -> str:
        """How it is called in messages."""
        ...

    def register(
        self, event: Hashable, callback: Callable[..., object], options: Options, /
    ) -> str:
        """Register a callback."""
        ...

    def emit(self, event: Any, /, *args: Any, **kwargs: Any) -> None:
        """Call the callbacks of an event."""

    def remove(
        self, name_or_callback: str | Callable[..., object], event: Hashable | None, /
    ) -> int:
        """Remove a callback."""
        ...


class Subscriber(Generic[P]):
    """Registers callbacks for one event.

    Called with a callback it registers and returns it, so that it can be a decorator; called
    with options only it returns a decorator. Decorators of several subscribers stack.

    Args:
        manager: Whose event it is.
        event: The event.
    """

    __slots__ = ("_manager", "event")

    def __init__(self, manager: Manager, event: Hashable) -> None:
        self._manager = manager
        self.event: Hashable = event

    def __repr__(self) -> str:
        """Show the event and whose it is."""
        return f"Subscriber({self.event!r} of {self._manager.name!r})"

    @overload
    def __call__(
        self,
        callback: Callable[P, R],
        /,
        *,
        name: str | None = None,
        when: Callable[[], object] | None = None,
        limit: int | None = None,
        repeat: int = 1,
        every: int = 1,
    ) -> Callable[P, R]: ...
    @overload
    def __call__(
        self,
        callback: Callable[[], R],
        /,
        *,
        name: str | None = None,
        when: Callable[[], object] | None = None,
        limit: int | None = None,
        repeat: int = 1,
        every: int = 1,
    ) -> Callable[[], R]: ...
    @overload
    def __call__(
        self,
        callback: None = None,
        /,
        *,
        name: str | None = None,
        when: Callable[[], object] | None = None,
        limit: int | None = None,
        repeat: int = 1,
        every: int = 1,
    ) -> Registrar[P]: ...
    def __call__(
        self,
        callback: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        when: Callable[[], object] | None = None,
        limit: int | None = None,
        repeat: int = 1,
        every: int = 1,
    ) -> Callable[..., Any]:
        """Register a callback, or return a decorator that does.

        Args:
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
        options = Options(name=name, when=when, limit=limit, repeat=repeat, every=every)
        registrar = Registrar[P](self._manager, self.event, options)
        return registrar if callback is None else registrar(callback)

    def emit(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Emit the event.

        Args:
            *args: Passed on to the callbacks.
            **kwargs: Passed on to the callbacks.
        """
        self._manager.emit(self.event, *args, **kwargs)

    def remove(self, name_or_callback: str | Callable[..., object]) -> int:
        """Remove a callback from this event.

        Args:
            name_or_callback: The callback or its name.

        Returns:
            How many registrations were removed.

        Raises:
            UnknownCallbackError: When there is no such callback.
        """
        return self._manager.remove(name_or_callback, self.event)


class Registrar(Generic[P]):
    """The decorator that a subscriber called with options returns."""

    __slots__ = ("_event", "_manager", "_options")

    def __init__(self, manager: Manager, event: Hashable, options: Options) -> None:
        self._manager = manager
        self._event = event
        self._options = options

    @overload
    def __call__(self, callback: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def __call__(self, callback: Callable[[], R], /) -> Callable[[], R]: ...
    def __call__(self, callback: Callable[..., Any], /) -> Callable[..., Any]:
        """Register the callback and return it."""
        self._manager.register(self._event, callback, self._options)
        return callback
