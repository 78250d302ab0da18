"""How starts of workers went: when the next one is due, and when there is no hope."""

from __future__ import annotations

import time

from amltk.exceptions import WorkerStartError

#: So many starts in a row may fail until the pool gives up.
MAX_FAILED_STARTS = 5

#: The wait after the first failed start; doubled after each further one.
_BACK_OFF_S = 0.05

#: The longest wait, where other workers are up.
_LONGEST_S = 10.0


class Starts:
    """Counts the starts in a row that have failed."""

    def __init__(self) -> None:
        self._n_failed = 0
        self._cause: BaseException | None = None
        #: Before this moment none is to be tried; 0 after one that went well.
        self.next_at: float = 0.0

    @property
    def are_hopeless(self) -> bool:
        """Whether so many have failed that no more are to be tried."""
        return self._n_failed >= MAX_FAILED_STARTS

    def note_success(self) -> None:
        """Take note that a worker has come up."""
        self._n_failed, self.next_at = 0, 0.0

    def note_cause(self, cause: BaseException) -> None:
        """Take note of what the initializer of a worker raised, which is about to end."""
        self._cause = cause

    def note_failure(self, cause: BaseException | None = None) -> None:
        """Take note that a worker has not come up, and of why, where that is known."""
        self._n_failed += 1
        self._cause = cause or self._cause
        wait_s = min(_BACK_OFF_S * 2 ** min(self._n_failed - 1, 20), _LONGEST_S)
        self.next_at = time.monotonic() + wait_s

    def error(self) -> WorkerStartError:
        """Make the error that all calls get that no worker can run."""
        why = f": {self._cause!r}" if self._cause is not None else ""
        message = (
            f"no worker process came up in {self._n_failed} attempts in a row{why}; look at "
            f"the initializer and at what the workers printed, then make a new executor"
        )
        error = WorkerStartError(message, attempts=self._n_failed)
        error.__cause__ = self._cause
        return error
