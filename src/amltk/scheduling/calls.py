"""The calls of a run: taking them in, settling them, telling everybody.

::

    any thread    dispatch ──▶ gate ──▶ engine ──▶ worker
                                │                    │ inner future done, in some thread
                                ▼                    ▼
    handoff        [announce call 7] [settle call 5] [settle call 6] …
                                │
    loop's thread               ▼
                   announce, settle ──▶ state ──▶ events ──▶ callbacks
                                │ ▲
                                ▼ │ a plugin holds it back, or has it tried once more
                             rest, attempt ──▶ engine

``gate`` guards the taking in: numbers, ``_futures`` and the backlog. All else is done in the loop's
thread alone, when the run takes entries off the handoff.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Executor
from concurrent.futures import Future as StandardFuture
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

from amltk._future import LightFuture
from amltk.exceptions import WorkerDiedError, WouldDeadlockError
from amltk.executors.registry import Ending, Engine
from amltk.scheduling import happenings
from amltk.scheduling.future import Audience, Future
from amltk.scheduling.handoff import Entry, Handoff
from amltk.scheduling.state import Calls, CallState, Stimulus, Telling

if TYPE_CHECKING:
    from amltk.scheduling.clock import Timer

#: A call that an inline engine has not come to.
_Waiting = tuple[Future[Any], Any, tuple[Any, ...], Mapping[str, Any], Executor | None]


class CallBook:
    """The calls of one run that have not ended.

    Args:
        engine: Who runs them.
        emit: Emits an event of the scheduler.
        wake: Makes the loop take entries off the handoff; called in any thread.
        raised: Told about the exception of each call that raised.
        gate: A re-entrant lock that is held while a call is taken in.
        later: Calls something in the loop's thread after so many seconds.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        emit: Callable[..., object],
        wake: Callable[[], object],
        raised: Callable[[BaseException], object],
        gate: AbstractContextManager[Any],
        later: Callable[[float, Callable[[], object]], Timer],
    ) -> None:
        self.engine = engine
        self.handoff: Handoff = Handoff(wake, self._settle_late)
        self._emit = emit
        self._raised = raised
        self._gate = gate
        self._later = later
        self._thread_id = threading.get_ident()
        self._calls = Calls()
        self._futures: dict[int, Future[Any]] = {}
        #: Calls of an inline engine, run by the loop one by one.
        self._backlog: deque[_Waiting] = deque()
        #: Calls to be cancelled if they have not started.
        self._sweep: deque[Future[Any]] = deque()
        #: Calls between two attempts: what the last one raised, and when the next one starts.
        self._resting: dict[int, tuple[BaseException, Timer]] = {}
        #: Whether calls are taken.
        self.is_open = False
        #: Whether a call came since this was last set to ``False``.
        self.has_news: bool = False

    @property
    def n_live(self) -> int:
        """How many calls have not ended."""
        return self._calls.n_live

    # ---------------------------------------------------------------------- from any thread

    def dispatch(
        self,
        function: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        audience: Audience | None,
        told: tuple[tuple[Any, ...], Mapping[str, Any]] | None,
        options: Mapping[str, Any] | None,
    ) -> Future[Any] | None:
        """Take a call in and hand it to the engine; see ``Scheduler.dispatch``."""
        view = self.engine.with_options(options) if options else None
        with self._gate:
            if not self.is_open:
                return None
            self.has_news = True
            number = self._calls.submit()
            future: Future[Any] = Future(number, self, audience)
            self._futures[number] = future
            if audience is not None:
                audience.call_accepted(future)
                if audience.intervenes:
                    future._plan = function, args, kwargs, view
            announcement = (self._announce, future, told or (args, kwargs))
            if self.engine.traits.runs_inline:
                self._backlog.append((future, function, args, kwargs, view))
                self.handoff.put(announcement)
                return future
            try:
                inner = self.engine.submit(function, args, kwargs, view)
            except BaseException:
                self._retract(future)
                raise
            future._inner = inner
            self.handoff.put(announcement)
        inner.add_done_callback(partial(self._inner_done, future))
        return future

    def cancel(self, future: Future[Any]) -> bool:
        """Cancel a call; see ``Future.cancel``."""
        with self._gate:  # whoever is in the middle of handing it to the engine is done first
            inner = future._inner
            if inner is None:
                self._wake_from_rest(future)
        if inner is None:  # it rests, or an inline engine has not come to it yet
            if not LightFuture.cancel(future):
                return False
            self.handoff.put((self._settle, future, future))
            return True
        if not self.engine.cancel(inner):
            return False
        if inner.cancelled():
            LightFuture.cancel(future)
        return True

    def refuse_to_wait(self, future: Future[Any]) -> None:
        """Raise if the loop's thread would wait for a call that only it can complete.

        Raises:
            WouldDeadlockError: When it would.
        """
        if threading.get_ident() == self._thread_id and not self.handoff.is_closed:
            message = (
                f"the result of call {future.number} cannot be waited for here: this is the thread "
                f"that has to complete it. Listen to the task's on_returned, or await the future"
            )
            raise WouldDeadlockError(message, number=future.number)

    def _inner_done(self, future: Future[Any], inner: StandardFuture[Any]) -> None:
        self.handoff.put((self._settle, future, inner))

    def _retract(self, future: Future[Any]) -> None:
        self._calls.retract(future.number)
        del self._futures[future.number]
        if future._audience is not None:
            future._audience.call_retracted(future)

    # ------------------------------------------------------------------ in the loop's thread

    def work_ahead(self) -> bool:
        """Do one thing that waits for the loop beside what is handed off.

        Returns:
            Whether there was any.
        """
        if self._sweep:
            self._cancel_pending(self._sweep.popleft())
        elif self._backlog:
            self._run_inline(*self._backlog.popleft())
        else:
            return False
        return True

    def cancel_all_pending(self) -> None:
        """Plan to cancel all calls that have not started."""
        self._backlog.clear()
        self._sweep.extend(self._futures.values())

    def mark_ending(self) -> list[StandardFuture[Any]]:
        """Note that the calls that are left are being ended.

        Returns:
            The engine's futures of these calls.
        """
        for number in self._futures:
            self._calls.apply(number, Stimulus.END)
        return [f._inner for f in self._futures.values() if f._inner is not None]

    def _cancel_pending(self, future: Future[Any]) -> None:
        inner = future._inner
        error = self._wake_from_rest(future)
        if error is not None:
            self._conclude(future, Ending.RAISED, error)
        elif inner is None:
            self.cancel(future)
        elif not inner.done() and self.engine.cancel_pending(inner):
            LightFuture.cancel(future)

    def _run_inline(
        self,
        future: Future[Any],
        function: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        view: Executor | None,
    ) -> None:
        if future.done() or not future.set_running_or_notify_cancel():
            return  # cancelled while it waited: it is settled by who cancelled it
        inner: StandardFuture[Any]
        try:
            inner = self.engine.submit(function, args, kwargs, view)
        except BaseException as error:  # becomes the call's exception
            inner = LightFuture()
            inner.set_exception(error)
        future._inner = inner
        self.handoff.put((self._settle, future, inner))

    def _announce(
        self, future: Future[Any], told: tuple[tuple[Any, ...], Mapping[str, Any]]
    ) -> None:
        self._emit(happenings.FUTURE_SUBMITTED, future)
        if future._audience is not None:
            future._audience.call_submitted(future, *told)

    def _settle(self, future: Future[Any], inner: StandardFuture[Any]) -> None:
        """Complete a call and tell everybody, unless a plugin wants it otherwise."""
        if future.number not in self._futures:
            return  # settled before, by who cancelled it
        audience = future._audience
        if audience is not None and audience.intervenes:
            again = partial(self.handoff.put, (self._settle, future, inner))
            if audience.call_held(future, again):
                return
        ending, value = self.engine.outcome_of(inner)
        if ending is not Ending.RAISED or not self._rest(future, value):
            self._conclude(future, ending, value)

    def _rest(self, future: Future[Any], error: BaseException) -> bool:
        """Have a call tried once more, if a plugin says so and the run goes on."""
        audience = future._audience
        if audience is None or future._plan is None or not self.is_open:
            return False
        if self._calls.state_of(future.number) is not CallState.SUBMITTED:
            return False  # its end was asked for
        delay_s = audience.call_retried(future, error)
        if delay_s is None:
            return False
        future._rest()
        timer = self._later(delay_s, partial(self._attempt, future))
        with self._gate:
            self._resting[future.number] = error, timer
        return True

    def _wake_from_rest(self, future: Future[Any]) -> BaseException | None:
        """Return what the last attempt raised, if the call rests; it does not any more."""
        with self._gate:  # of all who want to wake it, one does
            rest = self._resting.pop(future.number, None)
        if rest is None:
            return None
        error, timer = rest
        timer.cancel()
        return error

    def _attempt(self, future: Future[Any]) -> None:
        """Hand a call that rested to the engine once more."""
        with self._gate:
            plan = future._plan
            if self._wake_from_rest(future) is None or plan is None:
                return  # cancelled, or ended with the run
            if self.engine.traits.runs_inline:
                self._backlog.append((future, *plan))
                self.handoff.nudge()
                return
            inner: StandardFuture[Any]
            try:
                inner = self.engine.submit(*plan)
            except BaseException as error:  # becomes the call's exception
                inner = LightFuture()
                inner.set_exception(error)
            future._inner = inner
        inner.add_done_callback(partial(self._inner_done, future))

    def _conclude(self, future: Future[Any], ending: Ending, value: Any) -> None:
        """Complete a call and tell everybody."""
        number = future.number
        telling = self._calls.apply(number, _stimulus_of(ending, value))
        del self._futures[number]
        audience = future._audience
        if audience is not None:
            audience.call_ended(future)
        _complete(future, telling, value)
        if telling is Telling.RETURNED:
            self._emit(happenings.FUTURE_DONE, future)
            if audience is not None:
                audience.call_returned(future, value)
        elif telling is Telling.RAISED:
            self._emit(happenings.FUTURE_DONE, future)
            if audience is not None:
                audience.call_raised(future, value)
            self._raised(value)
        else:
            self._emit(happenings.FUTURE_CANCELLED, future)
            if audience is not None:
                audience.call_cancelled(future)

    def _settle_late(self, entry: Entry) -> None:
        """Complete a call that ended after the run: no event tells, but nobody waits in vain."""
        handle, future, inner = entry
        if handle == self._settle and self._futures.pop(future.number, None) is not None:
            ending, value = self.engine.outcome_of(inner)
            if future._audience is not None:
                future._audience.call_ended(future)
            _complete(future, _TOLD_LATE[ending], value)


_TOLD_LATE = {
    Ending.RETURNED: Telling.RETURNED,
    Ending.RAISED: Telling.RAISED,
    Ending.CANCELLED: Telling.CANCELLED,
}


def _stimulus_of(ending: Ending, value: object) -> Stimulus:
    if ending is Ending.RETURNED:
        return Stimulus.RETURN
    if ending is Ending.CANCELLED:
        return Stimulus.CANCEL
    died = isinstance(value, (WorkerDiedError, BrokenExecutor))
    return Stimulus.DIE if died else Stimulus.RAISE


def _complete(future: Future[Any], telling: Telling, value: Any) -> None:
    if telling is Telling.RETURNED:
        future.set_result(value)
    elif telling is Telling.RAISED:
        future.set_exception(value)
    else:
        future._set_cancelled()
    future._let_go()
