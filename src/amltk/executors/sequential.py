"""One call after the other, in the thread that submits: for debugging and for tests."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ClassVar, ParamSpec, TypeVar

from amltk._future import LightFuture
from amltk.exceptions import ExecutorError
from amltk.executors.traits import Traits

P = ParamSpec("P")
R = TypeVar("R")


class SequentialExecutor(Executor):
    """Run each call inside ``submit``, in the caller's thread.

    There is no other process and no other thread, so that a debugger stops where the call is.
    A scheduler that uses it still runs calls one by one between callbacks, never inside them.
    """

    traits: ClassVar[Traits] = Traits(pickles=False, runs_inline=True, n_workers=1)

    def __init__(self) -> None:
        self._closed = False

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Run a call now.

        Args:
            fn: What to call.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            A future that is done.

        Raises:
            ExecutorError: After ``shutdown``.
            KeyboardInterrupt: When Ctrl-C interrupts the call.
        """
        if self._closed:
            message = f"{fn!r} could not be run: this SequentialExecutor is shut down"
            raise ExecutorError(message)
        future: LightFuture[R] = LightFuture()
        try:
            result = fn(*args, **kwargs)
        except KeyboardInterrupt:
            raise  # it is meant for the program, which this call is part of
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - the standard's signature
        """Take no more calls; there is nothing to wait for."""
        self._closed = True


def sequential_factory() -> Callable[[], SequentialExecutor]:
    """Return what makes a sequential executor."""
    return SequentialExecutor
