"""The loop that nearly everybody writes: ask, send off, tell, until it is enough."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from amltk._checks import check_whole
from amltk.exceptions import InvalidOptionError
from amltk.optimization.history.history import History
from amltk.optimization.optimizer import Optimizer
from amltk.optimization.search.search import OnCrash, Search, Settings
from amltk.optimization.trials.metric import Metric, as_metrics
from amltk.optimization.trials.report import Report
from amltk.optimization.trials.task import TrialTask
from amltk.optimization.trials.trial import Trial
from amltk.scheduling.scheduler import Scheduler

if TYPE_CHECKING:
    from amltk.scheduling.plugin import TaskPlugin
    from amltk.scheduling.scheduler import View


def optimize(
    target: Callable[[Trial], Report] | TrialTask[[]],
    optimizer: Optimizer,
    scheduler: Scheduler,
    *,
    metrics: Metric | Iterable[Metric] | None = None,
    max_trials: int | None = None,
    timeout: float | None = None,
    n_workers: int | None = None,
    ask_ahead: int = 0,
    on_crash: OnCrash = "continue",
    plugins: TaskPlugin | Iterable[TaskPlugin] = (),
    storage: Path | str | None = None,
    history: History | None = None,
    wait: bool = True,
    display: bool | View = False,
) -> History:
    """Try out what an optimizer proposes until a limit is reached, or nothing is left to try.

    Give a ``Trial.Task`` for the target to listen to it, and add a stopping rule with
    ``task.on_report(…)`` and ``scheduler.stop()``.

    Args:
        target: A function that is given a trial and returns its report, or a ``Trial.Task``.
        optimizer: What proposes trials and learns from their reports. It is called in a thread of
            its own, one call at a time, so that a slow one stalls nobody; unless it says by an
            attribute ``is_quick`` that it never takes longer than a moment.
        scheduler: Who runs the trials. It must not be running.
        metrics: What trials are measured by; those of the optimizer by default.
        max_trials: How many trials there are, whatever becomes of them; no limit by default.
        timeout: After how many seconds no trial is begun any more; no limit by default.
        n_workers: How many trials run at once; as many as the scheduler has workers by default.
        ask_ahead: How many trials the optimizer is asked for before a worker is free for them,
            and before it has heard of those that run. With 0 each ask has seen all reports so far.
        on_crash: What is done when a trial crashes: ``"continue"``, ``"stop"`` the run in good
            order, or ``"raise"`` what it raised, at the end of the run.
        plugins: Plugins of the task, where the target is a function.
        storage: A folder in which each trial gets one of its own.
        history: To which the reports are added; a new one by default. Give one of yours to have
            the reports in any case, also when an exception or Ctrl-C ends the run.
        wait: Whether trials that run when the run ends are waited for, or are cancelled.
        display: Whether a live view is shown in the terminal; or a view of your own.

    Returns:
        All reports in order, and the trials that were cancelled.

    Raises:
        InvalidOptionError: When an option makes no sense.
        SchedulerRunningError: When the scheduler is running already.
        BaseException: What the optimizer, a callback, or with ``on_crash="raise"`` a trial raised.
    """
    settings = Settings(
        metrics=_metrics_of(optimizer, metrics),
        max_trials=_whole("max_trials", max_trials, least=1),
        n_workers=_workers_of(scheduler, n_workers),
        ask_ahead=_whole("ask_ahead", ask_ahead, least=0) or 0,
        on_crash=_on_crash(on_crash),
        storage=None if storage is None else Path(storage),
    )
    task = _task_of(target, scheduler, plugins)
    search = Search(task, scheduler, settings, History() if history is None else history)
    with search.attached(), search.asking(optimizer):
        scheduler.run(
            timeout=timeout, end_on_empty=False, wait=wait, end_on_exception=False, display=display
        )
    if search.crash is not None and on_crash == "raise":
        raise search.crash
    return search.history


def _metrics_of(
    optimizer: Optimizer, metrics: Metric | Iterable[Metric] | None
) -> tuple[Metric, ...]:
    own: tuple[Metric, ...] | None = getattr(optimizer, "metrics", None)
    if metrics is None and own is None:
        message = (
            f"what trials are measured by is not known: {optimizer!r} has no attribute `metrics`; "
            f"give metrics=Metric(…)"
        )
        raise InvalidOptionError(message, option="metrics", value=None)
    given = as_metrics(metrics if metrics is not None else own or ())
    if own is not None and given != tuple(own):
        message = (
            f"metrics={', '.join(map(str, given))} are not those of the optimizer, which learns "
            f"from {', '.join(map(str, own))}; leave metrics= out, or make them the same"
        )
        raise InvalidOptionError(message, option="metrics", value=metrics)
    return given


def _workers_of(scheduler: Scheduler, n_workers: int | None) -> int:
    found = _whole("n_workers", n_workers, least=1) or scheduler.traits.n_workers
    if found is None:
        message = (
            "how many workers the scheduler has is not known before it runs; say how many trials "
            "are to run at once: n_workers=…"
        )
        raise InvalidOptionError(message, option="n_workers", value=None)
    return found


def _task_of(
    target: Callable[[Trial], Report] | TrialTask[[]],
    scheduler: Scheduler,
    plugins: TaskPlugin | Iterable[TaskPlugin],
) -> TrialTask[[]]:
    if not isinstance(target, TrialTask):
        return TrialTask(target, scheduler, plugins=plugins)
    if target.scheduler is not scheduler:
        message = (
            f"the task {target.name!r} belongs to another scheduler; give optimize() the one that "
            f"the task was made with"
        )
        raise InvalidOptionError(message, option="scheduler", value=scheduler)
    if plugins != ():
        message = f"the task {target.name!r} has plugins of its own; give it these when it is made"
        raise InvalidOptionError(message, option="plugins", value=plugins)
    return target


def _whole(option: str, value: int | None, *, least: int) -> int | None:
    if value is not None:
        check_whole(option, value, least=least)
    return value


def _on_crash(on_crash: OnCrash) -> OnCrash:
    if on_crash not in ("continue", "stop", "raise"):
        message = f'on_crash={on_crash!r} is not possible; give "continue", "stop" or "raise"'
        raise InvalidOptionError(message, option="on_crash", value=on_crash)
    return on_crash
