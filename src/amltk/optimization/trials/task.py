"""A task whose function is given a trial and returns a report.

::

    RETURNED ── a report ─────────────┐
             ── something else ──▶ CrashReport ──▶ REPORT, then SUCCESS, FAILURE or CRASHED
    EXCEPTION ──────────────────▶ CrashReport ──┘
    F_CANCELLED ──▶ CANCELLED
"""

from __future__ import annotations

import functools
import time
import weakref
from collections.abc import Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, Generic, ParamSpec, TypeGuard

from amltk._errors import add_note
from amltk._words import short_repr
from amltk.events import Event, Subscriber
from amltk.exceptions import ReportTypeError, TrialError
from amltk.executors.travel.envelope import traceback_text
from amltk.optimization.trials.report import CrashReport, FailReport, Report, SuccessReport
from amltk.optimization.trials.trial import Trial
from amltk.scheduling.plugin import TaskPlugin, Wrapped
from amltk.scheduling.task import Task

if TYPE_CHECKING:
    from amltk.scheduling.dispatcher import Dispatcher
    from amltk.scheduling.future import Future

P = ParamSpec("P")


class TrialTask(Task[Concatenate[Trial, P], Report], Generic[P]):
    """A task for optimization, known as ``Trial.Task``.

    A trial that was sent off ends in exactly one of ``REPORT`` and ``CANCELLED``. A function that
    raises, a worker that dies, a limit that is reached, and something returned that is no report
    of the trial, each make a ``CrashReport`` with the cause. What a task tells of a call in any
    case, such as ``RETURNED`` and ``EXCEPTION``, is told before.

    Args:
        function: What to run: it is given a trial first and returns a report.
        scheduler: Who runs it.
        name: How the task is called in messages and views; the function's name by default.
        plugins: What changes how it runs.

    Raises:
        InvalidCallbackError: When ``function`` cannot be called.
        InvalidOptionError: When a plugin belongs to another task, or cannot work on the engine.
    """

    #: A trial has ended, however.
    REPORT: ClassVar[Event[Report]] = Event("trial-report")
    #: A trial has its metrics.
    SUCCESS: ClassVar[Event[SuccessReport]] = Event("trial-success")
    #: A trial came to an end, and its result is of no use.
    FAILURE: ClassVar[Event[FailReport]] = Event("trial-failure")
    #: A trial raised, or its worker died.
    CRASHED: ClassVar[Event[CrashReport]] = Event("trial-crashed")
    #: A trial was cancelled.
    CANCELLED: ClassVar[Event[Trial]] = Event("trial-cancelled")

    #: Registers callbacks for ``REPORT``.
    on_report: Subscriber[Report]
    #: Registers callbacks for ``SUCCESS``.
    on_success: Subscriber[SuccessReport]
    #: Registers callbacks for ``FAILURE``.
    on_failed: Subscriber[FailReport]
    #: Registers callbacks for ``CRASHED``.
    on_crashed: Subscriber[CrashReport]
    #: Registers callbacks for ``CANCELLED``; ``on_f_cancelled`` passes the future.
    on_cancelled: Subscriber[Trial]  # type: ignore[assignment] # passes the trial here, as the others do

    def __init__(
        self,
        function: Callable[Concatenate[Trial, P], Report],
        scheduler: Dispatcher,
        *,
        name: str | None = None,
        plugins: TaskPlugin | Iterable[TaskPlugin] = (),
    ) -> None:
        worked: Any = function
        if callable(function) and not isinstance(function, _TrialCall):
            worked = _TrialCall(function)
        super().__init__(worked, scheduler, name=name, plugins=plugins)
        #: The trials of the calls that nothing was told of, and when they were sent off. Weakly,
        #: since of a call that a run has left behind nothing is ever told.
        self._trials: MutableMapping[Future[Report], tuple[Trial, float]] = (
            weakref.WeakKeyDictionary()
        )
        #: The names of the trials that have not ended.
        self._names: set[str] = set()
        self.on_report = self.subscriber(self.REPORT)
        self.on_success = self.subscriber(self.SUCCESS)
        self.on_failed = self.subscriber(self.FAILURE)
        self.on_crashed = self.subscriber(self.CRASHED)
        self.on_cancelled = self.subscriber(self.CANCELLED)  # pyright: ignore[reportIncompatibleVariableOverride] # as above

    def submit(self, trial: Trial, /, *args: P.args, **kwargs: P.kwargs) -> Future[Report] | None:
        """Send a trial off.

        Args:
            trial: The trial.
            *args: Passed on to the task's function, after the trial.
            **kwargs: Passed on to the task's function.

        Returns:
            The future of its call, or ``None`` if a plugin refused it or the run is finishing:
            then nothing will be told of it.

        Raises:
            TrialError: When it is no trial, or was sent off already and has not ended.
            SchedulerNotRunningError: When no run is on; submit from ``on_start``.
        """
        given: object = trial
        if not isinstance(given, Trial):
            message = f"{self.name!r} has to be given a trial first, not {given!r:.200}"
            raise TrialError(message, trial=repr(given))
        with self.scheduler.gate:
            if trial.name in self._names:
                message = (
                    f"{trial.name!r} was sent off already, and has not ended; each trial needs a "
                    f"name of its own"
                )
                raise TrialError(message, trial=trial.name)
            future = super().submit(trial, *args, **kwargs)
            if future is not None:
                self._names.add(trial.name)
                self._trials[future] = trial, time.time()
        return future

    # ------------------------------------------------------------------- told by the run

    def call_ended(self, future: Future[Report]) -> None:
        """Let another trial have the name; told by the run."""
        with self.scheduler.gate:
            if future in self._trials:  # not if the executor did not take the call
                self._names.discard(self._trials[future][0].name)
        super().call_ended(future)

    def call_returned(self, future: Future[Report], result: Report) -> None:
        """Tell the listeners; told by the run."""
        super().call_returned(future, result)
        trial, submitted_at = self._trials.pop(future)
        report: Report = result
        if not _is_report_of(result, trial):  # by a plugin's doing: the function's was looked at
            report = _crash_of(trial, _wrong_return(self.name, trial, result))
        elif report.trial.metrics == trial.metrics:
            report.trial.metrics = trial.metrics  # not a copy for each report that is kept
        self._tell(report, submitted_at)

    def call_raised(self, future: Future[Report], error: BaseException) -> None:
        """Tell the listeners; told by the run."""
        super().call_raised(future, error)
        trial, submitted_at = self._trials.pop(future)
        self._tell(_crash_of(trial, error), submitted_at)

    def call_cancelled(self, future: Future[Report]) -> None:
        """Tell the listeners; told by the run."""
        super().call_cancelled(future)
        trial, _ = self._trials.pop(future)
        self.plugin_events.emit(self.CANCELLED, trial)

    def _tell(self, report: Report, submitted_at: float) -> None:
        report.submitted_at, report.reported_at = submitted_at, time.time()
        events = self.plugin_events  # of the batch, for calls of a batch
        events.emit(self.REPORT, report)
        if isinstance(report, SuccessReport):
            events.emit(self.SUCCESS, report)
        elif isinstance(report, FailReport):
            events.emit(self.FAILURE, report)
        elif isinstance(report, CrashReport):
            events.emit(self.CRASHED, report)


class _TrialCall(Wrapped):
    """Calls a trial's function in the worker, and knows what to make of a block that has raised."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        super().__init__(fn)
        functools.update_wrapper(self, fn, updated=())
        named = getattr(fn, "func", fn)  # a partial has no name of its own
        self.__qualname__ = getattr(named, "__qualname__", None) or type(fn).__qualname__

    def __call__(self, trial: Trial, /, *args: Any, **kwargs: Any) -> Report:
        """Call the function."""
        trial._work = None  # of an earlier attempt, where workers have the driver's own trial
        try:
            return self._report(trial, args, kwargs)
        finally:
            trial._work = None  # as if it had been done elsewhere

    def _report(self, trial: Trial, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Report:
        try:
            result: object = self.fn(trial, *args, **kwargs)
        except Exception as error:
            caught = trial.exception
            if caught is None:
                raise
            # The function went on without the result of its block: what the block has raised is
            # the cause, and this only its consequence.
            if error is not caught and error.__cause__ is not caught:
                add_note(caught, f"after that, the function raised {short_repr(error)}")
            return _crash_here(trial, caught)
        if _is_report_of(result, trial):
            return result
        caught = trial.exception  # then a `return` inside of the block was never reached
        if caught is None:
            caught = _wrong_return(self.__qualname__, trial, result)
        return _crash_here(trial, caught)


def _is_report_of(returned: object, trial: Trial) -> TypeGuard[Report]:
    kinds = SuccessReport, FailReport, CrashReport
    return isinstance(returned, kinds) and getattr(returned.trial, "name", None) == trial.name


def _crash_of(trial: Trial, error: BaseException) -> CrashReport:
    """Report in the driver that a trial crashed."""
    return CrashReport(trial=trial, exception=error, traceback=traceback_text(error))


def _crash_here(trial: Trial, error: BaseException) -> CrashReport:
    """Report in the worker that a trial crashed, with what was measured until then."""
    work = trial._work
    if work is not None:
        work.reported = None  # what was made and never returned does not count
        work.exception, work.traceback = error, traceback_text(error)
    return trial.crashed(error)


def _wrong_return(task: str, trial: Trial, returned: object) -> ReportTypeError:
    if isinstance(returned, Report) and getattr(returned.trial, "name", None) != trial.name:
        what = f"the report of another trial, {getattr(returned.trial, 'name', None)!r},"
    else:
        what = f"{returned!r:.200}"
    message = (
        f"{task!r} returned {what} for {trial.name!r}, which is no report of it; end the function "
        f"with return trial.success(…), trial.fail() or trial.crashed(…)"
    )
    return ReportTypeError(message, value=what)
