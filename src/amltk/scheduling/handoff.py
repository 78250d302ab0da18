"""The one way from other threads into the loop.

::

    worker thread ── put ──▶ deque ──┐
    worker thread ── put ──▶         ├── take ──▶ the loop's thread
    user's thread ── put ──▶         │
                       └── wake, only if the loop sleeps

Appending to a deque and reading a flag are atomic, so no lock is needed: who puts appends first
and then looks whether the loop sleeps; the loop says first that it sleeps and then looks once
more. Whatever the order, one of the two sees the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

#: Something to do in the loop's thread, with its two arguments; two are enough for all.
Entry = tuple[Callable[[Any, Any], object], Any, Any]


class Handoff:
    """A queue whose reader is woken only when it sleeps.

    Args:
        wake: Called, in the thread of whoever puts, to make the loop take.
        late: Called instead, with the entry, once the handoff is closed.
    """

    def __init__(self, wake: Callable[[], object], late: Callable[[Entry], object]) -> None:
        self.entries: deque[Entry] = deque()
        self._wake = wake
        self._late = late
        self._sleeping = False
        #: Whether the run is over.
        self.is_closed: bool = False

    def put(self, entry: Entry) -> None:
        """Leave something for the loop to do; from any thread."""
        self.entries.append(entry)
        if self._sleeping:
            self._sleeping = False
            self._wake()
        elif self.is_closed:
            self._flush()

    def nudge(self) -> None:
        """Make the loop look around although there is nothing to take; from any thread."""
        self.put((_nothing, None, None))

    def sleep(self) -> bool:
        """Say that the loop will take nothing until it is woken.

        Returns:
            ``False`` if something came in meanwhile, and has to be taken first.
        """
        self._sleeping = not self.is_closed
        if self.entries:
            self._sleeping = False
            return False
        return True

    def awake(self) -> None:
        """Say that the loop is taking by itself, and need not be woken."""
        self._sleeping = False

    def close(self) -> None:
        """Take nothing any more: what comes from now on is late."""
        self._sleeping = False
        self.is_closed = True
        self._flush()

    def _flush(self) -> None:
        # Who closes and who puts may both be here; each entry is popped by one of them.
        while True:
            try:
                entry = self.entries.popleft()
            except IndexError:
                return
            self._late(entry)


def _nothing(_first: object, _second: object) -> None:
    """Do nothing."""
