"""One call of ``optimize``: what is ready, what runs, and when it is enough.

::

    asker ── asked(trial) ──▶ ready ── a worker is free ──▶ task(trial)
      ▲                                                        │
      └── tell(report), want(1) ◀── history ◀── REPORT ◀───────┘

All of it runs in the loop's thread, but for the optimizer; see ``asking.py``.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from amltk._contexts import context
from amltk._errors import set_cause
from amltk.exceptions import ExhaustedError, RemoteTraceback, TrialError
from amltk.optimization.history.history import History
from amltk.optimization.optimizer import Optimizer
from amltk.optimization.search.asking import (
    LAST_CALL_IN_HASTE_S,
    LAST_CALL_S,
    Asker,
    ThreadedAsker,
)
from amltk.optimization.trials.metric import Metric
from amltk.optimization.trials.report import CrashReport, Report
from amltk.optimization.trials.task import TrialTask
from amltk.optimization.trials.trial import Trial
from amltk.scheduling.scheduler import Scheduler

logger: logging.Logger = logging.getLogger(__name__)

#: What is done when a trial crashes.
OnCrash: TypeAlias = Literal["continue", "stop", "raise"]

#: How many seconds the reports that are left at the end of a run are told to the optimizer.
TELL_REST_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of ``optimize``, checked."""

    metrics: tuple[Metric, ...]
    max_trials: int | None
    n_workers: int
    ask_ahead: int
    on_crash: OnCrash
    storage: Path | None


class Search:
    """One call of ``optimize``.

    Args:
        task: What runs the trials.
        scheduler: Who runs the task.
        settings: The options.
        history: Where the reports go.
    """

    def __init__(
        self, task: TrialTask[[]], scheduler: Scheduler, settings: Settings, history: History
    ) -> None:
        self.history = history
        #: What the trial raised that ends the run.
        self.crash: BaseException | None = None
        self._task = task
        self._scheduler = scheduler
        self._settings = settings
        self._asker: Asker | None = None
        #: Trials that no worker was free for yet.
        self._ready: deque[Trial] = deque()
        self._running: set[str] = set()
        self._names: set[str] = {report.name for report in history}
        self._n_asked = 0
        self._n_asking = 0
        self._n_telling = 0
        self._nothing_left = False
        self._refused = False
        self._crashed_before = False

    # -------------------------------------------------------------------- around the run

    @context
    def attached(self) -> Iterator[None]:
        """Listen while the context lasts."""
        scheduler, task = self._scheduler, self._task
        listening = [
            (scheduler.on_start, self._fill),
            (scheduler.on_empty, self._look),
            (task.on_report, self._reported),
            (task.on_cancelled, self._cancelled),
        ]
        subscribers: list[Any] = []
        try:
            for subscriber, callback in listening:
                subscriber(callback, name=f"optimize-{id(self)}")  # type: ignore[operator]
                subscribers.append(subscriber)
            yield
        finally:
            for subscriber in subscribers:
                subscriber.remove(f"optimize-{id(self)}")

    @context
    def asking(self, optimizer: Optimizer) -> Iterator[None]:
        """Have the optimizer at hand while the context lasts."""
        if getattr(optimizer, "is_quick", False):
            self._asker = Asker(optimizer, self)
        else:
            deliver, in_order = self._scheduler.post, self._settings.ask_ahead == 0
            self._asker = ThreadedAsker(optimizer, self, deliver=deliver, in_order=in_order)
        patience = {"patience_s": 0.0, "last_call_s": LAST_CALL_IN_HASTE_S}
        try:
            yield
            patience = {"patience_s": TELL_REST_S, "last_call_s": LAST_CALL_S}
        finally:
            for trial in self._ready:
                self._asker.forget(trial)
            n_untold = self._asker.close(**patience)
            if n_untold:
                logger.warning(
                    "the run is over, and the last %d reports were not told to the optimizer, "
                    "which takes long; to go on with it, tell them: they are the last ones of "
                    "the history",
                    n_untold,
                )

    # ------------------------------------------------------------------ in the loop's thread

    def _fill(self) -> None:
        """Keep the workers busy, and have as many trials proposed as that takes."""
        settings, ready = self._settings, self._ready
        self._refused = False
        while ready and len(self._running) < settings.n_workers and not self._refused:
            self._begin(ready.popleft())
        wanted = settings.n_workers - len(self._running) + settings.ask_ahead
        wanted -= len(ready) + self._n_asking
        if settings.max_trials is not None:
            wanted = min(wanted, settings.max_trials - self._n_asked)
        if wanted > 0 and not self._nothing_left and self._scheduler.accepts_calls():
            self._n_asked += wanted
            self._n_asking += wanted
            self._the_asker.want(wanted)
        self._look()

    def _begin(self, trial: Trial) -> None:
        self._running.add(trial.name)
        future = None
        try:
            future = self._task(trial)
        finally:
            if future is None:
                self._running.discard(trial.name)
        if future is None:  # the run is finishing, or a plugin refused it, maybe for now only
            self._ready.appendleft(trial)
            self._refused = True

    def _reported(self, report: Report) -> None:
        if report.name not in self._running:
            return  # of a trial that somebody else has sent off
        self._running.discard(report.name)
        self.history.append(report)
        self._n_telling += 1
        self._the_asker.tell(report)
        if isinstance(report, CrashReport):
            self._note_crash(report)
        self._fill()

    def _cancelled(self, trial: Trial) -> None:
        if trial.name not in self._running:
            return
        self._running.discard(trial.name)
        self.history.add_cancelled(trial)
        self._the_asker.forget(trial)
        self._fill()

    def _note_crash(self, report: CrashReport) -> None:
        if not self._crashed_before:  # one is enough to see what is wrong; the history has them all
            self._crashed_before = True
            logger.warning(
                "%s crashed, the first one that does:\n%s", report.name, report.traceback
            )
        if self._settings.on_crash == "continue" or self.crash is not None:
            return
        error = report.exception
        if error is not None and error.__traceback__ is None and error.__cause__ is None:
            set_cause(error, RemoteTraceback(report.traceback or ""))
        self.crash = error
        self._scheduler.stop()

    def _look(self) -> None:
        """End the run if there is nothing left to do, and nobody else has calls under way."""
        if self._is_over() and not self._scheduler.snapshot().n_running:
            self._scheduler.stop()

    def _is_over(self) -> bool:
        if self._running or self._n_asking or self._n_telling:
            return False
        if self._ready:
            return self._refused  # by a plugin, which has nothing to wait for
        return self._nothing_left or self._n_asked == self._settings.max_trials

    @property
    def _the_asker(self) -> Asker:
        assert self._asker is not None  # noqa: S101 - there while the run is on
        return self._asker

    # ------------------------------------------------------------ told of by the optimizer

    def asked(self, trial: Trial) -> None:
        """Take a trial that was proposed."""
        self._n_asking -= 1
        given: object = trial
        if not isinstance(given, Trial):
            message = f"the optimizer has proposed {given!r:.200}, which is no Trial"
            raise TrialError(message, trial=repr(given))
        if trial.name in self._names:
            message = (
                f"the optimizer has proposed two trials of the name {trial.name!r}; each needs a "
                f"name of its own"
            )
            raise TrialError(message, trial=trial.name)
        self._names.add(trial.name)
        trial.metrics = trial.metrics or self._settings.metrics
        if trial.storage is None and self._settings.storage is not None:
            trial.storage = self._settings.storage / trial.name
        self._ready.append(trial)
        self._fill()

    def exhausted(self, error: ExhaustedError) -> None:
        """Take it that there is nothing left to try."""
        self._n_asking -= 1
        self._n_asked -= 1
        if not self._nothing_left:
            self._nothing_left = True
            logger.info("nothing is left to try: %s", error)
        self._look()

    def told(self, report: Report) -> None:
        """Take it that the optimizer has learnt from a report."""
        del report
        self._n_telling -= 1
        self._look()

    def forgotten(self, trial: Trial) -> None:
        """Take it that the optimizer has heard of a trial that will have no report."""

    def failed(self, error: BaseException) -> None:
        """End the run with what the optimizer raised."""
        raise error
