"""Limits of wall time, CPU time and memory for each call of a task; extra: ``pynisher``.

::

    worker ──▶ a process for the call, with limits ──▶ the function
      ▲                     │
      └── its outcome, or the limit that it has reached

What does the work in the worker is in the room ``_pynisher``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from amltk.events import Event
from amltk.exceptions import InvalidOptionError, MissingExtraError
from amltk.executors.travel.envelope import PortableFunction
from amltk.plugins._pynisher.library import load
from amltk.plugins._pynisher.limits import (
    MEMORY_MODES,
    START_METHODS,
    Amount,
    Limits,
    MemoryMode,
    StartMethod,
    bytes_of,
    check_choice,
    seconds_of,
)
from amltk.scheduling.plugin import Layer, WorkerPlugin, Wrapped

if TYPE_CHECKING:
    from amltk.scheduling.task import Task

E = TypeVar("E", bound=Exception)


class _ExceptionType(Generic[E]):
    """One of pynisher's exceptions as an attribute, found when it is first asked for."""

    def __init__(self, name: str, kind: type[E]) -> None:
        del kind  # what it is derived from, for type checkers
        self._name = name

    def __get__(self, instance: object, owner: type[object]) -> type[E]:
        try:
            kind: type[E] = getattr(_pynisher(), self._name)
        except MissingExtraError as error:  # what looks at all attributes takes it as one less
            raise AttributeError(str(error)) from error
        return kind


def _pynisher() -> Any:
    return load()


class PynisherPlugin(WorkerPlugin):
    """Run each call in a process of its own, within limits.

    A call that reaches a limit is ended with everything that it has started, raises one of
    pynisher's exceptions, and has the task's listeners told which limit it was. Amounts are numbers
    of bytes or seconds, or pairs with a unit, such as ``(2, "gb")`` or ``(5, "m")``: b, kb, mb, gb
    and tb, each 1024 times the one before, and s, m and h.

    Args:
        memory_limit: How much memory a call may add to what its process starts with.
        cpu_time_limit: How much CPU time a call may take, rounded up to whole seconds.
        wall_time_limit: How long a call may take.
        memory_mode: What the memory limit counts: ``"address_space"``, the addresses that the
            call's process has reserved, or ``"rss"``, what is in memory of that process and of all
            that it has started.
        context: How the process is started: ``"fork"``, ``"forkserver"`` or ``"spawn"``. By default
            a worker with a single thread is forked, and *forkserver* is used in others.
        preload: Names of modules that the server of *forkserver* imports once, so that not each
            call has to.

    Raises:
        MissingExtraError: When pynisher is not installed.
        InvalidOptionError: When an option makes no sense, or the limit is not possible here.
    """

    name: ClassVar[str] = "pynisher"
    layer: ClassVar[Layer] = Layer.PROCESS

    #: A call took too long, in wall time or CPU time; comes before the event that says in which.
    TIMEOUT: ClassVar[Event[BaseException]] = Event("pynisher-timeout")
    #: A call took too long in wall time.
    WALL_TIME_LIMIT_REACHED: ClassVar[Event[BaseException]] = Event(
        "pynisher-wall-time-limit-reached"
    )
    #: A call took too much CPU time.
    CPU_TIME_LIMIT_REACHED: ClassVar[Event[BaseException]] = Event(
        "pynisher-cpu-time-limit-reached"
    )
    #: A call needed too much memory; also where a trial has caught the ``MemoryError`` itself.
    MEMORY_LIMIT_REACHED: ClassVar[Event[BaseException]] = Event("pynisher-memory-limit-reached")

    #: What all exceptions of limits are.
    PynisherException: _ExceptionType[Exception] = _ExceptionType("PynisherException", Exception)
    #: Raised by a call that took too long; one of the next two.
    TimeoutException: _ExceptionType[Exception] = _ExceptionType("TimeoutException", Exception)
    #: Raised by a call that took too long in wall time.
    WallTimeoutException: _ExceptionType[Exception] = _ExceptionType(
        "WallTimeoutException", Exception
    )
    #: Raised by a call that took too much CPU time.
    CpuTimeoutException: _ExceptionType[Exception] = _ExceptionType(
        "CpuTimeoutException", Exception
    )
    #: Raised by a call that needed too much memory; it is a ``MemoryError`` too.
    MemoryLimitException: _ExceptionType[MemoryError] = _ExceptionType(
        "MemoryLimitException", MemoryError
    )

    def __init__(
        self,
        *,
        memory_limit: Amount | None = None,
        cpu_time_limit: Amount | None = None,
        wall_time_limit: Amount | None = None,
        memory_mode: MemoryMode = "address_space",
        context: StartMethod | None = None,
        preload: Iterable[str] = (),
    ) -> None:
        check_choice("memory_mode", memory_mode, MEMORY_MODES)
        if context is not None:
            check_choice("context", context, START_METHODS)
        #: Bytes.
        self.memory_limit: int | None = bytes_of("memory_limit", memory_limit)
        cpu_time_s = seconds_of("cpu_time_limit", cpu_time_limit)
        #: Whole seconds.
        self.cpu_time_limit: int | None = None if cpu_time_s is None else math.ceil(cpu_time_s)
        #: Seconds.
        self.wall_time_limit: float | None = seconds_of("wall_time_limit", wall_time_limit)
        self.memory_mode: MemoryMode = memory_mode
        self.context: StartMethod | None = context
        self.preload: tuple[str, ...] = _names(preload)
        self._refuse_what_is_not_possible(_pynisher())

    def attach_task(self, task: Task[..., Any]) -> None:
        """Listen to the task, to tell which limits its calls reach."""
        task.on_exception(self._tell)
        task.on_returned(self._look)

    def wrap(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Return what runs the function within the limits."""
        limits = Limits(
            memory=self.memory_limit,
            cpu_time_s=self.cpu_time_limit,
            wall_time_s=self.wall_time_limit,
            memory_mode=self.memory_mode,
            context=self.context,
            preload=self.preload,
        )
        return _Limited(fn, limits)

    def events(self) -> Iterable[Event[...]]:
        """Tell which events the plugin emits on its task."""
        return (
            self.TIMEOUT,
            self.WALL_TIME_LIMIT_REACHED,
            self.CPU_TIME_LIMIT_REACHED,
            self.MEMORY_LIMIT_REACHED,
        )

    def copy(self) -> Self:
        """Return a plugin with the same limits, for another task."""
        return type(self)(
            memory_limit=self.memory_limit,
            cpu_time_limit=self.cpu_time_limit,
            wall_time_limit=self.wall_time_limit,
            memory_mode=self.memory_mode,
            context=self.context,
            preload=self.preload,
        )

    def _tell(self, error: BaseException) -> None:
        if isinstance(error, self.TimeoutException):
            self.emit(self.TIMEOUT, error)
        if isinstance(error, self.WallTimeoutException):
            self.emit(self.WALL_TIME_LIMIT_REACHED, error)
        if isinstance(error, self.CpuTimeoutException):
            self.emit(self.CPU_TIME_LIMIT_REACHED, error)
        if isinstance(error, self.MemoryLimitException):
            self.emit(self.MEMORY_LIMIT_REACHED, error)

    def _look(self, result: object) -> None:
        """Tell of a memory limit that a trial has caught itself: its report has the exception."""
        error = getattr(result, "exception", None)
        is_limited = self.memory_limit is not None and self.memory_mode == "address_space"
        if is_limited and isinstance(error, MemoryError):
            self.emit(self.MEMORY_LIMIT_REACHED, error)

    def _refuse_what_is_not_possible(self, pynisher: Any) -> None:
        counts_addresses = self.memory_mode == "address_space"
        if self.memory_limit is not None and counts_addresses and not pynisher.supports("memory"):
            message = (
                f"memory_limit={self.memory_limit} is not possible: pynisher cannot limit the "
                f'address space on this system; give memory_mode="rss"'
            )
            raise InvalidOptionError(message, option="memory_limit", value=self.memory_limit)
        if self.cpu_time_limit is not None and not pynisher.supports("cpu_time"):
            message = (
                f"cpu_time_limit={self.cpu_time_limit} is not possible: pynisher cannot limit CPU "
                f"time on this system; limit the wall time"
            )
            raise InvalidOptionError(message, option="cpu_time_limit", value=self.cpu_time_limit)


class _Limited(Wrapped):
    """Calls a function in a process of its own, within limits."""

    def __init__(self, fn: Callable[..., Any], limits: Limits) -> None:
        super().__init__(fn)
        self._limits = limits
        self._portable: PortableFunction[..., Any] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; called in the worker."""
        from amltk.plugins._pynisher.call import call_limited

        if self._portable is None:
            self._portable = PortableFunction(self.fn)
        return call_limited(self._portable, args, kwargs, self._limits)

    def __getstate__(self) -> dict[str, Any]:
        """Travel without what is made in the worker."""
        return {**self.__dict__, "_portable": None}


def _names(preload: object) -> tuple[str, ...]:
    if isinstance(preload, Iterable) and not isinstance(preload, str):
        names = tuple(preload)
        if all(isinstance(name, str) for name in names):
            return names
    message = (
        f'preload={preload!r} is not possible; give names of modules, such as ["numpy", "sklearn"]'
    )
    raise InvalidOptionError(message, option="preload", value=preload)
