"""One configuration that is tried out.

::

    driver                              worker
    optimizer.ask() ──▶ Trial ────────▶ with trial.begin():
                                            …
    optimizer.tell(report) ◀── Report ◀── trial.success(accuracy=0.9)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from amltk.exceptions import MetricError, TrialError
from amltk.executors.travel.envelope import traceback_text
from amltk.optimization.trials import report as reports
from amltk.optimization.trials.measure import Stopwatch, worker_name
from amltk.optimization.trials.metric import Metric

if TYPE_CHECKING:
    from amltk.optimization.trials.task import TrialTask

RT = TypeVar("RT", bound=reports.Report)


class _OnFirstUse:
    """Stands for ``Trial.Task`` until somebody asks for it: a worker does not need it."""

    def __get__(self, _trial: object, owner: type) -> Any:
        from amltk.optimization.trials.task import TrialTask

        type.__setattr__(owner, "Task", TrialTask)
        return TrialTask


class _Work:
    """What is known in the worker of the work on a trial."""

    def __init__(self) -> None:
        self.watch = Stopwatch()
        self.ended = False
        self.exception: BaseException | None = None
        self.traceback: str | None = None
        self.reported: reports.Status | None = None


class _Kinds:
    """What is found at ``Trial``; not in its own body, since a dataclass takes these for fields."""

    Report: TypeAlias = reports.Report
    SuccessReport: TypeAlias = reports.SuccessReport
    FailReport: TypeAlias = reports.FailReport
    CrashReport: TypeAlias = reports.CrashReport
    Status: TypeAlias = reports.Status
    if TYPE_CHECKING:
        Task = TrialTask
    else:
        Task = _OnFirstUse()


@dataclass
class Trial(_Kinds):
    """One configuration that is tried out.

    Plain data that travels to a worker, where its function measures it and makes its report.
    """

    #: Names it; no other trial of an optimizer or a history has it.
    name: str
    #: What is tried out.
    config: Mapping[str, Any]
    #: What it is to be measured by; where there is none, any metric is taken.
    metrics: tuple[Metric, ...] = field(default=(), kw_only=True)
    #: For what is random in it.
    seed: int | None = field(default=None, kw_only=True)
    #: How thoroughly it is to be tried out, such as ``{"epochs": 9}``.
    fidelities: Mapping[str, float] = field(default_factory=dict, kw_only=True)
    #: Plain values that the optimizer keeps with it.
    info: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    #: Whatever the function wants to note, beside the metrics; comes back with the report.
    summary: dict[str, Any] = field(default_factory=dict, kw_only=True)
    #: A folder for files of this trial, which is made when its work begins.
    storage: Path | None = field(default=None, kw_only=True)
    #: How many reports its optimizer had seen when it was asked for it, where that is known.
    n_told: int | None = field(default=None, kw_only=True)
    #: Where plugins leave things for the function, such as ``"comm"``.
    plugins: dict[str, Any] = field(default_factory=dict, kw_only=True, repr=False)
    _work: _Work | None = field(default=None, init=False, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        """Travel with what is not empty, and without what belongs to this process."""
        return {
            name: value
            for name, value in self.__dict__.items()
            if name != "_work" and (name in ("name", "config", "seed", "n_told") or value)
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrive; what did not travel is empty."""
        self.__dict__.update((name, make()) for name, make in _FACTORIES)
        self.__dict__.update(state)

    def begin(self) -> _Block:
        """Measure the block that follows, and catch what it raises.

        ::

            with trial.begin():
                accuracy = train(trial.config)
            if trial.exception is not None:
                return trial.fail()
            return trial.success(accuracy=accuracy)

        ``return trial.success(...)`` may stand inside the block as well. A function that goes on
        as if nothing had happened after the block has raised is reported as crashed by
        ``Trial.Task``, with what was raised in the block.

        Raises:
            TrialError: When the block is entered and the work has begun already, and not ended.
        """
        return _Block(self)

    @property
    def exception(self) -> BaseException | None:
        """What was raised in the block of ``begin``."""
        return None if self._work is None else self._work.exception

    @property
    def traceback(self) -> str | None:
        """The traceback of ``exception``, as text."""
        return None if self._work is None else self._work.traceback

    def success(self, /, **metrics: Any) -> reports.SuccessReport:
        """Report that the trial has its metrics.

        Args:
            **metrics: A number for each metric that the trial is measured by.

        Raises:
            TrialError: When the work has not begun, has raised, or is reported already.
            MetricError: When a metric is missing, not declared, no number, NaN, or out of bounds.
        """
        if self.exception is not None:
            message = (
                f"{self.name!r} cannot be a success, since {self.exception!r} was raised in its "
                f"block; look at trial.exception first, and return trial.fail() or trial.crashed()"
            )
            raise TrialError(message, trial=self.name) from self.exception
        checked = self._check(metrics)
        missing = [m.name for m in self.metrics if m.name not in checked]
        if missing:
            message = (
                f"{self.name!r} cannot be a success without {', '.join(missing)}; give "
                f"{', '.join(f'{name}=…' for name in missing)}, or return trial.fail()"
            )
            raise MetricError(message, metric=missing[0], value=None)
        return self._report(reports.SuccessReport, checked)

    def fail(self, /, **metrics: Any) -> reports.FailReport:
        """Report that the trial came to an end, and that its result is of no use.

        Args:
            **metrics: A number for each metric that is known.

        Raises:
            TrialError: When the work has not begun, or is reported already.
            MetricError: When a metric is not declared, no number, NaN, or out of bounds.
        """
        return self._report(reports.FailReport, self._check(metrics))

    def crashed(self, exception: BaseException | None = None) -> reports.CrashReport:
        """Report that the trial raised.

        Args:
            exception: What it raised; what the block of ``begin`` has caught by default.

        Raises:
            TrialError: When there is no exception, or the trial is reported already.
        """
        if exception is None:
            exception = self.exception
        given: object = exception
        if not isinstance(given, BaseException):
            why = "nothing was raised in its block" if given is None else f"{given!r:.200} is none"
            message = (
                f"{self.name!r} cannot have crashed without an exception, and {why}; give it: "
                f"trial.crashed(exception)"
            )
            raise TrialError(message, trial=self.name)
        assert exception is not None  # noqa: S101 - it is an exception
        self._check_unreported()
        if self._work is None:
            return reports.CrashReport(
                trial=self,
                exception=exception,
                traceback=traceback_text(exception),
                worker=worker_name(),
            )
        if exception is not self._work.exception:
            self._work.exception, self._work.traceback = exception, traceback_text(exception)
        return self._report(reports.CrashReport, {})

    def _check(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        declared = {metric.name: metric for metric in self.metrics}
        unknown = [name for name in metrics if declared and name not in declared]
        if unknown:
            message = (
                f"{self.name!r} is not measured by {unknown[0]!r}, but by: {', '.join(declared)}; "
                f"declare it, or note it in trial.summary"
            )
            raise MetricError(message, metric=unknown[0], value=metrics[unknown[0]])
        return {name: declared.get(name, Metric(name)).check(v) for name, v in metrics.items()}

    def _check_unreported(self) -> None:
        status = None if self._work is None else self._work.reported
        if status is not None:
            message = f"{self.name!r} is reported already, as {status.value}; return that report"
            raise TrialError(message, trial=self.name)

    def _report(self, kind: type[RT], metrics: dict[str, float]) -> RT:
        work = self._work
        if work is None:
            message = (
                f"{self.name!r} cannot be reported, since its work has not begun; put the work "
                f"into a block: with trial.begin():"
            )
            raise TrialError(message, trial=self.name)
        self._check_unreported()
        measured = work.watch.stop()
        work.reported = kind.status
        return kind(
            trial=self,
            metrics=metrics,
            time=measured.time,
            peak_memory_mb=measured.peak_memory_mb,
            worker=worker_name(),
            exception=work.exception,
            traceback=work.traceback,
        )


class _Block:
    """What ``trial.begin()`` returns."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial

    def __enter__(self) -> None:
        """Begin to measure."""
        trial = self._trial
        if trial._work is not None and not trial._work.ended:
            message = (
                f"the work on {trial.name!r} has begun already, and has not ended; put it into "
                f"one block, or one after the other"
            )
            raise TrialError(message, trial=trial.name)
        if trial.storage is not None:
            trial.storage.mkdir(parents=True, exist_ok=True)
        trial._work = _Work()

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> bool | None:
        """Stop measuring, and keep an exception; what is no ``Exception``, as Ctrl-C, flies on."""
        work = self._trial._work
        assert work is not None  # noqa: S101 - set when the block was entered
        work.watch.stop()
        work.ended = True
        if isinstance(error, Exception):
            work.exception, work.traceback, work.reported = error, traceback_text(error), None
            return True
        return None


#: What each field is that did not travel, and whose default is not that of the class.
_FACTORIES = [(f.name, f.default_factory) for f in fields(Trial) if callable(f.default_factory)]


def trial_of(values: Mapping[str, Any], *, unpickle: bool = False) -> Trial:
    """Make a trial of what was kept of it.

    Args:
        values: What ``write_trial`` returned.
        unpickle: See ``Report.from_dict``.

    Raises:
        HistoryError: When it cannot be read.
    """
    from amltk.optimization.records.record import read_trial

    return Trial(**read_trial(values, Metric, unpickle=unpickle))
