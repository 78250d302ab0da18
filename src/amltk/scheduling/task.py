"""A function that is sent off when it is called, with events for what becomes of each call.

::

    task(x) ── plugins ──▶ dispatcher ──▶ worker
                                │
    call_submitted, call_returned, …  (told by the run, in the loop's thread)
                                ▼
                      the task's events ──▶ your callbacks
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Concatenate,
    Generic,
    ParamSpec,
    Self,
    TypeVar,
    cast,
)

from amltk.events import Emitter, Event, EventManager, Subscriber
from amltk.events.handler import is_coroutine_function
from amltk.exceptions import InvalidCallbackError, InvalidOptionError
from amltk.executors.registry import portable
from amltk.scheduling.attempts import check_delay
from amltk.scheduling.batch import Batch as TaskBatch
from amltk.scheduling.driverside import DriverSide
from amltk.scheduling.future import Future
from amltk.scheduling.lineup import Lineup
from amltk.scheduling.plugin import TaskPlugin
from amltk.scheduling.snapshot import TaskSnapshot

if TYPE_CHECKING:
    from amltk.scheduling.dispatcher import Dispatcher

P = ParamSpec("P")
R = TypeVar("R")
Q = ParamSpec("Q")


class _OfComm:
    """Stands for a subscriber until ``Comm.Plugin`` sets it, and tells that it is missing."""

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    def __get__(self, task: Task[..., Any] | None, _owner: type) -> Any:
        if task is None:
            return self
        message = (
            f"{task.name!r} has no {self._name}, since it has no Comm.Plugin; make it with "
            f"Task(..., plugins=[Comm.Plugin()])"
        )
        raise AttributeError(message)


class _Tally(Generic[R]):
    """What a task counts, shared by all its views with options."""

    __slots__ = ("live", "n_called")

    def __init__(self) -> None:
        self.n_called = 0
        #: By identity, since each run counts its calls from 0; a dict for the order.
        self.live: dict[Future[R], None] = {}


class Task(DriverSide, Emitter, Generic[P, R]):
    """A function with events, run by a scheduler.

    Args:
        function: What to run, anywhere the scheduler's executor runs things.
        scheduler: Who runs it.
        name: How the task is called in messages and views; the function's name by default.
        plugins: What changes how it runs, in this order.

    Raises:
        InvalidCallbackError: When ``function`` cannot be called.
        InvalidOptionError: When a plugin belongs to another task, or cannot work on the engine.
    """

    #: A call was handed to the executor.
    SUBMITTED: ClassVar[Event[Future[Any]]] = Event("task-submitted")
    #: A call has a result or an exception.
    DONE: ClassVar[Event[Future[Any]]] = Event("task-done")
    #: A call returned.
    RETURNED: ClassVar[Event[Any]] = Event("task-returned")
    #: A call raised.
    EXCEPTION: ClassVar[Event[BaseException]] = Event("task-exception")
    #: A call was handed to the executor; passes its arguments too.
    F_SUBMITTED: ClassVar[Event[...]] = Event("task-future-submitted")
    #: A call returned; passes its future too.
    F_RETURNED: ClassVar[Event[Future[Any], Any]] = Event("task-future-returned")
    #: A call raised; passes its future too.
    F_EXCEPTION: ClassVar[Event[Future[Any], BaseException]] = Event("task-future-exception")
    #: A call was cancelled.
    F_CANCELLED: ClassVar[Event[Future[Any]]] = Event("task-future-cancelled")

    #: Several calls of which one wants to hear as of one.
    Batch = TaskBatch

    #: Registers callbacks for ``SUBMITTED``.
    on_submitted: Subscriber[Future[R]]
    #: Registers callbacks for ``DONE``.
    on_done: Subscriber[Future[R]]
    #: Registers callbacks for ``RETURNED``.
    on_returned: Subscriber[R]
    #: Registers callbacks for ``EXCEPTION``.
    on_exception: Subscriber[BaseException]
    #: Registers callbacks for ``F_SUBMITTED``.
    on_f_submitted: Subscriber[Concatenate[Future[R], P]]
    #: Registers callbacks for ``F_RETURNED``.
    on_f_returned: Subscriber[Future[R], R]
    #: Registers callbacks for ``F_EXCEPTION``.
    on_f_exception: Subscriber[Future[R], BaseException]
    #: Registers callbacks for ``F_CANCELLED``.
    on_f_cancelled: Subscriber[Future[R]]
    #: Registers callbacks for ``F_CANCELLED``.
    on_cancelled: Subscriber[Future[R]]
    #: Registers callbacks for ``Comm.MESSAGE``; there only with ``Comm.Plugin``.
    on_message: Subscriber[Any] = cast("Any", _OfComm())
    #: Registers callbacks for ``Comm.REQUEST``; there only with ``Comm.Plugin``.
    on_request: Subscriber[Any] = cast("Any", _OfComm())
    #: Registers callbacks for ``Comm.CLOSE``; there only with ``Comm.Plugin``.
    on_comm_close: Subscriber[Any] = cast("Any", _OfComm())

    def __init__(
        self,
        function: Callable[P, R],
        scheduler: Dispatcher,
        *,
        name: str | None = None,
        plugins: TaskPlugin | Iterable[TaskPlugin] = (),
    ) -> None:
        given: object = function
        if not callable(given):
            message = f"a task needs a function to run, not {function!r}"
            raise InvalidCallbackError(message)
        if is_coroutine_function(function):
            message = (
                f"{function!r} cannot be a task's function, since it is a coroutine function: a worker "
                f"would get a coroutine and not run it; give a plain function, which may call "
                f"asyncio.run(...)"
            )
            raise InvalidCallbackError(message)
        super().__init__(name or _name_of(function))
        self.function = function
        self.scheduler = scheduler
        self.plugins: tuple[TaskPlugin, ...] = _checked(plugins)
        self._lineup = Lineup(self.plugins, self.name)
        #: Whether a plugin may hold an outcome back; asked by the run.
        self.may_hold: bool = bool(self._lineup.holding)
        #: Whether a plugin may have a call tried again; asked by the run.
        self.may_retry: bool = bool(self._lineup.retrying)
        self._tally: _Tally[R] = _Tally()
        self._options: Mapping[str, Any] = {}
        self._portable = portable(function)
        self.event_manager.on_failure = scheduler.callback_failed
        #: Where plugins emit, which is here, or on the batch that the calls belong to.
        self.plugin_events: EventManager = self.event_manager
        self.on_submitted = self.subscriber(self.SUBMITTED)
        self.on_done = self.subscriber(self.DONE)
        self.on_returned = self.subscriber(self.RETURNED)
        self.on_exception = self.subscriber(self.EXCEPTION)
        self.on_f_submitted = Subscriber(self.event_manager, self.F_SUBMITTED)
        self.on_f_returned = self.subscriber(self.F_RETURNED)
        self.on_f_exception = self.subscriber(self.F_EXCEPTION)
        self.on_f_cancelled = self.on_cancelled = self.subscriber(self.F_CANCELLED)
        for plugin in self.plugins:
            self._attach(plugin)
        scheduler.enroll(self)

    @property
    def n_called(self) -> int:
        """How many calls were submitted, in all runs."""
        return self._tally.n_called

    @property
    def n_running(self) -> int:
        """How many calls are submitted and have not ended."""
        return len(self._tally.live)

    def futures(self) -> list[Future[R]]:
        """Return the futures of the calls that have not ended, in order of submission."""
        return list(self._tally.live)

    def options(self, **options: Any) -> Self:
        """Return this task with options for the engine, such as ``num_cpus=2`` on Ray.

        It is the same task: it shares listeners, plugins and counts with this one. Only the calls
        that are submitted through what is returned have the options.

        Args:
            **options: What the engine is told of each call; the engine's page says what it takes.

        Returns:
            The task with these options, added to those that it has.
        """
        view = copy.copy(self)
        view._options = {**self._options, **options}
        return view

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Future[R] | None:
        """Hand one call to the executor; the same as ``submit``."""
        return self.submit(*args, **kwargs)

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> Future[R] | None:
        """Hand one call to the executor.

        Plugins see the call first, in the order they were attached, and may change or refuse it.

        Args:
            *args: Passed on to the task's function.
            **kwargs: Passed on to the task's function.

        Returns:
            The future of this call, or ``None`` if a plugin refused it or the run is finishing.

        Raises:
            SchedulerNotRunningError: When no run is on; submit from ``on_start``.
            InvalidOptionError: When the engine does not take this task's options.
        """
        scheduler = self.scheduler
        with scheduler.gate:
            if not scheduler.accepts_calls():
                scheduler.require_run()
                scheduler.call_refused(self.name)
                return None
            if not self.plugins:
                return scheduler.dispatch(
                    self._portable, args, kwargs, audience=self, options=self._options
                )
            planned = self._lineup.plan(self.function, args, kwargs)
            if planned is None:
                return None
            function, planned_args, planned_kwargs = planned
            if function is not self._portable.function:
                self._portable = portable(function)
            return scheduler.dispatch(
                self._portable,
                planned_args,
                planned_kwargs,
                audience=self,
                told=(args, kwargs),
                options=self._options,
            )

    def emit_soon(self, event: Event[Q], /, *args: Q.args, **kwargs: Q.kwargs) -> None:
        """Emit a plugin's event as soon as the loop comes to it; from any thread.

        A run takes such events until it has emitted ``FINISHED``; what comes later, from a callback of
        that event or a thread that goes on, is not told.

        Args:
            event: The event.
            *args: Passed on to its callbacks.
            **kwargs: Passed on to its callbacks.
        """
        self.scheduler.post(self.plugin_events.emit_many, {event: (args, kwargs)})

    def batch(
        self, args: Iterable[tuple[Any, ...]], *, cancel_on_failed_submission: bool = True
    ) -> TaskBatch[P, R]:
        """Plan several calls of which one wants to hear as of one.

        Args:
            args: The positional arguments of each call.
            cancel_on_failed_submission: Whether the other calls are cancelled when one of them
                is refused.

        Returns:
            A batch, to be submitted once.
        """
        return self.Batch(self, args, cancel_on_failed_submission=cancel_on_failed_submission)

    def copy(self) -> Self:
        """Return a task with the same function and scheduler, copied plugins and no listeners."""
        copied = type(self)(
            self.function,
            self.scheduler,
            name=self.name,
            plugins=[plugin.copy() for plugin in self.plugins],
        )
        copied._options = self._options
        return copied

    def snapshot(self) -> TaskSnapshot:
        """Return the task's counts, from any thread."""
        counts = self.event_counts
        return TaskSnapshot(
            name=self.name,
            submitted=self.n_called,
            running=self.n_running,
            returned=counts[self.RETURNED],
            failed=counts[self.EXCEPTION],
            cancelled=counts[self.F_CANCELLED],
        )

    def _attach(self, plugin: TaskPlugin) -> None:
        owner = plugin.task
        if owner is not None:
            kind = type(plugin).__qualname__
            message = (
                f"this {kind} belongs to the task {owner.name!r} already and cannot be given to "
                f"{self.name!r} too; give each task one of its own, or a copy()"
            )
            raise InvalidOptionError(message, option="plugins", value=plugin)
        plugin.task = self
        try:
            plugin.attach_task(self)
        except BaseException:
            plugin.task = None  # it may be given to a task where it can work
            raise

    # ------------------------------------------------------------------- told by the run

    def call_accepted(self, future: Future[R]) -> None:
        """Count a call; told by the run."""
        self._tally.n_called += 1
        self._tally.live[future] = None
        lineup = self._lineup
        for plugin in lineup.told_first:
            lineup.ask(plugin, "submitted", future)

    def call_retracted(self, future: Future[R]) -> None:
        """Forget a call that the executor did not take; told by the run."""
        self._tally.n_called -= 1
        self.call_ended(future)

    def call_held(self, future: Future[R], release: Callable[[], object]) -> bool:
        """Ask the plugins whether an outcome has to wait; asked by the run."""
        lineup = self._lineup
        return any(lineup.ask(plugin, "hold", future, release) for plugin in lineup.holding)

    def call_retried(self, future: Future[R], error: BaseException) -> float | None:
        """Ask the plugins, until one has the call tried again; asked by the run."""
        lineup = self._lineup
        for plugin in lineup.retrying:
            delay_s = lineup.ask(plugin, "retry", future, error)
            if delay_s is not None:
                return check_delay(delay_s, plugin.name)
        return None

    def call_ended(self, future: Future[R]) -> None:
        """Count a call as not running any more; told by the run."""
        del self._tally.live[future]
        lineup = self._lineup
        for plugin in lineup.told_last:
            lineup.ask(plugin, "ended", future)

    def call_submitted(
        self, future: Future[R], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Tell the listeners; told by the run."""
        self.event_manager.emit(self.F_SUBMITTED, future, *args, **kwargs)
        self.event_manager.emit(self.SUBMITTED, future)

    def call_returned(self, future: Future[R], result: R) -> None:
        """Tell the listeners; told by the run."""
        self.event_manager.emit(self.DONE, future)
        self._tell_both(self.F_RETURNED, self.RETURNED, future, result)

    def call_raised(self, future: Future[R], error: BaseException) -> None:
        """Tell the listeners; told by the run."""
        self.event_manager.emit(self.DONE, future)
        self._tell_both(self.F_EXCEPTION, self.EXCEPTION, future, error)

    def call_cancelled(self, future: Future[R]) -> None:
        """Tell the listeners; told by the run."""
        self.event_manager.emit(self.F_CANCELLED, future)

    def _tell_both(
        self,
        with_future: Event[Future[Any], Any],
        alone: Event[Any],
        future: Future[R],
        value: object,
    ) -> None:
        """Tell the listeners of both events, in their order of registration over both."""
        manager = self.event_manager
        if manager.has(with_future):
            manager.emit_many({with_future: ((future, value), {}), alone: ((value,), {})})
        else:  # as most often: there is no order to be kept, which takes half the time
            manager.emit(with_future, future, value)
            manager.emit(alone, value)


def _name_of(function: object) -> str:
    named = getattr(function, "func", function)  # a partial has no name of its own
    return getattr(named, "__qualname__", None) or type(function).__qualname__


def _checked(plugins: TaskPlugin | Iterable[TaskPlugin]) -> tuple[TaskPlugin, ...]:
    given: tuple[object, ...] = (
        tuple(plugins)
        if isinstance(plugins, Iterable) and not isinstance(plugins, type | str)
        else (plugins,)
    )
    for plugin in given:
        if isinstance(plugin, TaskPlugin):
            continue
        what = "give a TaskPlugin"
        if isinstance(plugin, type) and issubclass(plugin, TaskPlugin):
            what = f"make one of it: {plugin.__qualname__}(...)"
        message = f"plugins: {plugin!r} is no plugin; {what}"
        raise InvalidOptionError(message, option="plugins", value=plugin)
    return given  # type: ignore[return-value] # all are plugins
