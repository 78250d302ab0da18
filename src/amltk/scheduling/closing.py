"""How a run ends the calls that still run, and closes what is its own.

::

    wait for them ── Ctrl-C, wait=False ──▶ end them ── GRACE_S, Ctrl-C ──▶ leave them, with a warning
                                                │
    the engine, the services ◀──────────────────┘
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING

from amltk.exceptions import RunningCallsWarning

if TYPE_CHECKING:
    from amltk.scheduling.calls import CallBook
    from amltk.scheduling.clock import Clock, Timer
    from amltk.scheduling.patience import Patience
    from amltk.scheduling.services import Services

#: How long an ended worker has between TERM and KILL.
GRACE_S = 3.0

#: How often it is looked whether callbacks have been told of all ends, once that time is over.
_LOOK_S = 0.1

Terminate = bool | Callable[[Executor], object]


class Closing:
    """The end of one run, in the loop's thread.

    Args:
        book: The run's calls.
        clock: Measures the grace.
        patience: Waits, as long as nobody loses it.
        terminate: How running calls are ended; see ``Run``.
        swept: Is done when all that has not started is cancelled.
        settled: Is done when no call is left.
        fail: Takes an error, for the run to raise.
    """

    def __init__(
        self,
        book: CallBook,
        *,
        clock: Clock,
        patience: Patience,
        terminate: Terminate,
        swept: asyncio.Future[None],
        settled: asyncio.Future[None],
        fail: Callable[[BaseException], object],
    ) -> None:
        self._book = book
        self._clock = clock
        self._patience = patience
        self._terminate = terminate
        self._swept = swept
        self._settled = settled
        self._fail = fail
        self._timer: Timer

    async def let_calls_end(self, *, wait: bool) -> None:
        """Wait for running calls or end them, as settings and urgency say."""
        if wait:
            await self._patience.wait_for(self._settled, until_urgency=1)
        if not self._settled.done():
            await self._end_calls()
        if not await self._patience.wait_for(self._settled, until_urgency=2):
            self._warn("they could not be ended in time")

    async def close_engine(self) -> None:
        """Close the executor if the run has made it."""
        engine = self._book.engine
        if engine.owned:
            close = partial(engine.close, wait=self._book.n_live == 0)
            try:
                await self._patience.in_thread(close, until_urgency=2)
            except BaseException as error:  # raised by the run
                self._fail(error)

    async def close_services(self, services: Services) -> None:
        """Close what lived as long as the run."""
        try:
            services.close()
        except ExceptionGroup as error:  # raised by the run
            self._fail(error)
        # What they closed in the loop is told so in its next turn.
        loop = self._settled.get_loop()
        turn: asyncio.Future[None] = loop.create_future()
        loop.call_soon(turn.set_result, None)
        await self._patience.wait_for(turn, until_urgency=3)

    async def _end_calls(self) -> None:
        if self._terminate is False:
            # What runs is left alone, as was asked for; what has not started is cancelled first.
            await self._patience.wait_for(self._swept, until_urgency=2)
            if not self._settled.done():
                self._settled.set_result(None)
            return
        engine, inners = self._book.engine, self._book.mark_ending()
        work: Callable[[], object]
        if callable(self._terminate):
            work = partial(self._terminate, engine.expect_end())
        elif engine.can_end_calls:
            work = partial(engine.end_calls, inners, GRACE_S)
        else:
            self._warn("they cannot be ended on this engine, so the run waits for them")
            return
        try:
            await self._patience.in_thread(work, until_urgency=2)
        except BaseException as error:  # raised by the run
            self._fail(error)
        self._timer = self._clock.call_later(GRACE_S, self._give_up_if_idle)
        await self._patience.wait_for(self._settled, until_urgency=2)
        self._timer.cancel()

    def _give_up_if_idle(self) -> None:
        """Lose patience with the engine, but not with callbacks that are still told of ends."""
        if self._book.is_telling():
            self._timer = self._clock.call_later(_LOOK_S, self._give_up_if_idle)
        else:
            self._patience.lose(2)

    def _warn(self, why: str) -> None:
        message = f"the run has ended with calls still running ({self._book.n_live}): {why}"
        try:
            warnings.warn(message, RunningCallsWarning, stacklevel=2)
        except RunningCallsWarning as error:  # warnings are errors here
            self._fail(error)
