"""One run of a scheduler: made when it starts, dropped when it has ended.

::

    STARTING ──▶ RUNNING ──── a reason to end ────▶ FINISHING ──── all settled ────▶ FINISHED
                 │      ▲                           │
                 ▼      │                           ▼
    _drain: take entry after entry off the handoff; between two of them look whether there is a
    reason to end; every few milliseconds let others of the loop have their turn

Callbacks run in ``_drain`` and nowhere else, so they never run inside ``submit`` and a chain of calls
of any length needs no stack. The coroutine of the run only waits; ``closing`` ends what is to end.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import threading
import warnings
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from amltk._errors import add_note
from amltk._logs import log_error
from amltk.events import EventManager
from amltk.exceptions import LateCallWarning
from amltk.executors.registry import Traits, adopt
from amltk.scheduling import happenings
from amltk.scheduling.calls import CallBook
from amltk.scheduling.clock import Clock, Timer
from amltk.scheduling.closing import Closing, Terminate
from amltk.scheduling.future import Audience, Future
from amltk.scheduling.later import Later
from amltk.scheduling.patience import Patience
from amltk.scheduling.policy import EXIT_CODES, STOPPING, ExitCode, Reason, RunSettings
from amltk.scheduling.services import RunAccess, S, Services
from amltk.scheduling.snapshot import SchedulerSnapshot, TaskSnapshot

logger: logging.Logger = logging.getLogger(__name__)

#: How long callbacks may keep the loop before others of the loop get their turn.
SLICE_S = 0.005

#: With so many calls under way nobody waits for a single one of them: the loop then looks for
#: completions once in a while instead of being woken for each, which costs more than the rest.
CROWD = 64
LOOK_S = 0.001


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
        recover: Whether a pool that breaks is replaced.
        settings: When it ends and how.
        gate: A re-entrant lock that is held while a call is taken in.
    """

    def __init__(
        self,
        *,
        manager: EventManager,
        executor: Executor | Callable[[], Executor],
        terminate: Terminate,
        recover: bool,
        settings: RunSettings,
        gate: AbstractContextManager[Any],
    ) -> None:
        self._manager = manager
        self._emit = manager.emit
        self._executor = executor
        self._terminate = terminate
        self._recover = recover
        self._settings = settings
        self._gate = gate
        self.phase: Phase = Phase.STARTING
        self._book: CallBook | None = None
        self._asked: tuple[Reason, BaseException | None] | None = None
        self._failure: BaseException | None = None
        self._interrupted = False
        self._cancelled_by_interrupt = False
        self._told_empty = False
        #: Whether listeners are being told that the run ends.
        self._tells_end = False
        self._has_warned = False
        #: Callbacks that are to be called later; guarded by the gate.
        self._laters: dict[Later, None] = {}
        self._deadline: float | None = None

    # ---------------------------------------------------------------- the coroutine of the run

    async def execute(self) -> Outcome:
        """Run until there is a reason to end, and end in good order.

        Returns:
            How it ended.

        Raises:
            Exception: What making the executor raised; nothing was emitted then.
        """
        given = self._executor
        make = None if isinstance(given, Executor) else given
        executor = given if isinstance(given, Executor) else given()
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._clock = Clock(self._loop)
        self._patience = Patience(self._coroutine_cancelled)
        self._ending: asyncio.Future[None] = self._loop.create_future()
        self._swept: asyncio.Future[None] = self._loop.create_future()
        self._settled: asyncio.Future[None] = self._loop.create_future()
        self._started_at = self._clock.now()
        self._book = book = CallBook(
            engine=adopt(executor, make=make, recover=self._recover),
            emit=self._emit,
            wake=self._wake,
            raised=self._call_raised,
            gate=self._gate,
            later=self._clock.call_later,
        )
        access = RunAccess(self._loop, self._thread_id, self._put_entry, self._put_entry_here)
        self._services = Services(access)
        closing = Closing(
            book,
            clock=self._clock,
            patience=self._patience,
            terminate=self._terminate,
            swept=self._swept,
            settled=self._settled,
            fail=self._fail,
        )
        timer = self._start(book)
        try:
            await self._patience.wait_for(self._ending, until_urgency=3)
            await closing.let_calls_end(wait=self._settings.wait)
        finally:
            if timer is not None:
                timer.cancel()
            await self._close(book, closing)
        return self._outcome()

    def _start(self, book: CallBook) -> Timer | None:
        timer = None
        timeout = self._settings.timeout
        if timeout is not None:
            self._deadline = self._started_at + timeout
            timer = self._clock.call_later(timeout, partial(self.ask, Reason.TIMEOUT))
        book.is_open = self._asked is None
        self.phase = Phase.RUNNING
        self._emit(happenings.STARTED)
        self._drain()
        return timer

    async def _close(self, book: CallBook, closing: Closing) -> None:
        """Close what is ours and tell that the run is over."""
        self.phase = Phase.FINISHING
        book.is_open = False
        await closing.close_engine()
        if self._services:
            await closing.close_services(self._services)
        self._emit(happenings.FINISHED)
        self.phase = Phase.FINISHED
        book.handoff.close()

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
        return self._book is not None and self._book.is_open

    @property
    def traits(self) -> Traits | None:
        """What its executor can do, once there is one."""
        return None if self._book is None else self._book.engine.traits

    def dispatch(
        self,
        function: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        audience: Audience | None = None,
        told: tuple[tuple[Any, ...], Mapping[str, Any]] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Future[Any] | None:
        """Take a call in; see ``Scheduler.dispatch``."""
        book = self._book
        if book is None:
            return None
        return book.dispatch(function, args, kwargs, audience=audience, told=told, options=options)

    def call_refused(self, name: str) -> None:
        """Warn, once, of a call that a listener of the run's end has submitted."""
        if self._tells_end and not self._has_warned and threading.get_ident() == self._thread_id:
            self._has_warned = True
            message = (
                f"a call of {name} is not taken, since the run is ending; what listens to its end can "
                f"submit nothing any more. scheduler.accepts_calls() tells whether a call would be taken"
            )
            warnings.warn(message, LateCallWarning, stacklevel=4)

    def post(self, emit: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        """Have something emitted in the loop's thread, after what is waiting there."""
        self._put_entry(_emit_posted, emit, arguments)

    def service(self, key: Hashable, make: Callable[[RunAccess], S]) -> S:
        """Return a service of this run; see ``Scheduler.service``."""
        with self._gate:
            return self._services.get(key, make)

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> Later:
        """Have a callback called later; see ``Scheduler.call_later``."""
        book = self._book
        later = Later(callback, self._clock.now() + delay_s, self._call_off)
        with self._gate:
            if book is None or not book.is_open:
                return later  # of a run that finishes: it is never called
            self._laters[later] = None
        self._put_entry(self._arm, later, None)
        return later

    def _call_off(self, later: Later) -> bool:
        with self._gate:
            if later not in self._laters:
                return False
            del self._laters[later]
        self._put_entry(_disarm, later, None)
        return True

    def _put_entry(self, do: Callable[[Any, Any], object], first: Any, second: Any) -> None:
        if self._book is not None:
            self._book.handoff.put((do, first, second))

    def _put_entry_here(self, do: Callable[[Any, Any], object], first: Any, second: Any) -> None:
        """Have something done at once if nothing waits; in the loop's thread, not in a callback."""
        if self._book is not None:
            self._book.handoff.awake()  # no need to wake what is awake
            self._book.handoff.put((do, first, second))
            self._drain()

    def ask(self, reason: Reason, error: BaseException | None = None) -> None:
        """Ask the run to end; the first reason counts."""
        if self._asked is not None:
            return
        self._asked = (reason, error)
        if self._book is not None:
            self._book.is_open = False
            self._book.handoff.nudge()

    def interrupt(self, cancels: bool) -> None:  # noqa: FBT001 - a callback
        """End the run because of Ctrl-C; a second time, leave behind what does not end.

        Args:
            cancels: Whether the coroutine is going to be cancelled for this very Ctrl-C.
        """
        self._interrupted = True
        self._cancelled_by_interrupt |= cancels
        self.ask(Reason.INTERRUPTED)
        if self._book is not None:
            self._loop.call_soon_threadsafe(self._patience.lose)

    def snapshot(self, tasks: tuple[TaskSnapshot, ...]) -> SchedulerSnapshot:
        """Return what the run looks like now, from any thread."""
        book, elapsed_s, remaining_s = self._book, 0.0, None
        if book is not None:
            now = self._clock.now()
            elapsed_s = now - self._started_at
            remaining_s = None if self._deadline is None else max(0.0, self._deadline - now)
        ending = self.phase in (Phase.FINISHING, Phase.FINISHED)
        return SchedulerSnapshot(
            phase="finishing" if ending else "running",
            elapsed_s=elapsed_s,
            remaining_s=remaining_s,
            n_running=0 if book is None else book.n_live,
            tasks=tasks,
        )

    def _arm(self, later: Later, _second: object) -> None:
        if later in self._laters:
            later.arm(self._clock, partial(self._put_entry, self._call, later, None))

    def _call(self, later: Later, _second: object) -> None:
        with self._gate:
            if later not in self._laters:
                return  # called off
            del self._laters[later]
        try:
            later.callback()
        except BaseException as error:
            name = getattr(later.callback, "__qualname__", type(later.callback).__qualname__)
            add_note(error, f'raised in callback "{name}" of call_later')
            raise

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._drain)
        except RuntimeError:  # the loop was closed under a run that was left behind
            if self._book is not None:
                self._book.handoff.close()

    # ---------------------------------------------------------------- in the loop's thread

    def _drain(self) -> None:
        """Take off what is waiting, until nothing is or others of the loop want their turn."""
        book = self._book
        if book is None or self.phase is Phase.FINISHED:
            return
        try:
            self._take_entries(book)
        except BaseException as error:  # raised by the run
            self._fail(error)
            self._loop.call_soon(self._drain)

    def _take_entries(self, book: CallBook) -> None:
        handoff, now = book.handoff, self._clock.now
        handoff.awake()
        entries = handoff.entries
        slice_end = now() + SLICE_S
        took_any = False
        while True:
            if self._asked is not None and self.phase is Phase.RUNNING:
                self._begin_finishing(book, self._asked[0])
            if entries:
                handle, first, second = entries.popleft()
                handle(first, second)
                took_any = True
            elif book.work_ahead() or (not book.n_live and self._notice_idle(book)):
                pass
            elif took_any and book.n_live > CROWD:
                self._notice_swept()
                self._loop.call_later(LOOK_S, self._drain)
                return
            elif handoff.sleep():
                self._notice_swept()
                return
            time = now()
            if self._deadline is not None and time >= self._deadline:
                self.ask(Reason.TIMEOUT)
            if time >= slice_end:
                self._loop.call_soon(self._drain)
                return

    def _notice_idle(self, book: CallBook) -> bool:
        """Do what is to be done when no call is live; tell whether there may be more to do."""
        if self.phase is not Phase.RUNNING:
            if not self._settled.done():
                self._settled.set_result(None)
            return False
        if not self._settings.end_on_empty:
            if self._told_empty and not book.has_news:
                return False
            self._told_empty, book.has_news = True, False
            self._emit(happenings.EMPTY)
            return True
        if self._laters:
            return False
        if self._manager.has(happenings.EMPTY):
            self._emit(happenings.EMPTY)
        with self._gate:  # no other thread slips a call in between looking and deciding
            if not book.n_live and not book.handoff.entries and not self._laters:
                self.ask(Reason.EXHAUSTED)
        return True

    def _notice_swept(self) -> None:
        if self.phase is Phase.FINISHING and not self._swept.done():
            self._swept.set_result(None)

    def _begin_finishing(self, book: CallBook, reason: Reason) -> None:
        with self._gate:  # whoever is in the middle of a submission comes out of it first
            book.is_open = False
            self.phase = Phase.FINISHING
            laters, self._laters = self._laters, {}
        for later in laters:
            later.disarm()
        self._tells_end = True
        if reason in STOPPING:
            self._emit(happenings.STOP)
        elif reason is Reason.TIMEOUT:
            self._emit(happenings.TIMEOUT)
        self._emit(happenings.FINISHING)
        self._tells_end = False
        book.cancel_all_pending()
        self._ending.set_result(None)

    def _call_raised(self, error: BaseException) -> None:
        if self.phase is not Phase.RUNNING or not self._settings.ends_run(error):
            return
        # As long as nothing was told of another reason, such as a `stop()` by a listener of this
        # very exception, the exception is the better one: nothing gets hidden.
        self._asked = None
        self.ask(Reason.CALL_RAISED, error)

    def _coroutine_cancelled(self) -> None:
        if self._cancelled_by_interrupt:
            self._cancelled_by_interrupt = False  # one Ctrl-C is one demand, not two
        elif self.phase is Phase.RUNNING and self._asked is None:
            self.ask(Reason.CANCELLED)
        else:
            self._patience.lose()

    def callback_failed(self, error: BaseException) -> bool:
        """Take the error of a callback, so that the emission goes on.

        Returns:
            Whether it was taken: only in the loop's thread, while the run is on.
        """
        if self._book is None or threading.get_ident() != self._thread_id:
            return False
        if self.phase is Phase.FINISHED:
            return False
        self._fail(error)
        return True

    def _fail(self, error: BaseException) -> None:
        if self._interrupted and isinstance(error, KeyboardInterrupt):
            return  # Ctrl-C inside a callback: the run is ending because of it already
        if self._failure is None:
            self._failure = error
        else:
            log_error(logger, "a run that ends with another error also met this", error)
        if self.phase is Phase.RUNNING and not self._interrupted:
            self._asked = None
            self.ask(Reason.CALLBACK_RAISED, error)


def _disarm(later: Later, _second: object) -> None:
    later.disarm()


def _emit_posted(emit: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    emit(*arguments)
