"""The events of a run; users know them as attributes of ``Scheduler``."""

from __future__ import annotations

from typing import Any

from amltk.events import Event
from amltk.scheduling.future import Future

STARTED: Event[[]] = Event("scheduler-started")
FUTURE_SUBMITTED: Event[Future[Any]] = Event("scheduler-future-submitted")
FUTURE_DONE: Event[Future[Any]] = Event("scheduler-future-done")
FUTURE_CANCELLED: Event[Future[Any]] = Event("scheduler-future-cancelled")
EMPTY: Event[[]] = Event("scheduler-empty")
TIMEOUT: Event[[]] = Event("scheduler-timeout")
STOP: Event[[]] = Event("scheduler-stop")
FINISHING: Event[[]] = Event("scheduler-finishing")
FINISHED: Event[[]] = Event("scheduler-finished")
