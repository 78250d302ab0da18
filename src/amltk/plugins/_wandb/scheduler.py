"""The run of the driver: how many calls a scheduler has, as time goes on.

::

    loop's thread    STARTED, FUTURE_…, FINISHED ──▶ counts ── once in a while ──▶ Background
    its own thread   open ──▶ log, log, … ──▶ finish
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from amltk.plugins._wandb.background import Background
from amltk.plugins._wandb.run import GuardedRun, open_run
from amltk.plugins._wandb.settings import Plan, RunSettings

if TYPE_CHECKING:
    from amltk.scheduling.future import Future
    from amltk.scheduling.scheduler import Scheduler

#: What is counted, as keys of a row are called.
_COUNTED: tuple[str, ...] = ("submitted", "returned", "failed", "cancelled")


class SchedulerTracker:
    """Tracks the runs of a scheduler, each as one run of Weights & Biases.

    ``WandbPlugin.scheduler_tracker`` makes it; it needs no more than to be made.

    Args:
        scheduler: Whose calls are counted.
        settings: How runs are opened.
        plan: Makes the plan of a run.
        every_s: How many seconds there are at least between two rows.
        background: Who writes.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        settings: RunSettings,
        plan: Callable[[], Plan],
        *,
        every_s: float,
        background: Background,
    ) -> None:
        self.settings = settings
        self.every_s = every_s
        self._scheduler = scheduler
        self._plan = plan
        self._background = background
        self._session: _Session | None = None
        self._handlers: list[tuple[Any, Any]] = [
            (scheduler.on_start, self._started),
            (scheduler.on_future_submitted, self._submitted),
            (scheduler.on_future_done, self._done),
            (scheduler.on_future_cancelled, self._cancelled),
            (scheduler.on_finished, self._finished),
        ]
        subscriber: Any
        for subscriber, handler in self._handlers:
            subscriber(handler)

    def detach(self) -> None:
        """Track no further runs of the scheduler."""
        for subscriber, handler in self._handlers:
            subscriber.remove(handler)
        self._handlers = []
        self._finished()

    def _started(self) -> None:
        plan = self._plan()
        self._session = _Session(self.settings, plan, self.every_s, self._background)

    def _submitted(self, _future: Future[Any]) -> None:
        self._count("submitted")

    def _done(self, future: Future[Any]) -> None:
        self._count("returned" if future.exception() is None else "failed")

    def _cancelled(self, _future: Future[Any]) -> None:
        self._count("cancelled")

    def _count(self, what: str) -> None:
        if self._session is not None:
            self._session.count(what)

    def _finished(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.finish()


class _Session:
    """One run of the scheduler. Counts in the loop's thread, writes in the background."""

    def __init__(
        self, settings: RunSettings, plan: Plan, every_s: float, background: Background
    ) -> None:
        self._every_s = every_s
        self._background = background
        self._counts: dict[str, int] = dict.fromkeys(_COUNTED, 0)
        self._begun = time.monotonic()
        self._due = self._begun
        self._run: GuardedRun | None = None
        background.add(partial(self._open, settings, plan))

    def count(self, what: str) -> None:
        self._counts[what] += 1
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + self._every_s
            self._background.add(partial(self._log, self._row()))

    def finish(self) -> None:
        self._background.add(partial(self._conclude, self._row()))

    def _row(self) -> dict[str, float]:
        counts = self._counts
        ended = counts["returned"] + counts["failed"] + counts["cancelled"]
        row: dict[str, float] = {f"calls/{name}": n for name, n in counts.items()}
        row["calls/running"] = counts["submitted"] - ended
        row["scheduler/elapsed_s"] = time.monotonic() - self._begun
        return row

    def _open(self, settings: RunSettings, plan: Plan) -> None:
        self._run = open_run(settings, plan, dict)
        self._run.define_metric("calls/*", step_metric="scheduler/elapsed_s")

    def _log(self, row: dict[str, float]) -> None:
        if self._run is not None:
            self._run.log(row)

    def _conclude(self, row: dict[str, float]) -> None:
        if self._run is not None:
            self._run._conclude(row, row=row, code=0)
