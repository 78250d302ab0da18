"""A view of a running scheduler in the terminal.

It is a listener like any other: it reads ``scheduler.snapshot()`` a few times a second in a
thread of its own and hears of errors through ``on_future_done``. Nothing in the core knows it.
"""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from amltk._optional import require
from amltk._words import text_of

require("rich", extra="display", purpose="the live view")

from rich.console import Console, Group, RenderableType  # noqa: E402 - after the check
from rich.live import Live  # noqa: E402 - after the check
from rich.text import Text  # noqa: E402 - after the check

from amltk.display.tables import Rates, task_table  # noqa: E402 - after the check

if TYPE_CHECKING:
    from amltk.scheduling.future import Future
    from amltk.scheduling.scheduler import Scheduler
    from amltk.scheduling.snapshot import SchedulerSnapshot

#: How often the view is drawn anew, each second.
REFRESHES_PER_S = 4

#: Over how many refreshes the rate is averaged.
_RATE_WINDOW = 5 * REFRESHES_PER_S


class LiveView:
    """Shows a scheduler while the context lasts; quiet where the output is no terminal.

    Args:
        scheduler: The scheduler to show.
        console: Where to draw; the standard output by default.
    """

    def __init__(self, scheduler: Scheduler, *, console: Console | None = None) -> None:
        self._scheduler = scheduler
        self._console = console or Console()
        self._history: deque[SchedulerSnapshot] = deque(maxlen=_RATE_WINDOW)
        self._last_error = ""
        self._live: Live | None = None
        self._listener = f"live-view-{id(self)}"

    def __enter__(self) -> Self:
        """Start to draw."""
        if not self._console.is_terminal:
            return self
        self._history.append(self._scheduler.snapshot())  # earlier runs do not count as speed
        self._scheduler.on_future_done(self._note_error, name=self._listener)
        # Drawn once more while the run is still on: afterwards there would be no times to show.
        self._scheduler.on_finished(self._draw_last, name=self._listener)
        self._live = Live(
            get_renderable=self.render,
            console=self._console,
            refresh_per_second=REFRESHES_PER_S,
            transient=False,
        )
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the last picture on the screen and stop listening."""
        if self._live is None:
            return
        self._live.stop()
        self._live = None
        self._scheduler.on_future_done.remove(self._listener)
        self._scheduler.on_finished.remove(self._listener)

    def render(self) -> RenderableType:
        """Draw the scheduler as it is now; from any thread."""
        snapshot = self._scheduler.snapshot()
        if snapshot.phase == "idle" and self._history:
            snapshot = self._history[-1]
        else:
            self._history.append(snapshot)
        before = self._history[0] if len(self._history) > 1 else None
        table = task_table(snapshot, Rates.between(before, snapshot))
        if not self._last_error:
            return table
        return Group(table, Text(f"last error: {self._last_error}", style="red"))

    def _note_error(self, future: Future[Any]) -> None:
        error = future.exception()
        if error is not None:
            first_line = text_of(error).strip().partition("\n")[0]
            self._last_error = f"{type(error).__name__}: {first_line}"[:200]

    def _draw_last(self) -> None:
        self._history.append(self._scheduler.snapshot())
