"""How often a task may be called, and how many of its calls may run at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from amltk.events import Event
from amltk.exceptions import InvalidOptionError
from amltk.scheduling.plugin import TaskPlugin

if TYPE_CHECKING:
    from amltk.scheduling.plugin import PlannedCall


class CallLimiter(TaskPlugin):
    """Refuse calls beyond a limit, and tell the task's listeners so.

    Args:
        max_calls: How many calls there may ever be.
        max_concurrent: How many calls may be submitted and not ended at one time.

    Raises:
        InvalidOptionError: When a limit is not a whole number from 0.
    """

    name: ClassVar[str] = "call-limiter"

    #: A call was refused because of ``max_calls``; passes its arguments.
    CALL_LIMIT_REACHED: ClassVar[Event[...]] = Event("call-limit-reached")
    #: A call was refused because of ``max_concurrent``; passes its arguments.
    CONCURRENT_LIMIT_REACHED: ClassVar[Event[...]] = Event("concurrent-limit-reached")

    def __init__(self, *, max_calls: int | None = None, max_concurrent: int | None = None) -> None:
        _check("max_calls", max_calls)
        _check("max_concurrent", max_concurrent)
        self.max_calls = max_calls
        self.max_concurrent = max_concurrent

    def pre_submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> PlannedCall | None:
        """Refuse the call if a limit is reached."""
        task = self.task
        if task is None:
            return fn, args, kwargs
        if self.max_calls is not None and task.n_called >= self.max_calls:
            self.emit_soon(self.CALL_LIMIT_REACHED, *args, **kwargs)
            return None
        if self.max_concurrent is not None and task.n_running >= self.max_concurrent:
            self.emit_soon(self.CONCURRENT_LIMIT_REACHED, *args, **kwargs)
            return None
        return fn, args, kwargs

    def events(self) -> Iterable[Event[...]]:
        """Tell which events the limiter emits on its task."""
        return self.CALL_LIMIT_REACHED, self.CONCURRENT_LIMIT_REACHED

    def copy(self) -> CallLimiter:
        """Return a limiter with the same limits that has counted nothing."""
        return CallLimiter(max_calls=self.max_calls, max_concurrent=self.max_concurrent)


def _check(option: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        message = f"{option}={value!r} is not possible; give a whole number from 0, or None"
        raise InvalidOptionError(message, option=option, value=value)
