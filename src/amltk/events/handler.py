"""One registered callback with its options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from amltk.exceptions import InvalidCallbackError, InvalidOptionError


@dataclass(frozen=True, slots=True)
class CallbackFailure:
    """A callback that raised, as whoever takes care of it is told.

    Attributes:
        emitter: Name of the event manager.
        event: The event that was emitted.
        callback: Name of the callback.
        error: What it raised.
    """

    emitter: str
    event: object
    callback: str
    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """When a callback is called, and how often.

    At each emission, in this order: ``when`` is asked; if it agrees the emission counts for
    ``every``; if it is this callback's turn it is called ``repeat`` times, each call counting for
    ``limit``.

    Raises:
        InvalidOptionError: When a value makes no sense.
    """

    name: str | None = None
    when: Callable[[], object] | None = None
    limit: int | None = None
    repeat: int = 1
    every: int = 1

    def __post_init__(self) -> None:
        """Refuse what makes no sense at registration, not at the first emission."""
        when: object = self.when
        if when is not None and not callable(when):
            message = f"when={self.when!r} cannot be called; give a function without arguments"
            raise InvalidCallbackError(message)
        if self.limit is not None:
            _check_number("limit", self.limit, 0)
        _check_number("repeat", self.repeat, 1)
        _check_number("every", self.every, 1)

    @property
    def are_plain(self) -> bool:
        """Whether the callback is simply called at each emission."""
        return self.when is None and self.limit is None and self.repeat == 1 and self.every == 1


def _check_number(option: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        message = f"{option}={value!r} is not possible; give a whole number from {least}"
        raise InvalidOptionError(message, option=option, value=value)


class Handler:
    """A callback that listens to one event.

    Args:
        callback: What the user registered.
        options: When and how often it is called.
        order: Its place in the order of registration of its manager.

    Raises:
        InvalidCallbackError: When ``callback`` cannot be a callback.
    """

    __slots__ = (
        "_n_agreed",
        "_n_calls",
        "_user_call",
        "call",
        "callback",
        "name",
        "options",
        "order",
    )

    def __init__(self, callback: Callable[..., object], options: Options, order: int) -> None:
        _check_callback(callback)
        self.callback = callback
        self.options = options
        self.order = order
        self.name = options.name or _name_of(callback)
        self._n_agreed = 0
        self._n_calls = 0
        self._user_call = _without_arguments(callback) if _takes_nothing(callback) else callback
        #: What an emission calls: the callback itself where nothing has to be decided.
        self.call = self._user_call if options.are_plain else self._call_by_options

    def _call_by_options(self, *args: Any, **kwargs: Any) -> None:
        options = self.options
        if options.when is not None and not options.when():
            return
        self._n_agreed += 1
        if self._n_agreed % options.every:
            return
        for _ in range(options.repeat):
            if options.limit is not None and self._n_calls >= options.limit:
                return
            self._n_calls += 1
            self._user_call(*args, **kwargs)


def _without_arguments(callback: Callable[[], object]) -> Callable[..., object]:
    def call(*_args: object, **_kwargs: object) -> None:
        callback()

    return call


def _takes_nothing(callback: Callable[..., object]) -> bool:
    try:
        return not inspect.signature(callback).parameters
    except (TypeError, ValueError):  # some builtins do not tell
        return False


def _name_of(callback: Callable[..., object]) -> str:
    inner = callback
    while isinstance(inner, functools.partial):
        inner = inner.func
    return getattr(inner, "__name__", None) or type(inner).__name__


def _check_callback(callback: object) -> None:
    if not callable(callback):
        message = f"{callback!r} cannot be a callback, since it cannot be called"
        raise InvalidCallbackError(message)
    inner: Any = callback
    while isinstance(inner, functools.partial):
        inner = inner.func
    if not inspect.isroutine(inner) and not inspect.isclass(inner):
        inner = type(inner).__call__
    if inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner):
        message = (
            f"{callback!r} cannot be a callback, since it is a coroutine function and nobody would "
            f"await it; register a function that starts it: asyncio.create_task(...)"
        )
        raise InvalidCallbackError(message)
