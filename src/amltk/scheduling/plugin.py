"""What changes how a task runs.

::

    task(x) ─▶ pre_submit, pre_submit, … ─▶ submitted ─▶ worker ─▶ hold ─▶ retry ─▶ ended ─▶ events
               inner layers first           has a future           an attempt    the call is over
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, Self

from amltk.exceptions import InvalidOptionError
from amltk.executors.registry import name_of

if TYPE_CHECKING:
    from amltk.events import Event
    from amltk.scheduling.future import Future
    from amltk.scheduling.task import Task

P = ParamSpec("P")

#: A call as plugins pass it on: function, positional and keyword arguments.
PlannedCall = tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]


class Layer(enum.IntEnum):
    """Where a plugin acts, from the call itself to the outermost wrapping in the worker.

    Plugins see a call layer by layer, and within one in the order in which they were given. So
    what a plugin puts around the function lies inside of what those of later layers put around it.
    """

    #: Decides about the call, changes its arguments, or counts; nothing of it runs in the worker.
    CALL = 0
    #: Right at the function, with the arguments as they were given, such as a tracker.
    FUNCTION = 10
    #: Gives the function a way to the driver.
    CHANNEL = 20
    #: What surrounds the function in its process, such as threads, warnings, meters.
    SURROUNDINGS = 30
    #: Catches what is logged and printed inside.
    CAPTURE = 40
    #: Runs all of the above in a process of its own.
    PROCESS = 50


class TaskPlugin:
    """Base class of all plugins; override only what you need.

    A plugin belongs to one task. Plugins see a call layer by layer, in a layer in the order in
    which they were given to the task, each what the one before it made of it.
    """

    #: How the plugin is called in messages.
    name: ClassVar[str] = "plugin"

    #: Where it acts.
    layer: ClassVar[Layer] = Layer.CALL

    #: Whose it is; set by the task before it calls ``attach_task``.
    task: Task[..., Any] | None = None

    def attach_task(self, task: Task[..., Any]) -> None:
        """Get to know the task; called once, when the task is made.

        This is the place to say that the plugin cannot work there: ``task.scheduler.traits`` has
        what is known of the engine.

        Args:
            task: The task that this plugin now belongs to.
        """

    def pre_submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> PlannedCall | None:
        """Change or refuse a call before it is submitted.

        Called in the thread that submits, with the scheduler's gate held: decide quickly, and
        emit with ``emit_soon``.

        Args:
            fn: The function to be called.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            What to call with which arguments, or ``None`` to refuse the call.
        """
        return fn, args, kwargs

    def submitted(self, future: Future[Any]) -> None:
        """Get to know the future of the call that ``pre_submit`` saw last.

        Called in the thread that submits, with the gate held, just before the executor gets it.

        Args:
            future: The future.
        """

    def hold(self, future: Future[Any], release: Callable[[], object]) -> bool:
        """Have the outcome of an attempt told later, when what belongs before it has arrived.

        Called in the loop's thread when the executor has the outcome, and again after each
        release, until no plugin holds it any more.

        Args:
            future: The call.
            release: To be called once, in any thread, when there is nothing more to wait for.

        Returns:
            Whether ``release`` is going to be called.
        """
        del future, release
        return False

    def retry(self, future: Future[Any], error: BaseException) -> float | None:
        """Decide whether a call that raised gets another attempt.

        Called in the loop's thread, while calls are taken.

        Args:
            future: The call, which stays the same one with the same number.
            error: What it raised, or what became of its worker.

        Returns:
            After how many seconds the next attempt starts, or ``None`` for none.
        """
        del future, error
        return None

    def ended(self, future: Future[Any]) -> None:
        """Forget a call that is over, or that the executor did not take.

        Args:
            future: The call.
        """

    def events(self) -> Iterable[Event[...]]:
        """Tell which events the plugin emits on its task."""
        return ()

    def copy(self) -> Self:
        """Return a plugin with the same settings, for another task."""
        return type(self)()

    def emit(self, event: Event[P], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Emit an event of this plugin on its task, or on the batch that the calls belong to.

        To be called in the loop's thread: in all hooks but those that see a call before the
        executor has it, which have ``emit_soon``. A plugin without a task has nobody to tell.

        Args:
            event: The event.
            *args: Passed on to its callbacks.
            **kwargs: Passed on to its callbacks.
        """
        task = self.task
        if task is not None:
            task.plugin_events.emit(event, *args, **kwargs)

    def emit_soon(self, event: Event[P], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Emit an event of this plugin as soon as the loop comes to it; from any thread.

        A run takes such events until it has emitted ``FINISHED``; what comes later, from a callback of
        that event or a thread that goes on, is not told.

        Args:
            event: The event.
            *args: Passed on to its callbacks.
            **kwargs: Passed on to its callbacks.

        Raises:
            SchedulerNotRunningError: When no run is on.
        """
        task = self.task
        if task is not None:
            task.emit_soon(event, *args, **kwargs)


class Wrapped:
    """A function with something around it in the worker; subclasses say what, in ``__call__``.

    Args:
        fn: The function, maybe wrapped itself.
    """

    #: Where the function is that it goes around. What else it has are settings, and no state, unless
    #: a subclass says so by ``None``.
    stateless_around: ClassVar[str | None] = "fn"

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self.__qualname__ = name_of(fn)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.fn(*args, **kwargs)


class WorkerPlugin(TaskPlugin):
    """Base class of plugins that put something around the function in the worker.

    Override ``wrap``.
    """

    layer: ClassVar[Layer] = Layer.SURROUNDINGS

    _inner: Callable[..., Any] | None = None
    _wrapped: Callable[..., Any] | None = None

    def wrap(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Return what is called in the worker, such as a ``Wrapped``; it is sent there once.

        Args:
            fn: The function, or what an inner plugin made of it.
        """
        raise NotImplementedError

    def pre_submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> PlannedCall | None:
        """Put the wrapped function in the place of the function."""
        if self._wrapped is None or self._inner is not fn:
            self._inner, self._wrapped = fn, self.wrap(fn)
        return self._wrapped, args, kwargs


def refuse_engine(plugin: TaskPlugin, task: Task[..., Any], why: str) -> InvalidOptionError:
    """Make the error of a plugin that cannot work on a task's engine.

    Args:
        plugin: The plugin.
        task: The task.
        why: Where it cannot work, why, and what to do instead.
    """
    message = f"{type(plugin).__qualname__} cannot be given to the task {task.name!r}: {why}"
    return InvalidOptionError(message, option="plugins", value=plugin)
