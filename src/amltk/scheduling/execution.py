"""From a run to what ``Scheduler.run`` returns: a loop for it, and an answer from its outcome."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amltk.scheduling.interrupt import InterruptGuard
    from amltk.scheduling.policy import ExitCode
    from amltk.scheduling.run import Outcome, Run


def execute(run: Run) -> Outcome:
    """Execute a run in a new loop, in a thread of its own if this one has a loop running."""
    if not _loop_is_running():
        return _execute_here(run)
    outcomes: list[Outcome] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            outcomes.append(_execute_here(run))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body, name="amltk-run")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return outcomes[0]


def _loop_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _execute_here(run: Run) -> Outcome:
    # With a factory given, the runner leaves the thread's current loop alone.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(run.execute())


def interruption_of(guard: InterruptGuard | None) -> BaseException:
    """Return what a coroutine raises that was ended by Ctrl-C."""
    if guard is not None and guard.runner_raises:
        return asyncio.CancelledError()
    return KeyboardInterrupt()


def conclude(outcome: Outcome, *, raises: bool) -> ExitCode | BaseException:
    """Return why a run ended, or raise what ended it."""
    if outcome.error is None:
        assert outcome.code is not None  # noqa: S101 - a run without an error has a code
        return outcome.code
    if raises:
        raise outcome.error
    return outcome.error
