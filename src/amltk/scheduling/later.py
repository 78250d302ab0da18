"""Callbacks that a run calls after a while.

::

    any thread     call_later(5, look) ──▶ Later ── armed in the loop's thread ──▶ timer
    loop's thread                                     after what waits there ◀── due
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amltk.scheduling.clock import Clock, Timer


class Later:
    """A callback that is called later, unless it is called off or the run finishes before.

    Args:
        callback: What to call.
        due_at: When, by the run's clock.
        call_off: Called with it when it is called off.
    """

    def __init__(
        self, callback: Callable[[], object], due_at: float, call_off: Callable[[Later], bool]
    ) -> None:
        self.callback = callback
        self._due_at = due_at
        self._call_off = call_off
        self._timer: Timer | None = None

    def cancel(self) -> bool:
        """Call it off; from any thread.

        Returns:
            Whether it would have been called; ``False`` if it was, or is being, called, or was called
            off before, also by the end of its run.
        """
        return self._call_off(self)

    def arm(self, clock: Clock, due: Callable[[], object]) -> None:
        """Start to wait; in the loop's thread.

        Args:
            clock: Of the run.
            due: Called when it is time.
        """
        self._timer = clock.call_later(max(0.0, self._due_at - clock.now()), due)

    def disarm(self) -> None:
        """Wait no more; in the loop's thread."""
        if self._timer is not None:
            self._timer.cancel()
