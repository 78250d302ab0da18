"""The future of a call: it outlives the executor's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import InvalidStateError
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from amltk._future import PENDING, RUNNING, LightFuture
from amltk._words import short_repr
from amltk.scheduling.driverside import DriverSide

if TYPE_CHECKING:
    from concurrent import futures

R = TypeVar("R")


class Audience(Protocol):
    """Who is told about the life of a call, beside the scheduler's listeners: its task."""

    #: Whether there is anybody who may hold an outcome back.
    may_hold: bool
    #: Whether there is anybody who may have a call tried again.
    may_retry: bool

    def call_accepted(self, future: Future[Any]) -> None:
        """A call is about to be handed to the executor; in the submitting thread."""

    def call_retracted(self, future: Future[Any]) -> None:
        """The executor did not take it; in the submitting thread."""

    def call_held(self, future: Future[Any], release: Callable[[], object]) -> bool:
        """Tell whether the outcome of an attempt has to wait until ``release`` is called."""
        ...

    def call_retried(self, future: Future[Any], error: BaseException) -> float | None:
        """Tell after how many seconds a call that raised is tried again, if it is."""

    def call_ended(self, future: Future[Any]) -> None:
        """The call has ended; what became of it is told next, unless the run was over before."""

    def call_submitted(
        self, future: Future[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """The call was handed to the executor."""

    def call_returned(self, future: Future[Any], result: Any) -> None:
        """The call has a result."""

    def call_raised(self, future: Future[Any], error: BaseException) -> None:
        """The call raised."""

    def call_cancelled(self, future: Future[Any]) -> None:
        """The call was cancelled."""


class Controller(Protocol):
    """Who can cancel a call: the run that it belongs to."""

    def cancel(self, future: Future[Any]) -> bool:
        """Cancel a call."""
        ...

    def refuse_to_wait(self, future: Future[Any]) -> None:
        """Raise if waiting here would be waiting for oneself."""


class Future(DriverSide, LightFuture[R]):
    """What becomes of a call: a ``concurrent.futures.Future`` that can also be awaited.

    It belongs to the call, not to the executor, and stays valid when the call is retried or
    moved. ``future in some_dict`` works: each call has its own, compared by identity.

    Attributes:
        number: The call's number in order of submission, from 0 in each run.
    """

    number: int
    _inner: futures.Future[Any] | None = None
    _audience: Audience | None = None
    _controller: Controller | None = None
    #: How to call it once more, where somebody may want that.
    _plan: tuple[Any, ...] | None = None
    #: What its attempts raised, if there is to be another one, or was.
    _failures: tuple[BaseException, ...] = ()
    #: Whether somebody wants the attempt cancelled that the executor has.
    _cancel_asked: bool = False

    def __init__(self, number: int, controller: Controller, audience: Audience | None) -> None:
        self.number = number
        self._controller = controller
        if audience is not None:
            self._audience = audience

    def cancel(self) -> bool:
        """Cancel the call, also while it runs where the engine can end it.

        Returns:
            ``True`` if the call is cancelled or will be as soon as its worker has ended:
            ``cancelled()`` and the event follow then. ``False`` if it goes on or is done.
        """
        controller = self._controller
        if controller is None or self.done():
            return self.cancelled()
        return controller.cancel(self)

    def running(self) -> bool:
        """Tell whether the call is running, as far as the executor tells."""
        inner = self._inner
        return super().running() or (inner is not None and not self.done() and inner.running())

    def result(self, timeout: float | None = None) -> R:
        """Return the call's result, waiting for it if need be.

        Args:
            timeout: How many seconds to wait at most; for ever by default.

        Returns:
            The result.

        Raises:
            TimeoutError: When it is not done in time.
            CancelledError: When it was cancelled.
            WouldDeadlockError: When a callback waits for what only its own thread can complete.
            BaseException: What the call raised.
        """
        self._check_wait()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the call raised, waiting for it if need be.

        Args:
            timeout: How many seconds to wait at most; for ever by default.

        Returns:
            The exception, or ``None`` if the call returned.

        Raises:
            TimeoutError: When it is not done in time.
            CancelledError: When it was cancelled.
            WouldDeadlockError: When a callback waits for what only its own thread can complete.
        """
        self._check_wait()
        return super().exception(timeout)

    def __await__(self) -> Generator[Any, None, R]:
        """Wait for the call in a coroutine; cancelling the coroutine cancels the call.

        Raises:
            RuntimeError: In the place of a ``StopIteration`` that the call raised, which would end
                the coroutine as if it had returned.
        """
        # Waited for without its outcome: not all that can be raised can be set on asyncio's futures.
        ended: futures.Future[None] = LightFuture()
        self.add_done_callback(partial(_tell_end, ended))
        try:
            yield from asyncio.wrap_future(ended).__await__()
        except asyncio.CancelledError:
            self.cancel()
            raise
        if self.cancelled():
            raise asyncio.CancelledError
        try:
            return super().result(0)
        except StopIteration as error:
            message = f"the call raised StopIteration({', '.join(map(short_repr, error.args))})"
            raise RuntimeError(message) from error

    def _check_wait(self) -> None:
        controller = self._controller
        if controller is not None and not self.done():
            controller.refuse_to_wait(self)

    def _lets_through(self, error: BaseException) -> bool:
        """Let the run hear of what ends a program, in whatever thread it is: it ends with it."""
        del error
        return True

    def _let_go(self) -> None:
        """Forget run, task and executor, so that a kept future keeps nothing alive."""
        self._controller = self._inner = self._audience = self._plan = None
        if self._failures:
            self._failures = ()

    def _rest(self, error: BaseException) -> None:
        """Go back to where nothing has started, between two attempts."""
        self._failures = (*self._failures, error)
        self._inner = None
        self._cancel_asked = False
        self._change((RUNNING,), PENDING)


def _tell_end(ended: futures.Future[None], _future: object) -> None:
    with suppress(InvalidStateError):  # nobody waits any more
        ended.set_result(None)
