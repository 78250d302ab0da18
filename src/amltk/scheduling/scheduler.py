"""The scheduler: who hands calls to an executor and turns what becomes of them into events."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar

from amltk.events import Emitter, Event, Subscriber
from amltk.events.handler import check_callback, is_coroutine_function
from amltk.exceptions import (
    InvalidCallbackError,
    InvalidOptionError,
    SchedulerNotRunningError,
    SchedulerRunningError,
)
from amltk.executors.registry import (
    Traits,
    name_of,
    portable,
    refuse_nested_run,
    traits_of,
)
from amltk.scheduling import happenings, live_view, policy
from amltk.scheduling.attempts import is_delay
from amltk.scheduling.closing import Terminate
from amltk.scheduling.constructors import Constructors
from amltk.scheduling.driverside import DriverSide
from amltk.scheduling.execution import conclude, execute, interruption_of
from amltk.scheduling.future import Audience, Future
from amltk.scheduling.interrupt import guard_interrupts
from amltk.scheduling.later import Later
from amltk.scheduling.policy import EndOnException, Reason, RunSettings
from amltk.scheduling.run import Run
from amltk.scheduling.services import RunAccess, S
from amltk.scheduling.snapshot import SchedulerSnapshot

if TYPE_CHECKING:
    from amltk.events import CallbackFailure
    from amltk.scheduling.dispatcher import Enrolled

P = ParamSpec("P")
R = TypeVar("R")

#: Something that shows a scheduler while the context lasts.
View = Callable[["Scheduler"], AbstractContextManager[Any]]


class Scheduler(DriverSide, Constructors, Emitter):
    """Hands functions to an executor and turns what becomes of them into events.

    The ``with_…`` constructors make one for each engine.

    Args:
        executor: An executor, which stays yours and is left open after a run; or a callable
            that makes one, which is then the scheduler's own: made when a run starts, closed
            when it ends.
        terminate: How running calls are ended when a run ends without waiting for them:
            ``True`` as the engine does it, ``False`` not at all, or a function of the executor.
        recover: Whether a pool of processes that breaks when a worker dies, such as the standard
            library's, is replaced by a new one, so that the death costs one call.

    Raises:
        InvalidOptionError: When ``executor`` is neither.
    """

    ExitCode = policy.ExitCode

    #: The scheduler is up and takes calls.
    STARTED: ClassVar[Event[[]]] = happenings.STARTED
    #: A call was handed to the executor.
    FUTURE_SUBMITTED: ClassVar[Event[Future[Any]]] = happenings.FUTURE_SUBMITTED
    #: A call has a result or an exception.
    FUTURE_DONE: ClassVar[Event[Future[Any]]] = happenings.FUTURE_DONE
    #: A call was cancelled.
    FUTURE_CANCELLED: ClassVar[Event[Future[Any]]] = happenings.FUTURE_CANCELLED
    #: Nothing is running.
    EMPTY: ClassVar[Event[[]]] = happenings.EMPTY
    #: The time limit of the run was reached.
    TIMEOUT: ClassVar[Event[[]]] = happenings.TIMEOUT
    #: ``stop()`` was called, or an exception ends the run.
    STOP: ClassVar[Event[[]]] = happenings.STOP
    #: Running calls are waited for; nothing new is accepted.
    FINISHING: ClassVar[Event[[]]] = happenings.FINISHING
    #: The run is over; the last event of a run.
    FINISHED: ClassVar[Event[[]]] = happenings.FINISHED

    def __init__(
        self,
        executor: Executor | Callable[[], Executor],
        *,
        terminate: Terminate = True,
        recover: bool = True,
    ) -> None:
        given: object = executor
        if not isinstance(given, Executor) and not callable(given):
            message = (
                f"a scheduler needs an executor or a function that makes one, not {executor!r}; "
                f"for example Scheduler.with_processes(2)"
            )
            raise InvalidOptionError(message, option="executor", value=executor)
        asked: object = terminate
        if not isinstance(asked, bool) and not callable(asked):
            message = f"terminate={terminate!r} is not possible; give True, False or a function"
            raise InvalidOptionError(message, option="terminate", value=terminate)
        Emitter.__init__(self, "scheduler")
        self._executor = executor
        self._terminate = terminate
        self._recover = recover
        self._gate: AbstractContextManager[Any] = threading.RLock()
        self._run: Run | None = None
        self._tasks: weakref.WeakValueDictionary[int, Enrolled] = weakref.WeakValueDictionary()
        self.event_manager.on_failure = self.callback_failed
        #: Registers callbacks for ``STARTED``.
        self.on_start: Subscriber[[]] = self.subscriber(self.STARTED)
        #: Registers callbacks for ``FUTURE_SUBMITTED``.
        self.on_future_submitted: Subscriber[Future[Any]] = self.subscriber(self.FUTURE_SUBMITTED)
        #: Registers callbacks for ``FUTURE_DONE``.
        self.on_future_done: Subscriber[Future[Any]] = self.subscriber(self.FUTURE_DONE)
        #: Registers callbacks for ``FUTURE_CANCELLED``.
        self.on_future_cancelled: Subscriber[Future[Any]] = self.subscriber(self.FUTURE_CANCELLED)
        #: Registers callbacks for ``EMPTY``.
        self.on_empty: Subscriber[[]] = self.subscriber(self.EMPTY)
        #: Registers callbacks for ``TIMEOUT``.
        self.on_timeout: Subscriber[[]] = self.subscriber(self.TIMEOUT)
        #: Registers callbacks for ``STOP``.
        self.on_stop: Subscriber[[]] = self.subscriber(self.STOP)
        #: Registers callbacks for ``FINISHING``.
        self.on_finishing: Subscriber[[]] = self.subscriber(self.FINISHING)
        #: Registers callbacks for ``FINISHED``.
        self.on_finished: Subscriber[[]] = self.subscriber(self.FINISHED)

    # ----------------------------------------------------------------------------- running

    def run(
        self,
        *,
        timeout: float | None = None,
        end_on_empty: bool = True,
        wait: bool = True,
        end_on_exception: EndOnException = True,
        raises: bool = True,
        display: bool | View = False,
    ) -> policy.ExitCode | BaseException:
        """Run until there is a reason to end.

        Where a loop is already running in this thread, such as in a notebook, the run gets a
        loop of its own in another thread, and is waited for.

        Args:
            timeout: After how many seconds the run ends.
            end_on_empty: Whether the run ends when nothing is running any more.
            wait: Whether running calls are waited for when the run ends, or are ended.
            end_on_exception: Which exceptions of calls end the run: all, none, those of a type or
                a tuple of types, or what a dict from types to ``"continue"`` or ``"end"`` says, in
                which the nearest base class decides, and ``"end"`` where none fits.
            raises: Whether the exception that ended the run is raised or returned. Ctrl-C is
                always raised.
            display: Whether a live view is shown in the terminal; or a view of your own.

        Returns:
            Why the run ended.

        Raises:
            SchedulerRunningError: When this scheduler is running already.
            InvalidOptionError: When an option makes no sense.
            KeyboardInterrupt: When the run was ended by Ctrl-C.
            BaseException: What ended the run, the original exception of a call or of a callback.
        """
        run = self._prepare(
            RunSettings(
                timeout=timeout,
                end_on_empty=end_on_empty,
                wait=wait,
                end_on_exception=end_on_exception,
            )
        )
        with self._occupied(run), guard_interrupts(run.interrupt), self._shown(display):
            outcome = execute(run)
        if outcome.interrupted:
            raise KeyboardInterrupt from outcome.error
        return conclude(outcome, raises=raises)

    async def async_run(
        self,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the arguments are those of `run`
        end_on_empty: bool = True,
        wait: bool = True,
        end_on_exception: EndOnException = True,
        raises: bool = True,
        display: bool | View = False,
    ) -> policy.ExitCode | BaseException:
        """Run in the loop that is running, beside whatever else it does.

        When the coroutine is cancelled the run ends, and returns ``ExitCode.CANCELLED``. All
        arguments are those of ``run``.

        Args:
            timeout: After how many seconds the run ends.
            end_on_empty: Whether the run ends when nothing is running any more.
            wait: Whether running calls are waited for when the run ends, or are ended.
            end_on_exception: Which exceptions of calls end the run.
            raises: Whether the exception that ended the run is raised or returned.
            display: Whether a live view is shown in the terminal; or a view of your own.

        Returns:
            Why the run ended.

        Raises:
            SchedulerRunningError: When this scheduler is running already.
            InvalidOptionError: When an option makes no sense.
            KeyboardInterrupt: When the run was ended by Ctrl-C.
            BaseException: What ended the run, the original exception of a call or of a callback.
        """
        run = self._prepare(
            RunSettings(
                timeout=timeout,
                end_on_empty=end_on_empty,
                wait=wait,
                end_on_exception=end_on_exception,
            )
        )
        with self._occupied(run), guard_interrupts(run.interrupt) as guard, self._shown(display):
            outcome = await run.execute()
        if outcome.interrupted:
            raise interruption_of(guard) from outcome.error
        return conclude(outcome, raises=raises)

    def stop(self, *_args: object, **_kwargs: object) -> None:
        """End the run; from any thread, and from any callback whatever it receives.

        Running calls are waited for or ended as ``wait`` says. Does nothing when no run is on.
        """
        run = self._run
        if run is not None:
            run.ask(Reason.STOPPED)

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R] | None:
        """Hand one call to the executor; from any thread.

        A ``Task`` does the same and has events for the call.

        Args:
            fn: What to call.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            The future of this call, or ``None`` if the run is finishing.

        Raises:
            SchedulerNotRunningError: When no run is on; submit from ``on_start``.
            InvalidCallbackError: When ``fn`` is a coroutine function.
        """
        if is_coroutine_function(fn):
            message = (
                f"{fn!r} cannot be submitted, since it is a coroutine function: a worker would get a "
                f"coroutine and not run it; give a plain function, which may call asyncio.run(...)"
            )
            raise InvalidCallbackError(message)
        future = self.dispatch(portable(fn), args, kwargs)
        if future is None:
            self.call_refused(name_of(fn))
        return future

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Later:
        """Have a callback called after a while, in the thread of all callbacks; from any thread.

        As long as it is to be called, the run does not end for having nothing to do. When the run
        finishes for another reason, it is dropped.

        Args:
            seconds: After how many.
            callback: Called without arguments.

        Returns:
            A handle with ``cancel()``.

        Raises:
            SchedulerNotRunningError: When no run is on; call it from ``on_start``.
            InvalidOptionError: When ``seconds`` is no finite number from 0.
            InvalidCallbackError: When ``callback`` cannot be called, or is a coroutine function.
        """
        if not is_delay(seconds):
            message = f"seconds={seconds!r} is not possible; give a finite number from 0"
            raise InvalidOptionError(message, option="seconds", value=seconds)
        check_callback(callback, role="callback")
        return self._running_run().call_later(float(seconds), callback)

    def running(self) -> bool:
        """Tell whether a run is on."""
        return self._run is not None

    def snapshot(self) -> SchedulerSnapshot:
        """Return what the scheduler looks like now, from any thread."""
        run = self._run
        tasks = tuple(task.snapshot() for task in list(self._tasks.values()))
        if run is None:
            return SchedulerSnapshot(
                phase="idle", elapsed_s=0.0, remaining_s=None, n_running=0, tasks=tasks
            )
        return run.snapshot(tasks)

    # ---------------------------------------------------------- what tasks and batches need

    @property
    def gate(self) -> AbstractContextManager[Any]:
        """Held while a call is being submitted, so that plugins decide one call at a time."""
        return self._gate

    def accepts_calls(self) -> bool:
        """Tell whether a call would be taken now: a run is on, and is not ending; from any thread."""
        run = self._run
        return run is not None and run.accepts_calls

    def require_run(self) -> None:
        """Raise if no run is on.

        Raises:
            SchedulerNotRunningError: When that is so.
        """
        self._running_run()

    def call_refused(self, name: str) -> None:
        """Warn, once in a run, of a call that a listener of its end has submitted.

        Args:
            name: What the call is called.
        """
        run = self._run
        if run is not None:
            run.call_refused(name)

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
        """Hand a call to the executor, with somebody who is told about its life.

        Args:
            function: A portable function.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
            audience: Who is told, such as a task.
            told: The arguments that the audience is told, where plugins changed them.
            options: What the engine is told of this call; see ``Task.options``.

        Returns:
            The future of this call, or ``None`` if the run is finishing.

        Raises:
            SchedulerNotRunningError: When no run is on; submit from ``on_start``.
            InvalidOptionError: When the engine does not take these options.
        """
        return self._running_run().dispatch(
            function, args, kwargs, audience=audience, told=told, options=options
        )

    def post(self, emit: Callable[..., object], *arguments: Any) -> None:
        """Have something emitted in the loop's thread, after what is waiting there.

        Args:
            emit: Called with the arguments.
            *arguments: Its arguments.

        Raises:
            SchedulerNotRunningError: When no run is on.
        """
        self._running_run().post(emit, arguments)

    @property
    def traits(self) -> Traits:
        """What is known of the engine, also before a run has made its executor."""
        run = self._run
        return (run and run.traits) or traits_of(self._executor)

    def service(self, key: Hashable, make: Callable[[RunAccess], S]) -> S:
        """Return something that lives as long as the run, such as a server; from any thread.

        Args:
            key: Which one; plugins that use the same key share it.
            make: Makes it, when it is first asked for in this run.

        Returns:
            The service. Its ``close`` is called when the run ends.

        Raises:
            SchedulerNotRunningError: When no run is on.
        """
        return self._running_run().service(key, make)

    def callback_failed(self, failure: CallbackFailure) -> bool:
        """Hear of a callback that raised, and end the run because of it.

        Returns:
            Whether a run has taken the error; if not, it is raised where the event was emitted.
        """
        run = self._run
        return run is not None and run.callback_failed(failure.error)

    def enroll(self, task: Enrolled) -> None:
        """Get to know a task, for ``snapshot``; it is not kept alive."""
        self._tasks[id(task)] = task

    def _running_run(self) -> Run:
        run = self._run
        if run is None:
            message = (
                "nothing can be submitted, since the scheduler is not running; submit from a "
                "callback of on_start, and start it with run()"
            )
            raise SchedulerNotRunningError(message)
        return run

    def _prepare(self, settings: RunSettings) -> Run:
        refuse_nested_run()
        return Run(
            manager=self.event_manager,
            executor=self._executor,
            terminate=self._terminate,
            recover=self._recover,
            settings=settings,
            gate=self._gate,
        )

    def _occupied(self, run: Run) -> AbstractContextManager[None]:
        return _Occupied(self, run)

    def _shown(self, display: bool | View) -> AbstractContextManager[Any]:  # noqa: FBT001 - as `run` takes it
        if isinstance(display, bool):
            return live_view()(self) if display else nullcontext()
        return display(self)

    def _set_run(self, run: Run | None) -> None:
        if run is not None and self._run is not None:
            message = "the scheduler is running already; wait for the run's end, or stop() it"
            raise SchedulerRunningError(message)
        self._run = run


class _Occupied:
    """A scheduler is busy with one run while this context lasts."""

    def __init__(self, scheduler: Scheduler, run: Run) -> None:
        self._scheduler = scheduler
        self._run = run

    def __enter__(self) -> None:
        self._scheduler._set_run(self._run)

    def __exit__(self, *_exception: object) -> None:
        self._scheduler._set_run(None)
