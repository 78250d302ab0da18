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

from amltk._errors import set_cause
from amltk._future import PENDING, RUNNING, LightFuture
from amltk.exceptions import WorkerDiedError, WouldDeadlockError
from amltk.executors.registry import Ending, Engine
from amltk.scheduling import happenings
from amltk.scheduling.attempts import note_failures
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
        #: Calls between two attempts: what starts the next one, once that was decided.
        self._resting: dict[int, Timer | None] = {}
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
            inner: StandardFuture[Any] | None = None
            try:
                if audience is not None:
                    audience.call_accepted(future)
                    if audience.may_retry:
                        future._plan = function, args, kwargs, view
                if self.engine.traits.runs_inline:
                    self._backlog.append((future, function, args, kwargs, view))
                else:
                    inner = future._inner = self.engine.submit(function, args, kwargs, view)
            except BaseException:
                self._retract(future)
                raise
            self.handoff.put((self._announce, future, told or (args, kwargs)))
        if inner is not None:
            inner.add_done_callback(partial(self._inner_done, future))
        return future

    def cancel(self, future: Future[Any]) -> bool:
        """Cancel a call; see ``Future.cancel``."""
        with self._gate:  # whoever is in the middle of handing it to the engine is done first
            inner = future._inner
            if inner is None:
                self._wake_from_rest(future)
            else:
                future._cancel_asked = True
        if inner is None:  # it rests, or an inline engine has not come to it yet
            if not LightFuture.cancel(future):
                return False
            self.handoff.put((self._settle, future, future))
            return True
        if not self.engine.cancel(inner):
            return False
        return LightFuture.cancel(future) if inner.cancelled() else True

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

    def is_telling(self) -> bool:
        """Tell whether ends of calls, or what else has come in, are still to be told."""
        return bool(self.handoff.entries or self._sweep or self._backlog)

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
        if inner is None:
            if not self._end_rest(future):
                self.cancel(future)
        elif not inner.done() and self.engine.cancel_pending(inner) and not future._failures:
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
        try:
            inner = self.engine.submit(function, args, kwargs, view)
        except BaseException as error:  # becomes the call's exception
            inner = _refused(future, error)
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
        if inner is not future and inner is not future._inner:
            return  # an earlier attempt, whose outcome was told of twice
        audience, bug = future._audience, None
        if audience is not None and audience.may_hold:
            again = partial(self.handoff.put, (self._settle, future, inner))
            try:
                if audience.call_held(future, again):
                    return
            except BaseException as error:  # raised below, when the call is completed
                future._plan, bug = None, error
        ending, value = self.engine.outcome_of(inner)
        stimulus = _stimulus_of(ending, value)
        may_go_on = future._plan is not None and stimulus is not Stimulus.RETURN
        if not may_go_on or not self._goes_on(future, stimulus, value):
            self._conclude(future, stimulus, value)
        if bug is not None:
            raise bug

    def _goes_on(self, future: Future[Any], stimulus: Stimulus, value: Any) -> bool:
        """See to what may not be the outcome of a call that may be tried again.

        Returns:
            Whether that was done; if not, it is the outcome.
        """
        if self._calls.state_of(future.number) is not CallState.SUBMITTED:
            return False  # its end was asked for
        if stimulus is Stimulus.CANCEL:  # maybe by the run, which keeps attempts from starting
            return not (self.is_open or future._cancel_asked) and self._end_rest(future)
        if not self.is_open:
            return False
        self._rest(future, value)
        return True

    def _rest(self, future: Future[Any], error: BaseException) -> None:
        """Have a call tried once more if a plugin says so; if none does, it is over."""
        audience, number = future._audience, future.number
        with self._gate:
            future._rest(error)  # from here on it can be cancelled, by who is asked or told too
            self._resting[number] = None
        delay_s = None
        try:
            if audience is not None:
                delay_s = audience.call_retried(future, error)
        finally:
            if delay_s is None:
                self._end_rest(future)
        with self._gate:
            if delay_s is not None and number in self._resting:
                self._resting[number] = self._later(delay_s, partial(self._attempt, future))

    def _end_rest(self, future: Future[Any]) -> bool:
        """Let the last attempt of a call that waits for the next one be its outcome.

        Returns:
            Whether it waited for one, and nobody was quicker to cancel it.
        """
        # With the change nobody can cancel it any more.
        if not future._failures or not future._change((PENDING,), RUNNING):
            return False
        self._wake_from_rest(future)
        self._conclude(future, Stimulus.RAISE, future._failures[-1])
        return True

    def _wake_from_rest(self, future: Future[Any]) -> bool:
        """Call its next attempt off; tell whether the call rested."""
        with self._gate:  # of all who want to wake it, one does
            rested = future.number in self._resting
            timer = self._resting.pop(future.number, None)
        if timer is not None:
            timer.cancel()
        return rested

    def _attempt(self, future: Future[Any]) -> None:
        """Hand a call that rested to the engine once more."""
        with self._gate:
            plan = future._plan
            if plan is None or not self.is_open or not self._wake_from_rest(future):
                return  # cancelled, or it ends with the run
            if self.engine.traits.runs_inline:
                self._backlog.append((future, *plan))
                self.handoff.nudge()
                return
            try:
                inner = self.engine.submit(*plan)
            except BaseException as error:  # becomes the call's exception
                inner = _refused(future, error)
            future._inner = inner
        inner.add_done_callback(partial(self._inner_done, future))

    def _conclude(self, future: Future[Any], stimulus: Stimulus, value: Any) -> None:
        """Complete a call and tell everybody."""
        telling = self._calls.apply(future.number, stimulus)
        del self._futures[future.number]
        audience, bug = future._audience, None
        if audience is not None:
            try:
                audience.call_ended(future)
            except BaseException as error:  # raised below, when everybody is told
                bug = error
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
        if bug is not None:
            raise bug

    def _settle_late(self, entry: Entry) -> None:
        """Complete a call that ended after the run: no event tells, but nobody waits in vain."""
        handle, future, inner = entry
        if handle == self._settle and self._futures.pop(future.number, None) is not None:
            ending, value = self.engine.outcome_of(inner)
            try:
                if future._audience is not None:
                    future._audience.call_ended(future)
            finally:
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
        if future._failures:
            note_failures(value, future._failures)
        future.set_exception(value)
    else:
        future._set_cancelled()
    future._let_go()


def _refused(future: Future[Any], error: BaseException) -> StandardFuture[Any]:
    """Make the outcome of an attempt that the engine did not take; it is the last one."""
    future._plan = None
    failures = future._failures
    if failures and error.__cause__ is None and all(error is not one for one in failures):
        set_cause(error, failures[-1])
    inner: StandardFuture[Any] = LightFuture()
    inner.set_exception(error)
    return inner
