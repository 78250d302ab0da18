"""The calls of a recovering executor, and the pools that have them one after the other."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future, InvalidStateError
from contextlib import suppress
from pathlib import Path
from typing import Any

from amltk._future import LightFuture
from amltk.exceptions import ResultUnpicklingError
from amltk.executors.recovery.breakable import Workers, keep_steady, spare_cancelled
from amltk.executors.recovery.marks import Marks, read_marks, read_outcome, run_marked
from amltk.executors.recovery.salvage import keep_pipe, salvage
from amltk.executors.travel.envelope import run_packed, unpack_outcome
from amltk.executors.travel.folders import make_folder


class Call(LightFuture[Any]):
    """The future of a call, whichever pool it comes to run in.

    Args:
        number: Its number, from 1, in order of submission.
        function: What it calls; for its name only.
        packed: What is handed to a pool.
        cancel: Cancels it, given itself.
        release: Called when it is handed to none any more.
    """

    #: The future of the pool that has it now.
    _inner: Future[Any] | None = None
    _generation: Generation | None = None
    #: In how many broken pools it was running with nobody known to be the culprit.
    _n_suspicions = 0
    #: What the last pool that had it said when it broke.
    _breakage: BaseException | None = None

    def __init__(
        self,
        number: int,
        function: Any,
        packed: tuple[Any, ...],
        cancel: Callable[[Call], bool],
        release: Callable[[], object] | None = None,
    ) -> None:
        self._number = number
        self._function = function
        self._packed = packed
        self._ask_to_cancel = cancel
        self._release = release

    def cancel(self) -> bool:
        """Cancel the call if it has not started.

        Returns:
            ``True`` if it is cancelled and will never run.
        """
        return self._ask_to_cancel(self)

    def running(self) -> bool:
        """Tell whether the call is running, or may be about to."""
        inner = self._inner
        return inner is not None and not self.done() and inner.running()

    def _finish(self, *, result: Any = None, error: BaseException | None = None) -> None:
        self._let_go()
        try:
            if error is not None:
                self.set_exception(error)
            else:
                self.set_result(result)
        except InvalidStateError:  # completed by a stranger: there is nobody to tell
            pass

    def _finish_as(self, returned: bool, value: Any) -> None:  # noqa: FBT001 - half an outcome
        if returned:
            self._finish(result=value)
        else:
            self._finish(error=value)

    def _finish_cancelled(self) -> None:
        self._let_go()
        with suppress(InvalidStateError):  # completed by a stranger: there is nobody to tell
            self._set_cancelled()

    def _let_go(self) -> None:
        if self._release is not None:
            self._release()
        self._packed, self._release = (), None
        self._inner = self._generation = self._function = None


class Generation:
    """One of the pools that follow each other, with the calls that it has.

    Args:
        pool: The pool.
        is_ours: Whether it is ours to shut down.
        has_marks: Whether its workers write marks.
        packs: Whether calls travel as bytes.
    """

    def __init__(self, pool: Executor, *, is_ours: bool, has_marks: bool, packs: bool) -> None:
        self.pool = pool
        if has_marks:
            keep_steady(pool)
        self.workers: Workers = Workers(pool)
        #: Calls that it has, by number.
        self.live: dict[int, Call] = {}
        #: Calls that it failed when it broke.
        self.lost: dict[int, Call] = {}
        self.is_broken = False
        #: Its calls are ended on purpose: a break is what was asked for.
        self.is_ending = False
        self.has_completed_any = False
        self._is_ours = is_ours
        self._packs = packs
        self._folder = make_folder("marks") if has_marks else None
        self._where = str(self._folder)
        self._was_observed = False
        #: Calls that had not started when it broke, as far as its futures told.
        self._unstarted: set[int] = set()
        #: Where results may be that it did not read any more when it broke.
        self._pipe: int | None = None
        self._remove = weakref.finalize(self, _remove_folder, self._folder)

    @property
    def has_marks(self) -> bool:
        """Whether its workers write marks."""
        return self._folder is not None

    def submit(self, call: Call) -> Future[Any]:
        """Hand a call to the pool.

        Raises:
            Exception: Whatever the pool raises.
        """
        if self._folder is not None:
            return self.pool.submit(run_marked, self._where, call._number, *call._packed)
        if self._packs:
            return self.pool.submit(run_packed, *call._packed)
        return self.pool.submit(_run_shielded, *call._packed)

    def outcome_of(self, result: Any) -> tuple[bool, Any]:
        """Read what the pool's future returned."""
        if self._folder is not None:
            number, outcome = result
            try:
                return unpack_outcome(outcome or read_outcome(self._folder, number))
            except OSError as error:
                return False, _unreadable(error)
        return unpack_outcome(result) if self._packs else result

    def observe_break(self) -> None:
        """Look at what only this moment can tell; called when the pool fails its first future."""
        if self._was_observed:
            return
        self._was_observed = True
        if self._folder is not None:
            self._pipe = keep_pipe(self.pool)
            self.workers.find_dead()
            spare_cancelled(self.pool)
        else:
            futures = [(number, call._inner) for number, call in list(self.live.items())]
            self._unstarted = {n for n, f in futures if f and not (f.running() or f.done())}

    def await_end(self) -> None:
        """Wait, with a limit, until the broken pool is done with its futures and its workers."""
        self.workers.let_end(lambda: not self.live)

    def marks(self) -> Marks:
        """Return what its workers left behind; of one without marks, what its futures told."""
        if self._folder is None:
            return Marks(running={n: 0 for n in self.lost if n not in self._unstarted})
        marks, self._pipe, pipe = read_marks(self._folder), None, self._pipe
        marks.outcomes.update(salvage(pipe))
        return marks

    def close(self, *, wait: bool) -> None:
        """Shut the pool down if it is ours, and remove the marks."""
        if self._is_ours:
            self.workers.shut_down(wait=wait)
        if wait or not self.live:  # else calls are still to be marked
            self._remove()


def _unreadable(error: OSError) -> ResultUnpicklingError:
    failure = ResultUnpicklingError(f"the file of the call's result could not be read: {error}")
    failure.__cause__ = error
    return failure


def _remove_folder(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _run_shielded(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[bool, Any]:
    """Keep what a call raises apart from what its executor says of itself."""
    try:
        return True, function(*args, **kwargs)
    except BaseException as error:
        return False, error
