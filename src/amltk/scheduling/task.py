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
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    cast,
)

from amltk.events import Emitter, Event, EventManager, Subscriber
from amltk.exceptions import InvalidCallbackError, InvalidOptionError
from amltk.executors.registry import Traits, portable
from amltk.scheduling.attempts import check_delay
from amltk.scheduling.batch import Batch as TaskBatch
from amltk.scheduling.future import Audience, Future
from amltk.scheduling.plugin import TaskPlugin
from amltk.scheduling.services import RunAccess, S
from amltk.scheduling.snapshot import TaskSnapshot

if TYPE_CHECKING:
    from amltk.events import CallbackFailure

P = ParamSpec("P")
R = TypeVar("R")
Q = ParamSpec("Q")
SelfT = TypeVar("SelfT", bound="Task[..., Any]")


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


class Dispatcher(Protocol):
    """What a task needs of a scheduler."""

    @property
    def gate(self) -> AbstractContextManager[Any]:
        """Held while a call is being submitted, so that plugins decide one call at a time."""
        ...

    def accepts_calls(self) -> bool:
        """Tell whether calls are taken now; an error says that no run is on."""
        ...

    def dispatch(
        self,
        function: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        audience: Audience | None = None,
        told: tuple[tuple[Any, ...], Mapping[str, Any]] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Future[Any] | None:
        """Hand a call to the executor."""

    def post(self, emit: Callable[..., object], *arguments: Any) -> None:
        """Have something emitted in the loop's thread."""

    @property
    def traits(self) -> Traits:
        """What is known of the engine."""
        ...

    def service(self, key: Hashable, make: Callable[[RunAccess], S]) -> S:
        """Return something that lives as long as the run; see ``Scheduler.service``."""
        ...

    def callback_failed(self, failure: CallbackFailure) -> bool:
        """Hear of a callback that raised, and tell whether it has been taken care of."""
        ...

    def enroll(self, task: Task[..., Any]) -> None:
        """Get to know a task."""


class _Tally(Generic[R]):
    """What a task counts, shared by all its views with options."""

    __slots__ = ("live", "n_called")

    def __init__(self) -> None:
        self.n_called = 0
        #: By identity, since each run counts its calls from 0; a dict for the order.
        self.live: dict[Future[R], None] = {}


class Task(Emitter, Generic[P, R]):
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
        super().__init__(name or _name_of(function))
        self.function = function
        self.scheduler = scheduler
        self.plugins: tuple[TaskPlugin, ...] = (
            tuple(plugins) if isinstance(plugins, Iterable) else (plugins,)
        )
        #: Inner layers first, each in the order given.
        self._layered = sorted(self.plugins, key=_layer_of)
        self._told_first = _overriding(self._layered, "submitted")
        self._told_last = _overriding(self._layered, "ended")
        self._holding = _overriding(self._layered, "hold")
        self._retrying = _overriding(self._layered, "retry")
        #: Whether a plugin may hold an outcome back; asked by the run.
        self.may_hold: bool = bool(self._holding)
        #: Whether a plugin may have a call tried again; asked by the run.
        self.may_retry: bool = bool(self._retrying)
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
                return None
            if not self.plugins:
                return scheduler.dispatch(
                    self._portable, args, kwargs, audience=self, options=self._options
                )
            planned = self._plan(args, kwargs)
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

    def _plan(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]] | None:
        function: Callable[..., Any] = self.function
        for plugin in self._layered:
            planned = self._ask(plugin, "pre_submit", function, *args, **kwargs)
            if planned is None:
                return None
            function, args, kwargs = planned
        return function, args, kwargs

    def _ask(self, plugin: TaskPlugin, hook: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a hook of a plugin; what it raises says whose it was."""
        try:
            return getattr(plugin, hook)(*args, **kwargs)
        except BaseException as error:
            error.add_note(f'raised by {hook} of plugin "{plugin.name}" of {self.name!r}')
            raise

    # ------------------------------------------------------------------- told by the run

    def call_accepted(self, future: Future[R]) -> None:
        """Count a call; told by the run."""
        self._tally.n_called += 1
        self._tally.live[future] = None
        for plugin in self._told_first:
            self._ask(plugin, "submitted", future)

    def call_retracted(self, future: Future[R]) -> None:
        """Forget a call that the executor did not take; told by the run."""
        self._tally.n_called -= 1
        self.call_ended(future)

    def call_held(self, future: Future[R], release: Callable[[], object]) -> bool:
        """Ask the plugins whether an outcome has to wait; asked by the run."""
        return any(self._ask(plugin, "hold", future, release) for plugin in self._holding)

    def call_retried(self, future: Future[R], error: BaseException) -> float | None:
        """Ask the plugins, until one has the call tried again; asked by the run."""
        for plugin in self._retrying:
            delay_s = self._ask(plugin, "retry", future, error)
            if delay_s is not None:
                return check_delay(delay_s, plugin.name)
        return None

    def call_ended(self, future: Future[R]) -> None:
        """Count a call as not running any more; told by the run."""
        del self._tally.live[future]
        for plugin in self._told_last:
            self._ask(plugin, "ended", future)

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


def _layer_of(plugin: TaskPlugin) -> int:
    return plugin.layer


def _overriding(plugins: Iterable[TaskPlugin], hook: str) -> tuple[TaskPlugin, ...]:
    """Return the plugins that override a hook: one that nobody does costs nothing."""
    inherited = getattr(TaskPlugin, hook)
    return tuple(plugin for plugin in plugins if getattr(type(plugin), hook) is not inherited)


def _name_of(function: object) -> str:
    named = getattr(function, "func", function)  # a partial has no name of its own
    return getattr(named, "__qualname__", None) or type(function).__qualname__
