"""Who listens to what, and the calling of those who listen.

::

    emit(event, 1) ──▶ channel of the event ──▶ callback, callback, callback
                        count += 1               in the order of registration

The tuples of a channel are replaced, never changed, when somebody registers or is removed: an
emission that is under way goes on with the ones it began with.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, ParamSpec, overload

from amltk.events.event import Event, PlainEvent, name_of_event
from amltk.events.handler import CallbackFailure, Handler, Options
from amltk.events.subscriber import Subscriber
from amltk.exceptions import CallbackArgumentsError, InvalidOptionError, UnknownCallbackError

P = ParamSpec("P")

#: What is passed on to callbacks.
Arguments = tuple[tuple[Any, ...], Mapping[str, Any]]


class _Channel:
    """One event: how often it was emitted and who listens."""

    __slots__ = ("count", "listeners")

    def __init__(self) -> None:
        self.count = 0
        #: The handlers and, so that emitting is quick, what to call for each of them.
        self.listeners: tuple[tuple[Handler, ...], tuple[Callable[..., object], ...]] = ((), ())

    @property
    def handlers(self) -> tuple[Handler, ...]:
        return self.listeners[0]

    def replace(self, handlers: tuple[Handler, ...]) -> None:
        self.listeners = handlers, tuple(handler.call for handler in handlers)


class EventManager:
    """Calls the callbacks of events.

    Args:
        name: How it is called in messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._channels: dict[Hashable, _Channel] = {}
        self._n_registered = 0
        #: Hears of callbacks that raise, and says whether it has taken care of the error; the
        #: emission then goes on. Where it has not, or there is none, ``emit`` raises.
        self.on_failure: Callable[[CallbackFailure], bool] | None = None

    def __repr__(self) -> str:
        """Show the name."""
        return f"{type(self).__name__}({self.name!r})"

    @property
    def events(self) -> list[Hashable]:
        """The events that anybody listens to or that were emitted, in the order they came up."""
        return list(self._channels)

    @property
    def event_counts(self) -> dict[Hashable, int]:
        """How often each event was emitted so far; 0 for one that never was."""
        return Counter({e: c.count for e, c in self._channels.items() if c.count})

    @overload
    def on(
        self,
        event: Event[P],
        callback: Callable[P, object],
        *,
        name: str | None = None,
        when: Callable[[], object] | None = None,
        limit: int | None = None,
        repeat: int = 1,
        every: int = 1,
    ) -> str: ...
    @overload
    def on(
        self,
        event: Event[P],
        callback: Callable[[], object],
        *,
        name: str | None = None,
        when: Callable[[], object] | None = None,
        limit: int | None = None,
        repeat: int = 1,
        every: int = 1,
    ) -> str: ...
    @overload
    def on(
        self,
        event: PlainEvent,
        callback: Callable[..., object],
        *,
        name: str | None = None,
        when: Callable[[], object] | None = None,
        limit: int | None = None,
        repeat: int = 1,
        every: int = 1,
    ) -> str: ...
    def on(
        self,
        event: Any,
        callback: Callable[..., object],
        *,
        name: str | None = None,
        when: Callable[[], object] | None = None,
        limit: int | None = None,
        repeat: int = 1,
        every: int = 1,
    ) -> str:
        """Register a callback for an event.

        Args:
            event: The event to listen to.
            callback: Called with what the event passes; with nothing if it takes no arguments.
            name: For messages and ``remove``; the callback's own name by default.
            when: A predicate without arguments, asked at each emission.
            limit: The callback is called at most so many times ever.
            repeat: The callback is called so many times in a row at each emission.
            every: The callback is called only at each ``every``-th emission.

        Returns:
            The callback's name.

        Raises:
            InvalidCallbackError: When ``callback`` or ``when`` cannot be called.
            InvalidOptionError: When an option makes no sense, or the name is taken.
        """
        options = Options(name=name, when=when, limit=limit, repeat=repeat, every=every)
        return self.register(event, callback, options)

    def register(self, event: Hashable, callback: Callable[..., object], options: Options) -> str:
        """Register a callback with options that were checked before; see ``on``."""
        channel = self._channel(event)
        if options.name is not None and any(h.name == options.name for h in channel.handlers):
            message = (
                f'a callback named "{options.name}" listens to {name_of_event(event)} of '
                f'"{self.name}" already; choose another name, or remove that one first'
            )
            raise InvalidOptionError(message, option="name", value=options.name)
        handler = Handler(callback, options, self._n_registered)
        self._n_registered += 1
        channel.replace((*channel.handlers, handler))
        return handler.name

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
        channel = self._channels.get(event) or self._channel(event)
        channel.count += 1
        handlers, calls = channel.listeners
        if not calls:
            return
        remaining = iter(calls)
        # One loop for each of the usual numbers of arguments: calling with a star costs half as
        # much again as the call itself.
        try:
            if kwargs or len(args) > 2:  # noqa: PLR2004 - three are rare enough
                for call in remaining:
                    call(*args, **kwargs)
            elif not args:
                for call in remaining:
                    call()
            elif len(args) == 1:
                first = args[0]
                for call in remaining:
                    call(first)
            else:
                first, second = args
                for call in remaining:
                    call(first, second)
        except BaseException as error:
            self._go_on_after(error, event, handlers, remaining, (args, kwargs))

    def emit_many(self, events: Mapping[Any, Arguments]) -> None:
        """Emit several events as one: callbacks run in the order of registration over all.

        Args:
            events: For each event the positional and the keyword arguments.

        Raises:
            CallbackArgumentsError: When the arguments do not fit a callback.
            BaseException: What a callback raised, with a note that names event and callback.
        """
        planned: list[tuple[Handler, Hashable, Arguments]] = []
        n_listening = 0
        for event, arguments in events.items():
            channel = self._channels.get(event) or self._channel(event)
            channel.count += 1
            handlers = channel.listeners[0]
            if handlers:
                n_listening += 1
                planned.extend([(handler, event, arguments) for handler in handlers])
        if n_listening > 1:
            planned.sort(key=_by_order)
        for handler, event, (args, kwargs) in planned:
            try:
                handler.call(*args, **kwargs)
            except BaseException as error:
                self._failed(error, event, handler, (args, kwargs))

    @overload
    def subscriber(self, event: Event[P]) -> Subscriber[P]: ...
    @overload
    def subscriber(self, event: PlainEvent) -> Subscriber[...]: ...
    def subscriber(self, event: Any) -> Subscriber[...]:
        """Return what registers callbacks for one event, also as a decorator."""
        return Subscriber(self, event)

    def has(self, event: Hashable) -> bool:
        """Tell whether anybody listens to an event."""
        channel = self._channels.get(event)
        return channel is not None and bool(channel.handlers)

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
        channels = self._channels if event is None else {event: self._channel(event)}
        n_removed = 0
        for channel in channels.values():
            kept = tuple(h for h in channel.handlers if not _is(h, name_or_callback))
            n_removed += len(channel.handlers) - len(kept)
            if len(kept) != len(channel.handlers):
                channel.replace(kept)
        if not n_removed:
            names = sorted({h.name for channel in channels.values() for h in channel.handlers})
            where = f'"{self.name}"' if event is None else name_of_event(event)
            message = (
                f"{name_or_callback!r} cannot be removed, since it does not listen to {where}; "
                f"these do: {', '.join(names) or 'none'}"
            )
            raise UnknownCallbackError(message)
        return n_removed

    def _channel(self, event: Hashable) -> _Channel:
        channel = self._channels.get(event)
        if channel is None:
            # `setdefault` is atomic: two threads that come first get one channel.
            channel = self._channels.setdefault(event, _Channel())
        return channel

    def _go_on_after(
        self,
        error: BaseException,
        event: Hashable,
        handlers: tuple[Handler, ...],
        remaining: Iterator[Callable[..., object]],
        arguments: Arguments,
    ) -> None:
        """Report a callback that raised and call those that come after it."""
        args, kwargs = arguments
        n_left = remaining.__length_hint__()  # type: ignore[attr-defined] # tuple iterators know
        place = len(handlers) - n_left
        self._failed(error, event, handlers[place - 1], arguments)
        for handler in handlers[place:]:
            try:
                handler.call(*args, **kwargs)
            except BaseException as another:
                self._failed(another, event, handler, arguments)

    def _failed(
        self, error: BaseException, event: Hashable, handler: Handler, arguments: Arguments
    ) -> None:
        """Name event and callback in the error and hand it on, or raise it.

        Only ever called where an exception is being handled, so that what is raised keeps the
        traceback.
        """
        mismatch = _mismatch(error, event, handler, arguments)
        if mismatch is not None:
            mismatch.__cause__ = error
            error = mismatch
        note = (
            f'raised in callback "{handler.name}" of event {name_of_event(event)} of "{self.name}"'
        )
        error.add_note(note)
        failure = CallbackFailure(self.name, event, handler.name, error)
        if self.on_failure is None or not self.on_failure(failure):
            raise error


def _by_order(planned: tuple[Handler, Hashable, Arguments]) -> int:
    return planned[0].order


def _is(handler: Handler, name_or_callback: object) -> bool:
    return name_or_callback in (handler.name, handler.callback)


def _mismatch(
    error: BaseException, event: Hashable, handler: Handler, arguments: Arguments
) -> CallbackArgumentsError | None:
    """Tell a call that did not fit its callback from an error inside the callback."""
    if not isinstance(error, TypeError) or error.__traceback__ is None:
        return None
    innermost = error.__traceback__
    while innermost.tb_next is not None:
        innermost = innermost.tb_next
    if not innermost.tb_frame.f_globals.get("__name__", "").startswith("amltk.events"):
        return None
    args, kwargs = arguments
    try:
        signature = inspect.signature(handler.callback)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(*args, **kwargs)
    except TypeError as reason:
        shown = [repr(value) for value in args] + [f"{k}={v!r}" for k, v in kwargs.items()]
        message = (
            f'callback "{handler.name}" takes {signature}, but event {name_of_event(event)} was '
            f"emitted with ({', '.join(shown)}): {reason}; change one of them, or let the "
            f"callback take no arguments at all"
        )
        return CallbackArgumentsError(message, callback=handler.name, event=event)
    return None
