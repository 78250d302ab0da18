"""Keeps calls apart that would change the same thing of their process at the same time."""

from __future__ import annotations

import os
import threading

from amltk.exceptions import CallError


class Alone:
    """Lets in the calls of one thread, and turns those of others away while one is inside.

    Engines that run calls in threads are refused when the task is made. This is for those that
    nobody can tell before, such as a Dask worker with several threads.

    Args:
        name: What lets in, for the message.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._forget()
        if hasattr(os, "register_at_fork"):
            # The thread that is inside does not exist in a forked child, and would never leave.
            os.register_at_fork(after_in_child=self._forget)

    def enter(self) -> bool:
        """Go in, if no other thread is inside; the same thread may go in again."""
        return self._lock.acquire(blocking=False)

    def leave(self) -> None:
        """Go out, as often as one went in."""
        self._lock.release()

    def __enter__(self) -> None:
        """Go in.

        Raises:
            CallError: When another thread is inside.
        """
        if not self.enter():
            message = (
                f"{self._name} could not be used for this call: another call is running in a "
                f"thread of the same process {os.getpid()}, and what it sets holds for the whole "
                f"process; give each worker process one thread"
            )
            raise CallError(message)

    def __exit__(self, *_: object) -> None:
        self.leave()

    def _forget(self) -> None:
        self._lock = threading.RLock()
