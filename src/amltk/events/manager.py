"""Who listens to what, and the calling of those who listen.

::

    emit(event, 1) ──▶ channel of the event ──▶ callback, callback, callback
                        count += 1               in the order of registration

The listeners of a channel are replaced, never changed, when somebody registers or is removed: an
emission that is under way goes on with the ones it began with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from typing import Any, ParamSpec, TypeVar, overload

from amltk.events.caller import place_of_failure
from amltk.events.channel import Channel
from amltk.events.event import Event, PlainEvent, Takes, name_of_event
from amltk.events.failure import Arguments, CallbackFailure, failure_of
from amltk.events.handler import Handler, Options
from amltk.events.subscriber import Subscriber
from amltk.exceptions import InvalidOptionError, UnknownCallbackError

P = ParamSpec("P")
CallbackT = TypeVar("CallbackT", bound=Callable[..., Any])

#: Not an argument. Not UNSET, which somebody may want to pass on.
_NOTHING: Any = object()


class EventManager:
    """Calls the callbacks of events.

    Args:
        name: How it is called in messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._channels: dict[Hashable, Channel] = {}
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
        event: Takes[CallbackT],
        callback: CallbackT,
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
    def emit(
        self,
        event: Any,
        first: Any = _NOTHING,
        second: Any = _NOTHING,
        /,
        *rest: Any,
        **kwargs: Any,
    ) -> None:
        """Call the callbacks of an event, in the order of registration.

        Args:
            event: The event.
            first: With all that follows, passed on to the callbacks; the first two have names
                because that is much quicker than unpacking a star.
            second: As ``first``.
            *rest: As ``first``.
            **kwargs: Passed on to the callbacks.

        Raises:
            CallbackArgumentsError: When the arguments do not fit a callback.
            BaseException: What a callback raised, with a note that names event and callback.
        """
        try:
            channel = self._channels[event]
        except KeyError:
            channel = self._channel(event)
        channel.count += 1
        listeners = channel.listeners
        try:
            if second is _NOTHING and not kwargs:
                if first is _NOTHING:
                    listeners.call_with_0()
                else:
                    listeners.call_with_1(first)
                return
            if not rest and not kwargs:
                listeners.call_with_2(first, second)
                return
        except BaseException as error:
            place = place_of_failure(error.__traceback__)
            arguments = (_given(first, second), kwargs)
            self._failed(error, event, listeners.handlers[place], arguments)
            self._call_each(event, listeners.handlers[place + 1 :], arguments)
            return
        self._call_each(event, listeners.handlers, (_given(first, second) + rest, kwargs))

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
            handlers = channel.handlers
            if handlers:
                n_listening += 1
                planned.extend([(handler, event, arguments) for handler in handlers])
        if n_listening > 1:
            planned.sort(key=lambda one: one[0].order)
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
        channels = list(self._channels.values())
        if event is not None:
            channels = [self._channels[event]] if event in self._channels else []
        n_removed = 0
        for channel in channels:
            kept = tuple(h for h in channel.handlers if not _is(h, name_or_callback))
            n_removed += len(channel.handlers) - len(kept)
            if len(kept) != len(channel.handlers):
                channel.replace(kept)
        if not n_removed:
            names = sorted({h.name for channel in channels for h in channel.handlers})
            where = f'"{self.name}"' if event is None else name_of_event(event)
            message = (
                f"{name_or_callback!r} cannot be removed, since it does not listen to {where}; "
                f"these do: {', '.join(names) or 'none'}"
            )
            raise UnknownCallbackError(message)
        return n_removed

    def _channel(self, event: Hashable) -> Channel:
        channel = self._channels.get(event)
        if channel is None:
            # `setdefault` is atomic: two threads that come first get one channel.
            channel = self._channels.setdefault(event, Channel())
        return channel

    def _call_each(
        self, event: Hashable, handlers: tuple[Handler, ...], arguments: Arguments
    ) -> None:
        args, kwargs = arguments
        for handler in handlers:
            try:
                handler.call(*args, **kwargs)
            except BaseException as error:
                self._failed(error, event, handler, arguments)

    def _failed(
        self, error: BaseException, event: Hashable, handler: Handler, arguments: Arguments
    ) -> None:
        """Name event and callback in the error and hand it on, or raise it.

        Only ever called where an exception is being handled, so that what is raised keeps the
        traceback.
        """
        failure = failure_of(error, event, handler, arguments, self.name)
        if self.on_failure is None or not self.on_failure(failure):
            raise failure.error


class FailuresOf:
    """Notes which callbacks of a manager raise while the context lasts; all else is as ever.

    Args:
        manager: The manager, which is used by one thread then.
    """

    def __init__(self, manager: EventManager) -> None:
        self._manager = manager
        self._failures: list[CallbackFailure] = []

    def __enter__(self) -> list[CallbackFailure]:
        """Return the failures, those to come too."""
        self._before = self._manager.on_failure
        self._manager.on_failure = self._note
        return self._failures

    def __exit__(self, *_error: object) -> None:
        """Note no more."""
        self._manager.on_failure = self._before

    def _note(self, failure: CallbackFailure) -> bool:
        self._failures.append(failure)
        return self._before is not None and self._before(failure)


def _given(*values: Any) -> tuple[Any, ...]:
    return tuple(value for value in values if value is not _NOTHING)


def _is(handler: Handler, name_or_callback: object) -> bool:
    return name_or_callback in (handler.name, handler.callback)
