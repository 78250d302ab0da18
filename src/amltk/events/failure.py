"""What became of a callback that raised."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from amltk._errors import add_note, set_cause
from amltk._signatures import signature_of
from amltk._words import short_repr
from amltk.events.event import name_of_event
from amltk.events.handler import Handler
from amltk.exceptions import CallbackArgumentsError

#: What is passed on to callbacks.
Arguments = tuple[tuple[Any, ...], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class CallbackFailure:
    """A callback that raised, as whoever takes care of it is told.

    Attributes:
        event: The event that was emitted.
        callback_name: Name of the callback.
        callback: What was registered.
        error: What it raised.
        emitter_name: Name of the event manager.
    """

    event: Hashable
    callback_name: str
    callback: Callable[..., object]
    error: BaseException
    emitter_name: str


def failure_of(
    error: BaseException,
    event: Hashable,
    handler: Handler,
    arguments: Arguments,
    emitter_name: str,
) -> CallbackFailure:
    """Name emitter, event and callback in the error, and put it on record."""
    mismatch = _mismatch_of(error, event, handler, arguments)
    if mismatch is not None:
        set_cause(mismatch, error)
        error = mismatch
    add_note(
        error,
        f'raised in callback "{handler.name}" of event {name_of_event(event)} of "{emitter_name}"',
    )
    return CallbackFailure(event, handler.name, handler.callback, error, emitter_name)


def _mismatch_of(
    error: BaseException, event: Hashable, handler: Handler, arguments: Arguments
) -> CallbackArgumentsError | None:
    """Tell a call that did not fit its callback from an error inside the callback."""
    # An error of a nested emission passes through here as well, and is about another callback.
    if not isinstance(error, TypeError) or isinstance(error, CallbackArgumentsError):
        return None
    if handler.takes_nothing or error.__traceback__ is None:
        return None
    innermost = error.__traceback__
    while innermost.tb_next is not None:
        innermost = innermost.tb_next
    if not innermost.tb_frame.f_globals.get("__name__", "").startswith("amltk.events"):
        return None
    args, kwargs = arguments
    try:
        signature = signature_of(handler.callback)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(*args, **kwargs)
    except TypeError as reason:
        shown = [short_repr(value) for value in args]
        shown += [f"{name}={short_repr(value)}" for name, value in kwargs.items()]
        message = (
            f'callback "{handler.name}" takes {signature}, but event {name_of_event(event)} was '
            f"emitted with ({', '.join(shown)}): {reason}; change one of them, or let the "
            f"callback take no arguments at all"
        )
        return CallbackArgumentsError(message, callback=handler.name, event=event)
    return None
