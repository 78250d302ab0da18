"""Executors whose calls end when the test says so."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, ClassVar, ParamSpec, TypeVar

from amltk.exceptions import ExecutorError
from amltk.executors.traits import Traits

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(eq=False)
class ManualCall:
    """A call that waits for the test to end it.

    Attributes:
        function: What was submitted.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        future: The executor's future of the call.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    future: Future[Any]

    def start(self) -> bool:
        """Mark the call as running; ``False`` if it was cancelled before."""
        return self.future.set_running_or_notify_cancel()

    def finish(self) -> None:
        """Really call the function and complete the future with what becomes of it."""
        if not self.future.running() and not self.start():
            return
        try:
            result = self.function(*self.args, **self.kwargs)
        except BaseException as error:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)

    def succeed(self, result: Any) -> None:
        """Complete the call with a result, without calling the function."""
        self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Complete the call with an exception, without calling the function."""
        self.future.set_exception(error)


class ManualExecutor(Executor):
    """Keeps calls until the test finishes them, in the order that the test chooses."""

    traits: ClassVar[Traits] = Traits(pickles=False)

    def __init__(self) -> None:
        #: All calls that were ever submitted, in order.
        self.calls: list[ManualCall] = []
        self.is_shut_down: bool = False

    @property
    def waiting(self) -> list[ManualCall]:
        """The calls that have not ended, in order of submission."""
        return [call for call in self.calls if not call.future.done()]

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Keep a call.

        Raises:
            ExecutorError: After ``shutdown``.
        """
        if self.is_shut_down:
            message = f"{fn!r} could not be kept: this ManualExecutor is shut down"
            raise ExecutorError(message)
        future: Future[R] = Future()
        self.calls.append(ManualCall(fn, args, kwargs, future))
        return future

    def finish_all(self) -> None:
        """Finish every call that waits now, in order of submission."""
        for call in self.waiting:
            call.finish()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - the standard's signature
        """Take no more calls; with ``cancel_futures``, cancel those that wait."""
        self.is_shut_down = True
        if cancel_futures:
            for call in self.waiting:
                call.future.cancel()
