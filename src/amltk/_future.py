"""A ``concurrent.futures.Future`` that is cheap until somebody waits for it.

The standard future makes a condition with a lock and a deque for itself when it is created:
about 1.5 KiB and 2 microseconds, for something that event-driven code hardly ever uses. This
one makes them when the first waiter comes::

    set_result ──▶ _complete ──┬── nobody waits: state changes under the module's lock
                               └── a condition exists: state changes under it, waiters are told

The module's lock decides between the two, so that no waiter misses the change. All of the
standard library's helpers work: ``wait``, ``as_completed`` and ``asyncio.wrap_future`` use
``_condition``, ``_waiters`` and ``_state``, whose meaning is kept.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import _base as base
from typing import Any, TypeVar

from amltk._logs import log_failure

R = TypeVar("R")

logger: logging.Logger = logging.getLogger(__name__)

PENDING = base.PENDING
RUNNING = base.RUNNING
CANCELLED = base.CANCELLED
CANCELLED_AND_NOTIFIED = base.CANCELLED_AND_NOTIFIED
FINISHED = base.FINISHED

#: Guards every change of state of a light future and the making of its condition. Held for a
#: few attribute assignments at a time; callbacks and waiters are told after it is let go.
_lock = threading.Lock()


class LightFuture(Future[R]):
    """A standard future whose lock and waiters are made on first use."""

    # The standard class reads these from the instance; class-level defaults cost nothing there.
    _state: str = PENDING
    _result: R | None = None
    _exception: BaseException | None = None
    _done_callbacks: list[Callable[[Any], object]] | None = None
    _own_condition: threading.Condition | None = None
    _own_waiters: list[Any] | None = None

    def __init__(self) -> None:
        """Make a pending future; unlike the standard one it owns no lock yet."""

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override] # made on first use
        condition = self._own_condition
        if condition is None:
            with _lock:
                condition = self._own_condition
                if condition is None:
                    condition = self._own_condition = threading.Condition()
        return condition

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override] # made on first use
        if self._own_waiters is None:
            self._own_waiters = []  # only ever asked for with the condition held
        return self._own_waiters

    def cancelled(self) -> bool:
        """Tell whether the call was cancelled."""
        return self._state in (CANCELLED, CANCELLED_AND_NOTIFIED)

    def running(self) -> bool:
        """Tell whether the call is running."""
        return self._state == RUNNING

    def done(self) -> bool:
        """Tell whether the call was cancelled or has a result or an exception."""
        return self._state not in (PENDING, RUNNING)

    def result(self, timeout: float | None = None) -> R:
        """Return the call's result, waiting for it if need be.

        Args:
            timeout: How many seconds to wait at most; for ever by default.

        Returns:
            The result.

        Raises:
            TimeoutError: When it is not done in time.
            CancelledError: When it was cancelled.
            BaseException: What the call raised.
        """
        if self._state != FINISHED:
            return super().result(timeout)
        if self._exception is not None:
            try:
                raise self._exception
            finally:
                self = None  # type: ignore[assignment] # noqa: PLW0642 - breaks the cycle with the traceback
        return self._result  # type: ignore[return-value]

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the call raised, waiting for it if need be.

        Args:
            timeout: How many seconds to wait at most; for ever by default.

        Returns:
            The exception, or ``None`` if the call returned.

        Raises:
            TimeoutError: When it is not done in time.
            CancelledError: When it was cancelled.
        """
        if self._state == FINISHED:
            return self._exception
        return super().exception(timeout)

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Call ``fn`` with this future when it is done, at once if it is.

        Args:
            fn: Called in the thread that completes the future. What it raises is logged, except
                for ``KeyboardInterrupt`` and the like in the main thread.
        """
        with _lock:
            if self._state in (PENDING, RUNNING):
                if self._done_callbacks is None:
                    self._done_callbacks = [fn]
                else:
                    self._done_callbacks.append(fn)
                return
        self._call(fn)

    def cancel(self) -> bool:
        """Cancel the call if it has not started.

        Returns:
            ``True`` if it is cancelled, ``False`` if it is running or done.
        """
        if self._change((PENDING,), CANCELLED):
            self._invoke_callbacks()
            return True
        return self.cancelled()

    def set_running_or_notify_cancel(self) -> bool:
        """Mark the call as started; for executors only.

        Returns:
            ``False`` if it was cancelled before, and must not be run.
        """
        if self._change((PENDING,), RUNNING):
            return True
        if self._change((CANCELLED,), CANCELLED_AND_NOTIFIED, tell="add_cancelled"):
            return False
        message = f"a future in the state {self._state} cannot start to run"
        raise InvalidStateError(message)

    def set_result(self, result: R) -> None:
        """Complete the call with its result; for executors only."""
        # The usual way, without a waiter, is written out: it is taken once or twice for each call.
        with _lock:
            usual = self._own_condition is None and self._state in (PENDING, RUNNING)
            if usual:
                self._result = result
                self._state = FINISHED
        if usual:
            if self._done_callbacks is not None:
                self._invoke_callbacks()
            return
        self._complete((PENDING, RUNNING), FINISHED, "add_result", result, None)

    def set_exception(self, exception: BaseException | None) -> None:
        """Complete the call with its exception; for executors only."""
        self._complete((PENDING, RUNNING), FINISHED, "add_exception", None, exception)

    def _set_cancelled(self) -> None:
        """Complete a call, running or not, as cancelled."""
        if self._change((CANCELLED,), CANCELLED_AND_NOTIFIED, tell="add_cancelled"):
            return  # cancelled before it started: its callbacks have been called
        self._complete((PENDING, RUNNING), CANCELLED_AND_NOTIFIED, "add_cancelled", None, None)

    def _complete(
        self,
        allowed: tuple[str, ...],
        state: str,
        tell: str,
        result: R | None,
        exception: BaseException | None,
    ) -> None:
        if not self._change(allowed, state, result, exception, tell=tell):
            message = f"a future in the state {self._state} cannot become {state}"
            raise InvalidStateError(message)
        self._invoke_callbacks()

    def _change(
        self,
        allowed: tuple[str, ...],
        state: str,
        result: R | None = None,
        exception: BaseException | None = None,
        *,
        tell: str | None = None,
    ) -> bool:
        with _lock:
            condition = self._own_condition
            if condition is None:
                if self._state not in allowed:
                    return False
                if result is not None:
                    self._result = result
                if exception is not None:
                    self._exception = exception
                self._state = state
                return True
        with condition:
            # The module's lock keeps `add_done_callback` out; waiters hold the condition.
            with _lock:
                if self._state not in allowed:
                    return False
                self._result, self._exception, self._state = result, exception, state
            if tell is not None:
                for waiter in self._own_waiters or ():
                    getattr(waiter, tell)(self)
            if state not in (PENDING, RUNNING):  # woken for less, it takes that for its timeout
                condition.notify_all()
        return True

    def _invoke_callbacks(self) -> None:
        callbacks, self._done_callbacks = self._done_callbacks, None
        if callbacks is not None:
            for callback in callbacks:
                self._call(callback)

    def _call(self, callback: Callable[[Any], object]) -> None:
        try:
            callback(self)
        except Exception:
            # The same as the standard future does: who completes a future is not the one who
            # should hear of a fault in a stranger's callback.
            log_failure(logger, "a done-callback of %r raised", self)
        except BaseException as error:
            if self._lets_through(error):
                raise
            # The standard future would end the thread, and with it an engine that hears of its
            # outcomes there: every later call would hang.
            log_failure(logger, "a done-callback of %r raised", self)

    def _lets_through(self, error: BaseException) -> bool:
        """Tell whether what a callback raised to end a program is for this thread to hear of.

        In the main thread it is, where it may be Ctrl-C that has met a callback by chance.
        """
        del error
        return threading.current_thread() is threading.main_thread()
