"""One run of a scheduler: made when it starts, dropped when it has ended.

::

    any thread    submit ──▶ gate ──▶ engine ──▶ worker
                               │                   │ inner future done, in some thread
                               ▼                   ▼
    handoff       [announce call 7] [settle call 5] [settle call 6] …
                               │
    loop's thread              ▼
                  drain: one entry after the other ──▶ state ──▶ events ──▶ callbacks
                  (between two entries: stop, timeout; every few milliseconds: the loop's turn)

Who may touch what: ``gate`` guards the taking of new calls (``_accepting``, numbers, backlog);
all else is the loop's thread's own. Callbacks run in ``_drain`` and nowhere else, so they never
run inside ``submit`` and a chain of calls of any length needs no stack.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import threading
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Executor
from concurrent.futures import Future as StandardFuture
from dataclasses import dataclass
from functools import partial
from typing import Any

from amltk._future import LightFuture
from amltk.events import EventManager
from amltk.exceptions import RunningCallsWarning, WorkerDiedError, WouldDeadlockError
from amltk.executors.registry import Ending, Engine, adopt
from amltk.scheduling import happenings
from amltk.scheduling.clock import Clock, Timer
from amltk.scheduling.future import Audience, Future
from amltk.scheduling.handoff import Entry, Handoff
from amltk.scheduling.patience import Patience
from amltk.scheduling.policy import EXIT_CODES, STOPPING, ExitCode, Reason, RunSettings
from amltk.scheduling.snapshot import SchedulerSnapshot, TaskSnapshot
from amltk.scheduling.state import Calls, Stimulus, Telling

logger = logging.getLogger(__name__)

#: How long callbacks may keep the loop before others of the loop get their turn.
SLICE_S = 0.005

#: How long an ended worker has between TERM and KILL.
GRACE_S = 3.0

Terminate = bool | Callable[[Executor], object]


class Phase(enum.Enum):
    """Where a run is."""

    STARTING = "starting"
    RUNNING = "running"
    FINISHING = "finishing"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended: by an exit code or by an error."""

    code: ExitCode | None = None
    error: BaseException | None = None
    interrupted: bool = False


class Run:
    """One run.

    Args:
        manager: The events of the scheduler.
        executor: An executor that stays its owner's, or what makes one for this run.
        terminate: How running calls are ended: ``True`` as the engine does it, ``False`` not at
            all, or a function of the executor.
        settings: When it ends and how.
        gate: A re-entrant lock that is held while a call is submitted.
    """

    def __init__(
        self,
        *,
        manager: EventManager,
        executor: Executor | Callable[[], Executor],
        terminate: Terminate,
        settings: RunSettings,
        gate: Any,
    ) -> None:
        self.gate = gate
        self._manager = manager
        self._emit = manager.emit
        self._executor = executor
        self._terminate = terminate
        self._settings = settings
        self.phase = Phase.STARTING
        self._accepting = False
        self._asked: tuple[Reason, BaseException | None] | None = None
        self._failure: BaseException | None = None
        self._interrupted = False
        self._calls = Calls()
        self._futures: dict[int, Future[Any]] = {}
        #: Calls of an inline engine that wait for the loop to run them.
        self._backlog: deque[tuple[Future[Any], Any, tuple[Any, ...], Mapping[str, Any]]] = deque()
        #: Calls to be cancelled, if they have not started, because the run is finishing.
        self._sweep: deque[Future[Any]] = deque()
        self._told_empty = False
        self._deadline: float | None = None

    # ---------------------------------------------------------------- the coroutine of the run

    async def execute(self) -> Outcome:
        """Run until there is a reason to end, and end in good order.

        Returns:
            How it ended.

        Raises:
            Exception: What making the executor raised; nothing was emitted then.
        """
        owned = not isinstance(self._executor, Executor)
        executor = self._executor if isinstance(self._executor, Executor) else self._executor()
        self._engine: Engine = adopt(executor)
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._clock = Clock(self._loop)
        self._patience = Patience(self._coroutine_cancelled)
        self._handoff = Handoff(self._wake, self._settle_late)
        self._ending: asyncio.Future[None] = self._loop.create_future()
        self._settled: asyncio.Future[None] = self._loop.create_future()
        self._started_at = self._clock.now()
        timer = self._start()
        try:
            await self._patience.wait_for(self._ending, until_urgency=3)
            await self._let_calls_end()
        finally:
            if timer is not None:
                timer.cancel()
            await self._close(owned=owned)
        return self._outcome()

    def _start(self) -> Timer | None:
        timer = None
        if self._settings.timeout is not None:
            self._deadline = self._started_at + self._settings.timeout
            timer = self._clock.call_later(
                self._settings.timeout, partial(self.ask, Reason.TIMEOUT)
            )
        self._accepting = self._asked is None
        self.phase = Phase.RUNNING
        self._emit(happenings.STARTED)
        self._drain()
        return timer

    async def _let_calls_end(self) -> None:
        """Wait for running calls or end them, as settings and urgency say."""
        if self._settings.wait and not self._settled.done():
            await self._patience.wait_for(self._settled, until_urgency=1)
        if not self._settled.done():
            await self._end_calls()
        if not await self._patience.wait_for(self._settled, until_urgency=2):
            self._abandon("they could not be ended in time")

    async def _end_calls(self) -> None:
        if self._terminate is False:
            self._settled.set_result(None)  # left alone, as was asked for
            return
        for number in self._futures:
            self._calls.apply(number, Stimulus.END)
        inners = [f._inner for f in self._futures.values() if f._inner is not None]  # noqa: SLF001 - the run is what a future's privates are for
        engine, terminate = self._engine, self._terminate
        if callable(terminate):
            work: Callable[[], object] = partial(terminate, engine.executor)
        elif engine.can_end_calls:
            work = partial(engine.end_calls, inners, GRACE_S)
        else:
            self._warn("they cannot be ended on this engine, so the run waits for them")
            return
        try:
            await self._patience.in_thread(work, until_urgency=2)
        except BaseException as error:  # noqa: BLE001 - raised by the run
            self._fail(error)
        self._clock.call_later(GRACE_S, self._patience.lose)
        await self._patience.wait_for(self._settled, until_urgency=2)

    async def _close(self, *, owned: bool) -> None:
        """Close what is ours and tell that the run is over."""
        self.phase = Phase.FINISHING
        self._accepting = False
        if owned:
            close = partial(self._engine.close, wait=not self._futures)
            try:
                await self._patience.in_thread(close, until_urgency=2)
            except BaseException as error:  # noqa: BLE001 - raised by the run
                self._fail(error)
        self._emit(happenings.FINISHED)
        self.phase = Phase.FINISHED
        self._handoff.close()

    def _outcome(self) -> Outcome:
        reason, error = self._asked or (Reason.CANCELLED, None)
        if self._interrupted:
            return Outcome(error=self._failure, interrupted=True)
        if self._failure is not None:
            return Outcome(error=self._failure)
        return Outcome(code=EXIT_CODES.get(reason), error=error)

    # ---------------------------------------------------------------- from any thread

    @property
    def accepts_calls(self) -> bool:
        """Whether new calls are taken."""
        return self._accepting

    def dispatch(
        self,
        function: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        audience: Audience | None = None,
        told: tuple[tuple[Any, ...], Mapping[str, Any]] | None = None,
    ) -> Future[Any] | None:
        """Take a call and hand it to the engine.

        Args:
            function: A portable function.
            args: What it is called with.
            kwargs: What it is called with.
            audience: Who is told about the call beside the scheduler's listeners.
            told: The arguments that the audience is told, where plugins changed them.

        Returns:
            The call's future, or ``None`` when no calls are taken any more.

        Raises:
            Exception: Whatever the executor raises when it takes no calls.
        """
        with self.gate:
            if not self._accepting:
                return None
            self._told_empty = False
            number = self._calls.submit()
            future: Future[Any] = Future(number, self, audience)
            self._futures[number] = future
            if audience is not None:
                audience.call_accepted(future)
            announcement = (self._announce, future, told or (args, kwargs))
            if self._engine.traits.runs_inline:
                self._backlog.append((future, function, args, kwargs))
                self._handoff.put(announcement)
                return future
            try:
                inner = self._engine.submit(function, args, kwargs)
            except BaseException:
                self._retract(future)
                raise
            future._inner = inner  # noqa: SLF001 - the run is what a future's privates are for
            self._handoff.put(announcement)
        inner.add_done_callback(partial(self._inner_done, future))
        return future

    def post(self, emit: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        """Have something emitted in the loop's thread, after what is waiting there."""
        self._handoff.put((self._emit_posted, emit, arguments))

    def ask(self, reason: Reason, error: BaseException | None = None) -> None:
        """Ask the run to end; the first reason counts."""
        if self._asked is None:
            self._asked = (reason, error)
            self._accepting = False
            if self.phase is not Phase.STARTING:
                self._handoff.nudge()

    def interrupt(self) -> None:
        """End the run because of Ctrl-C; a second time, leave behind what does not end."""
        self._interrupted = True
        self.ask(Reason.INTERRUPTED)
        if self.phase is not Phase.STARTING:
            self._loop.call_soon_threadsafe(self._patience.lose)

    def cancel(self, future: Future[Any]) -> bool:
        """Cancel a call; see ``Future.cancel``."""
        inner = future._inner  # noqa: SLF001 - the run is what a future's privates are for
        if inner is None:  # an inline engine has not come to it yet
            if not LightFuture.cancel(future):
                return False
            self._handoff.put((self._settle, future, future))
            return True
        if not self._engine.cancel(inner):
            return False
        if inner.cancelled():
            LightFuture.cancel(future)
        return True

    def refuse_to_wait(self, future: Future[Any]) -> None:
        """Raise if the loop's thread would wait for a call that only it can complete.

        Raises:
            WouldDeadlockError: When it would.
        """
        if threading.get_ident() == self._thread_id and self.phase is not Phase.FINISHED:
            message = (
                f"the result of call {future.number} cannot be waited for here: this is the thread "
                f"that has to complete it. Listen to the task's on_returned, or await the future"
            )
            raise WouldDeadlockError(message, number=future.number)

    def snapshot(self, tasks: tuple[TaskSnapshot, ...]) -> SchedulerSnapshot:
        """Return what the run looks like now, from any thread."""
        elapsed_s = remaining_s = None
        if self.phase is not Phase.STARTING:
            now = self._clock.now()
            elapsed_s = now - self._started_at
            remaining_s = None if self._deadline is None else max(0.0, self._deadline - now)
        return SchedulerSnapshot(
            phase="finishing" if self.phase in _ENDING else "running",
            elapsed_s=elapsed_s or 0.0,
            remaining_s=remaining_s,
            n_running=self._calls.n_live,
            tasks=tasks,
        )

    def _retract(self, future: Future[Any]) -> None:
        self._calls.retract(future.number)
        del self._futures[future.number]
        audience = future._audience  # noqa: SLF001 - the run is what a future's privates are for
        if audience is not None:
            audience.call_retracted(future)

    def _inner_done(self, future: Future[Any], inner: StandardFuture[Any]) -> None:
        self._handoff.put((self._settle, future, inner))

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._drain)
        except RuntimeError:
            # The loop was closed under a run that was left behind.
            self._handoff.close()

    # ---------------------------------------------------------------- in the loop's thread

    def _drain(self) -> None:
        """Take off what is waiting, until nothing is or others of the loop want their turn."""
        if self.phase is Phase.FINISHED:
            return
        try:
            self._take_entries()
        except BaseException as error:  # noqa: BLE001 - raised by the run
            self._fail(error)
            self._loop.call_soon(self._drain)

    def _take_entries(self) -> None:
        handoff, now = self._handoff, self._clock.now
        handoff.awake()
        entries = handoff.entries
        deadline = self._deadline
        slice_end = now() + SLICE_S
        while True:
            if self._asked is not None and self.phase is Phase.RUNNING:
                self._begin_finishing(*self._asked)
            if entries:
                handle, first, second = entries.popleft()
                handle(first, second)
            elif self._sweep:
                self._cancel_pending(self._sweep.popleft())
            elif self._backlog and self.phase is Phase.RUNNING:
                self._run_inline(*self._backlog.popleft())
            elif (self._calls.n_live or not self._notice_idle()) and handoff.sleep():
                return
            time = now()
            if deadline is not None and time >= deadline:
                deadline = None
                self.ask(Reason.TIMEOUT)
            if time >= slice_end:
                self._loop.call_soon(self._drain)
                return

    def _notice_idle(self) -> bool:
        """Do what is to be done when no call is live; tell whether there may be more to do."""
        if self.phase is not Phase.RUNNING:
            if not self._settled.done():
                self._settled.set_result(None)
            return False
        if not self._settings.end_on_empty:
            if self._told_empty:
                return False
            self._told_empty = True
            self._emit(happenings.EMPTY)
            return True
        if self._manager.has(happenings.EMPTY):
            self._emit(happenings.EMPTY)
        with self.gate:  # no other thread slips a call in between looking and deciding
            if not self._calls.n_live and not self._handoff.entries:
                self.ask(Reason.EXHAUSTED)
        return True

    def _begin_finishing(self, reason: Reason, _error: BaseException | None) -> None:
        with self.gate:  # whoever is in the middle of a submission comes out of it first
            self._accepting = False
            self.phase = Phase.FINISHING
        if reason in STOPPING:
            self._emit(happenings.STOP)
        elif reason is Reason.TIMEOUT:
            self._emit(happenings.TIMEOUT)
        self._emit(happenings.FINISHING)
        self._backlog.clear()
        self._sweep.extend(self._futures.values())
        self._ending.set_result(None)

    def _cancel_pending(self, future: Future[Any]) -> None:
        inner = future._inner  # noqa: SLF001 - the run is what a future's privates are for
        if inner is None:
            self.cancel(future)
        elif not inner.done() and self._engine.cancel_pending(inner):
            LightFuture.cancel(future)

    def _run_inline(
        self, future: Future[Any], function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        if not future.set_running_or_notify_cancel():
            return  # cancelled while it waited: it is settled by who cancelled it
        inner: StandardFuture[Any]
        try:
            inner = self._engine.submit(function, args, kwargs)
        except BaseException as error:  # noqa: BLE001 - becomes the call's exception
            inner = LightFuture()
            inner.set_exception(error)
        future._inner = inner  # noqa: SLF001 - the run is what a future's privates are for
        self._handoff.put((self._settle, future, inner))

    def _announce(
        self, future: Future[Any], told: tuple[tuple[Any, ...], Mapping[str, Any]]
    ) -> None:
        self._emit(happenings.FUTURE_SUBMITTED, future)
        audience = future._audience  # noqa: SLF001 - the run is what a future's privates are for
        if audience is not None:
            audience.call_submitted(future, *told)

    def _settle(self, future: Future[Any], inner: StandardFuture[Any]) -> None:
        """Complete a call and tell everybody."""
        number = future.number
        if number not in self._futures:
            return  # left behind
        ending, value = self._engine.outcome_of(inner)
        telling = self._calls.apply(number, _stimulus_of(ending, value))
        del self._futures[number]
        audience = future._audience  # noqa: SLF001 - the run is what a future's privates are for
        if audience is not None:
            audience.call_ended(future)
        _complete(future, telling, value)
        if telling is Telling.CANCELLED:
            self._emit(happenings.FUTURE_CANCELLED, future)
            if audience is not None:
                audience.call_cancelled(future)
        elif telling is Telling.RETURNED:
            self._emit(happenings.FUTURE_DONE, future)
            if audience is not None:
                audience.call_returned(future, value)
        else:
            self._emit(happenings.FUTURE_DONE, future)
            if audience is not None:
                audience.call_raised(future, value)
            self._ask_after(value)

    def _ask_after(self, error: BaseException) -> None:
        if self.phase is not Phase.RUNNING or not self._settings.ends_run(error):
            return
        # Before anything was told of another reason, such as a `stop()` that a listener of this
        # very exception called, the exception is the better one: nothing gets hidden.
        self._asked = None
        self.ask(Reason.CALL_RAISED, error)

    def _settle_late(self, entry: Entry) -> None:
        """Complete a call that ended after the run: nobody is told, but nobody waits in vain."""
        handle, future, inner = entry
        if handle == self._settle and self._futures.pop(future.number, None) is not None:
            ending, value = self._engine.outcome_of(inner)
            _complete(future, _TOLD_LATE[ending], value)

    def _emit_posted(self, emit: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        emit(*arguments)

    def _coroutine_cancelled(self) -> None:
        if self.phase is Phase.RUNNING and self._asked is None:
            self.ask(Reason.CANCELLED)
        else:
            self._patience.lose()

    def callback_failed(self, error: BaseException) -> bool:
        """Take the error of a callback, so that the emission goes on.

        Returns:
            Whether it was taken: only in the loop's thread, while the run is on.
        """
        if threading.get_ident() != self._thread_id or self.phase is Phase.FINISHED:
            return False
        self._fail(error)
        return True

    def _fail(self, error: BaseException) -> None:
        if self._interrupted and isinstance(error, KeyboardInterrupt):
            return  # Ctrl-C inside a callback: the run is ending because of it already
        if self._failure is None:
            self._failure = error
        else:
            logger.error("a run that ends with %r also met this", self._failure, exc_info=error)
        if self.phase is Phase.RUNNING and (self._asked is None or not self._interrupted):
            self._asked = None
            self.ask(Reason.CALLBACK_RAISED, error)

    def _warn(self, why: str) -> None:
        n, plural = len(self._futures), "s" if len(self._futures) != 1 else ""
        message = f"the run has ended with {n} call{plural} still running: {why}"
        try:
            warnings.warn(message, RunningCallsWarning, stacklevel=2)
        except RunningCallsWarning as error:  # warnings are errors here
            self._fail(error)

    def _abandon(self, why: str) -> None:
        self._warn(why)
        if not self._settled.done():
            self._settled.set_result(None)


_ENDING = (Phase.FINISHING, Phase.FINISHED)

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
    died = isinstance(value, WorkerDiedError | BrokenExecutor)
    return Stimulus.DIE if died else Stimulus.RAISE


def _complete(future: Future[Any], telling: Telling, value: Any) -> None:
    if telling is Telling.RETURNED:
        future.set_result(value)
    elif telling is Telling.RAISED:
        future.set_exception(value)
    else:
        future._set_cancelled()  # noqa: SLF001 - the run is what a future's privates are for
    future._let_go()  # noqa: SLF001 - the run is what a future's privates are for
