"""Contexts written as generators, through which any exception passes as it is.

``contextlib.contextmanager`` sets the traceback of what passes through it, which exceptions that take
no attributes refuse, such as those of frozen dataclasses: their own error takes their place.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def context(make: Callable[P, Iterator[T]]) -> Callable[P, AbstractContextManager[T]]:
    """Make a context of a generator that yields once, in the way of ``contextmanager``.

    Args:
        make: The generator function.
    """

    @functools.wraps(make)
    def enter(*args: P.args, **kwargs: P.kwargs) -> _Context[T]:
        return _Context(make(*args, **kwargs))

    return enter


class _Context(AbstractContextManager[T], Generic[T]):
    def __init__(self, steps: Iterator[T]) -> None:
        self._steps = steps

    def __enter__(self) -> T:
        return next(self._steps)

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> bool:
        if error is None:
            for _ in self._steps:
                message = "a context has to yield once"
                raise RuntimeError(message)
            return False
        try:
            self._steps.throw(error)  # type: ignore[attr-defined] # it is a generator
        except StopIteration as end:
            return end is not error
        except BaseException as raised:
            # A generator makes another error of a `StopIteration`, with it as the cause.
            if raised is error or (isinstance(error, StopIteration) and raised.__cause__ is error):
                return False
            raise
        message = "a context has to end with what is raised in it"
        raise RuntimeError(message)
