"""Waiting in a run: for something to be done, but no longer than somebody's patience.

Every wait of a run's coroutine goes through here, so that each of them ends when the coroutine is
cancelled or Ctrl-C is pressed. Urgency only grows: 0 lets running calls finish, 1 ends them, 2
leaves behind even what cannot be ended.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any


class Patience:
    """How urgently a run has to end.

    Args:
        on_cancel: Called in the loop's thread when the run's coroutine is cancelled.
    """

    def __init__(self, on_cancel: Callable[[], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_cancel = on_cancel
        self._hurry: asyncio.Future[None] | None = None
        #: 0, 1 or 2; see the module.
        self.urgency: int = 0

    def lose(self, degrees: int = 1) -> None:
        """Make it more urgent; in the loop's thread."""
        self.urgency += degrees
        if self._hurry is not None and not self._hurry.done():
            self._hurry.set_result(None)

    async def wait_for(self, done: asyncio.Future[Any], *, until_urgency: int) -> bool:
        """Wait until something is done or it has become too urgent.

        Args:
            done: What is waited for; it is never cancelled.
            until_urgency: The urgency at which to give up.

        Returns:
            Whether it is done.
        """
        while not done.done() and self.urgency < until_urgency:
            hurry = self._hurry = self._loop.create_future()
            try:
                await asyncio.wait({done, hurry}, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                # The run ends in its own way and returns a code that says so. Without this, an
                # enclosing `asyncio.timeout` would count the request as still unanswered.
                task = asyncio.current_task()
                if task is not None:
                    task.uncancel()
                self._on_cancel()
        return done.done()

    async def in_thread(self, work: Callable[[], object], *, until_urgency: int) -> bool:
        """Do something that blocks in a thread of its own.

        A thread of our own, so that no default executor is left in the user's loop.

        Args:
            work: What to do.
            until_urgency: The urgency at which to stop waiting for it.

        Returns:
            Whether it is done.

        Raises:
            Exception: What ``work`` raised.
        """
        done: asyncio.Future[None] = self._loop.create_future()

        def tell(error: BaseException | None) -> None:
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        def body() -> None:
            error: BaseException | None = None
            try:
                work()
            except BaseException as raised:
                error = raised
            try:
                self._loop.call_soon_threadsafe(tell, error)
            except RuntimeError:
                # The loop is closed: it became too urgent to wait for this.
                return

        threading.Thread(target=body, name="amltk-ending", daemon=True).start()
        finished = await self.wait_for(done, until_urgency=until_urgency)
        if finished:
            done.result()
        return finished
