"""What the driver writes itself, in a thread that nobody waits for unless asked to."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from amltk.plugins._wandb.guard import attempt, reports


class Background:
    """Does jobs one after the other in a thread that lives as long as there are any.

    The thread is no daemon: the process ends when it has done what it was given, and each job is
    bounded in time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: deque[Callable[[], object]] = deque()
        self._thread: threading.Thread | None = None

    def add(self, job: Callable[[], object]) -> None:
        """Have something done; from any thread, without waiting."""
        with self._lock:
            self._jobs.append(job)
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._work, name="amltk-wandb")
            try:
                thread.start()
            except RuntimeError as error:  # the interpreter is ending
                self._jobs.clear()
                reports.failed(error)
            else:
                self._thread = thread

    def wait(self, deadline: float) -> bool:
        """Wait until there is nothing to do.

        Args:
            deadline: Until when, by the monotonic clock.

        Returns:
            Whether there is nothing left.
        """
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
            return not thread.is_alive()
        return True

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._thread = None
                    return
                job = self._jobs.popleft()
            attempt(job, otherwise=None)
