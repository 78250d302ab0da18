"""One registered callback with its options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from amltk._checks import check_whole
from amltk._signatures import signature_of
from amltk.exceptions import InvalidCallbackError, InvalidOptionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """When a callback is called, and how often.

    Each emission counts for ``every``, and ``when`` is asked at each, whether or not it is this
    callback's turn. If it is and ``when`` agrees, the callback is called ``repeat`` times, each
    call counting for ``limit`` even if it raises.

    Raises:
        InvalidOptionError: When a value makes no sense.
        InvalidCallbackError: When ``when`` cannot be asked.
    """

    name: str | None = None
    when: Callable[[], object] | None = None
    limit: int | None = None
    repeat: int = 1
    every: int = 1

    def __post_init__(self) -> None:
        """Refuse what makes no sense at registration, not at the first emission."""
        if self.when is not None:
            check_callback(self.when, role="when")
            _check_predicate(self.when)
        name: object = self.name
        if name is not None and (not isinstance(name, str) or not name):
            message = f"name={name!r} is not possible; give a text that is not empty"
            raise InvalidOptionError(message, option="name", value=name)
        if self.limit is not None:
            check_whole("limit", self.limit, least=0)
        check_whole("repeat", self.repeat, least=1)
        check_whole("every", self.every, least=1)

    @property
    def are_plain(self) -> bool:
        """Whether the callback is simply called at each emission."""
        return self.when is None and self.limit is None and self.repeat == 1 and self.every == 1


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
        "_n_calls",
        "_n_emissions",
        "_user_call",
        "call",
        "callback",
        "name",
        "options",
        "order",
        "takes_nothing",
    )

    def __init__(self, callback: Callable[..., object], options: Options, order: int) -> None:
        check_callback(callback, role="a callback")
        self.callback: Callable[..., object] = callback
        self.options: Options = options
        self.order: int = order
        self.name: str = options.name or _name_of(callback)
        self._n_emissions = 0
        self._n_calls = 0
        self.takes_nothing: bool = _takes_nothing(callback)
        self._user_call = _without_arguments(callback) if self.takes_nothing else callback
        #: What an emission calls: the callback itself where nothing has to be decided.
        self.call: Callable[..., object] = (
            self._user_call if options.are_plain else self._call_by_options
        )

    def _call_by_options(self, *args: Any, **kwargs: Any) -> None:
        options = self.options
        self._n_emissions += 1
        is_turn = self._n_emissions % options.every == 0
        agrees = options.when is None or options.when()
        if not (is_turn and agrees):
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
        return not signature_of(callback).parameters
    except (TypeError, ValueError):  # some builtins do not tell
        return False


def _name_of(callback: Callable[..., object]) -> str:
    inner = callback
    while isinstance(inner, functools.partial):
        inner = inner.func
    return getattr(inner, "__name__", None) or type(inner).__name__


def _check_predicate(when: Callable[[], object]) -> None:
    try:
        signature_of(when).bind()
    except TypeError as error:
        message = f"when={when!r} cannot be asked, since it is called without arguments: {error}"
        raise InvalidCallbackError(message) from error
    except ValueError:  # some builtins do not tell
        pass


def check_callback(callback: object, role: str) -> None:
    """Refuse what cannot be called back.

    Args:
        callback: What was given.
        role: What it was to be.

    Raises:
        InvalidCallbackError: When it cannot be called, or is a coroutine function.
    """
    if not callable(callback):
        message = f"{callback!r} cannot be {role}, since it cannot be called"
        raise InvalidCallbackError(message, callback=callback)
    if is_coroutine_function(callback):
        message = (
            f"{callback!r} cannot be {role}, since it is a coroutine function and nobody would "
            f"await it; give a plain function, which may start it: asyncio.create_task(...)"
        )
        raise InvalidCallbackError(message, callback=callback)


def is_coroutine_function(function: object) -> bool:
    """Tell whether calling something returns what has to be awaited."""
    inner: Any = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    called = (inner,) if inspect.isclass(inner) else (inner, type(inner).__call__)
    return any(inspect.iscoroutinefunction(c) or inspect.isasyncgenfunction(c) for c in called)
