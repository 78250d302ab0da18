"""What keeps a call going when wandb is absent, slow or dead.

::

    the call ── attempt(...) ──▶ CallThread ──▶ wandb, which may hang
       │  waits, but only so long     │
       ◀── result, or TooSlowError ───┘

Whatever goes wrong is reported once in each process. A process in which no run could be opened
does not try again for some minutes, so that a thousand trials do not wait for it one by one.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from queue import SimpleQueue
from typing import Any, Self, TypeVar

R = TypeVar("R")

logger: logging.Logger = logging.getLogger("amltk.plugins.wandb")

#: After how many seconds a process in which wandb did not work tries it again.
RETRY_AFTER_S = 300.0


class TooSlowError(Exception):
    """wandb did not answer in time; nobody outside of the guard sees this."""


class ServiceExitError(Exception):
    """wandb asked the process to exit; nobody outside of the guard sees this."""


class Nothing:
    """Stands in for what wandb would have returned: false, empty, and callable."""

    def __call__(self, *_args: Any, **_kwargs: Any) -> Nothing:
        return self

    def __getattr__(self, name: str) -> Nothing:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __bool__(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        """Hide nothing."""

    def __repr__(self) -> str:
        return "<nothing, since wandb does not work>"


class CallThread:
    """Runs calls one after the other in a thread of its own, and waits for each only so long.

    The thread is a daemon: one in which wandb hangs for ever keeps no process from ending.
    """

    def __init__(self) -> None:
        self._pid = 0
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()

    def call(self, function: Callable[[], R], *, timeout_s: float) -> R:
        """Call a function in the thread.

        Raises:
            TooSlowError: When it has not returned in time; it goes on.
            Exception: What it raised.
        """
        return self.wait(self.start(function), timeout_s=timeout_s)

    def wait(self, answer: Future[R], *, timeout_s: float) -> R:
        """Wait for what ``start`` returned; see ``call``."""
        try:
            return answer.result(timeout_s)
        except FutureTimeoutError:
            if answer.done():
                raise  # its own
            message = f"no answer within {timeout_s:.1f} s"
            raise TooSlowError(message) from None

    def start(self, function: Callable[[], R]) -> Future[R]:
        """Have a function called in the thread, without waiting for it."""
        if self._pid != os.getpid():  # not started yet, or this is a fork, which has no threads
            self._pid, self._queue = os.getpid(), SimpleQueue()
            threading.Thread(
                target=_serve, args=(self._queue,), name="amltk-wandb-call", daemon=True
            ).start()
        answer: Future[R] = Future()
        self._queue.put((answer, function))
        return answer

    def end(self) -> None:
        """Have the thread end when it has done what it was given."""
        if self._pid == os.getpid():
            self._queue.put(None)


def _serve(queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]) -> None:
    while (entry := queue.get()) is not None:
        answer, function = entry
        try:
            answer.set_result(function())
        except Exception as error:  # raised in the thread that waits
            answer.set_exception(error)
        except BaseException as error:  # a `sys.exit` of wandb's must not end the worker
            answer.set_exception(ServiceExitError(f"wandb raised {error!r}"))
        del entry, answer, function


class Reports:
    """What this process has reported, and which settings it does not try for the moment."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._said: set[Hashable] = set()
        self._off: dict[Hashable, tuple[float, str]] = {}

    def failed(self, error: BaseException | str, *, settings: Hashable = None) -> str:
        """Report, once in this process, that wandb does not work.

        Args:
            error: What went wrong.
            settings: With which settings it is not tried again for a while.

        Returns:
            What went wrong, in words.
        """
        problem = error if isinstance(error, str) else describe(error)
        if settings is not None:
            with self._fresh():
                self._off[settings] = time.monotonic() + RETRY_AFTER_S, problem
        if self._is_first("failed"):
            logger.warning(
                "Weights & Biases does not work in process %d (%s); calls go on without it, and "
                "this is not reported again in this process. WandbPlugin(mode='offline') needs no "
                "network",
                os.getpid(),
                problem,
            )
        return problem

    def misused(self, what: str, error: BaseException) -> None:
        """Report, once for each kind in this process, a use of the run that wandb refused."""
        if self._is_first((what, type(error))):
            logger.warning("run.%s was refused by wandb and is left out: %s", what, describe(error))

    def problem_with(self, settings: Hashable) -> str | None:
        """Tell why wandb is not tried with these settings, if it is not."""
        with self._fresh():
            until, problem = self._off.get(settings, (0.0, ""))
        return problem if time.monotonic() < until else None

    def clear(self) -> None:
        """Forget everything, as a new process would."""
        with self._fresh():
            self._said.clear()
            self._off.clear()

    def _is_first(self, key: Hashable) -> bool:
        with self._fresh():
            is_first = key not in self._said
            self._said.add(key)
        return is_first

    def _fresh(self) -> threading.Lock:
        if self._pid != os.getpid():  # a fork is a process of its own, and a held lock stays held
            self.__init__()  # type: ignore[misc]
        return self._lock


#: Those of this process.
reports: Reports = Reports()


def describe(error: BaseException) -> str:
    """Put an error into one line; never raises."""
    try:
        return f"{type(error).__qualname__}: {error}"[:500]
    except Exception:  # its own `__str__` fails
        return type(error).__qualname__


def attempt(function: Callable[[], R], *, otherwise: R) -> R:
    """Call something that prepares what is tracked, and report it if it raises.

    Args:
        function: What to call.
        otherwise: What is returned if it raises.
    """
    try:
        return function()
    except Exception as error:  # reported; tracking never fails a call
        reports.failed(error)
        return otherwise
