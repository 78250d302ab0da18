"""One executor as the scheduler sees it: calls go in, what became of them comes out.

::

    scheduler ── submit(function, args) ──▶ Engine ── envelope ──▶ Executor ──▶ worker
    scheduler ◀── outcome_of(inner) ─────── Engine ◀── inner future ── Executor

The scheduler never asks what type an executor has; it asks this object, which goes by `Traits`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError, Executor, Future
from concurrent.futures import wait as wait_for
from typing import Any

from amltk._errors import set_cause
from amltk.exceptions import CallPicklingError, InvalidOptionError
from amltk.executors.traits import Traits
from amltk.executors.travel.envelope import (
    PortableFunction,
    exit_error,
    pack_call,
    run_packed,
    unpack_outcome,
)

Terminator = Callable[[Executor, float], object]

#: How long ended workers may take, beyond the grace, until their calls are reported as ended.
_SETTLE_S = 5.0


class Ending(enum.Enum):
    """What became of a call."""

    RETURNED = "returned"
    RAISED = "raised"
    CANCELLED = "cancelled"


class Engine:
    """An executor with its traits, wrapped so that calls travel as the traits demand.

    Args:
        executor: The executor to use.
        traits: What it can do.
        terminator: Ends its workers with their calls, given the executor and how many seconds
            they have until they are killed; ``None`` where only single calls, or none, can be
            ended.
        owned: Whether it is to be closed when the run ends.
    """

    def __init__(
        self,
        executor: Executor,
        traits: Traits,
        terminator: Terminator | None = None,
        *,
        owned: bool = False,
    ) -> None:
        self.executor = executor
        self.traits = traits
        self.owned = owned
        self._terminator = terminator
        self._packs = traits.pickles and not traits.packs_itself

    @property
    def can_end_calls(self) -> bool:
        """Whether running calls can be ended, one by one or with their workers."""
        return self.traits.ends_running_calls or self._terminator is not None

    def with_options(self, options: Mapping[str, Any]) -> Executor:
        """Return the executor as it takes calls with these options.

        Args:
            options: What the executor is told of single calls, such as how many processors each
                needs.

        Raises:
            InvalidOptionError: When it takes none, or not these.
        """
        make = getattr(self.executor, "with_options", None)
        if make is None:
            names = ", ".join(options)
            message = (
                f"{type(self.executor).__name__} takes no options for single calls, and was given "
                f"{names}; leave them out, or use an engine that does, such as Scheduler.with_ray()"
            )
            raise InvalidOptionError(message, option=names, value=dict(options))
        view: Executor = make(**options)
        return view

    def submit(
        self,
        function: PortableFunction[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        view: Executor | None = None,
    ) -> Future[Any]:
        """Hand a call to the executor.

        Args:
            function: What to call.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
            view: What ``with_options`` returned, for a call with options.

        Returns:
            The executor's own future; only this engine can read it.

        Raises:
            Exception: Whatever the executor raises when it takes no calls.
        """
        executor = view or self.executor
        if self.traits.packs_itself:
            return executor.submit(function, *args, **kwargs)
        if not self._packs:
            return executor.submit(function.function, *args, **kwargs)
        try:
            payload = pack_call(function, args, kwargs)
        except CallPicklingError as error:
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return failed
        return executor.submit(run_packed, payload)

    def outcome_of(self, inner: Future[Any]) -> tuple[Ending, Any]:
        """Read a future of the executor that is done.

        Returns:
            How the call ended, with its result, its exception or ``None``.
        """
        try:
            error = inner.exception()
        except CancelledError:
            return Ending.CANCELLED, None
        if isinstance(error, SystemExit):
            failure = exit_error(error, "a call")
            set_cause(failure, error)
            return Ending.RAISED, failure
        if error is not None:
            return Ending.RAISED, error
        result = inner.result()
        if not self._packs:
            return Ending.RETURNED, result
        returned, value = unpack_outcome(result)
        return (Ending.RETURNED if returned else Ending.RAISED), value

    def cancel(self, inner: Future[Any]) -> bool:
        """Cancel a call, running or not, as far as the executor can.

        Returns:
            ``True`` if the call will not run any further.
        """
        return self.traits.tells_started and inner.cancel()

    def cancel_pending(self, inner: Future[Any]) -> bool:
        """Cancel a call only if it has not started.

        Returns:
            ``True`` if it will never run.
        """
        if not self.traits.tells_started:
            return False
        if self.traits.ends_running_calls:
            return bool(inner.cancel_pending())  # type: ignore[attr-defined]
        return inner.cancel()

    def end_calls(self, inners: Iterable[Future[Any]], grace_s: float) -> None:
        """End running calls; blocks until they have ended or the time is over.

        Args:
            inners: The executor's futures of the calls.
            grace_s: How many seconds workers have between being asked and being killed.
        """
        ending = [inner for inner in inners if not inner.done()]
        if self.traits.ends_running_calls:
            for inner in ending:
                inner.cancel()
        elif self._terminator is not None:
            self._terminator(self.executor, grace_s)
        # `wait` would go on for those that were cancelled before they started: they count as done
        # there only once a worker comes across them.
        wait_for([inner for inner in ending if not inner.done()], timeout=grace_s + _SETTLE_S)

    def expect_end(self) -> Executor:
        """Take note that somebody else is about to end the calls.

        Returns:
            The executor whose workers are to be ended.
        """
        expect = getattr(self.executor, "expect_end", None)
        return self.executor if expect is None else expect()

    def close(self, *, wait: bool) -> None:
        """Shut the executor down.

        Args:
            wait: Whether to wait until its workers are gone.
        """
        self.executor.shutdown(wait=wait)
