"""Pools that break, made to lose one call to a worker's death instead of all.

::

    submit ──▶ call ──▶ generation 1 (the pool that was given) ──▶ result ──▶ call
                             │ breaks: all its futures fail alike
                             ▼
                        amltk-recovery: waits until its workers are gone, reads their marks
                             ├── was running in a worker that died by itself ──▶ WorkerDiedError
                             ├── had ended, its result was lost ──────────────▶ WorkerDiedError
                             └── all others ──▶ generation 2 (a pool like it) ──▶ …

Two threads never rebuild at once: while one does (``_is_recovering``), ``submit`` only parks calls.
The lock is held for a few assignments at a time and never while a pool or a callback is called,
since a pool that breaks calls us with a lock of its own.
"""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from concurrent.futures import wait as wait_for
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn, ParamSpec, TypeVar

from amltk._future import LightFuture
from amltk.exceptions import CallPicklingError, ExecutorError, WorkerStartError
from amltk.executors.guard import Guard
from amltk.executors.recovery.breakable import has_script, maker_of
from amltk.executors.recovery.generation import Call, Generation
from amltk.executors.recovery.verdict import judge
from amltk.executors.termination import end_processes
from amltk.executors.traits import Traits
from amltk.executors.travel.envelope import name_of, pack_call, unpack_outcome
from amltk.executors.travel.shelf import Shelf

P = ParamSpec("P")
R = TypeVar("R")

#: So many pools in a row may break without any call having been the reason or having ended.
MAX_BARREN = 5

#: The wait after the first pool that broke for no call's sake; doubled after each further one.
_BACK_OFF_S = 0.05

#: How long a recovery may take, beyond the grace, until ``terminate`` no longer waits for it.
_SETTLE_S = 10.0

#: What a pool of the standard library or of loky does for its calls.
_POOL_TRAITS = Traits(death_spreads=True)


def recovering(
    executor: Executor,
    traits: Traits = _POOL_TRAITS,
    *,
    make: Callable[[], Executor] | None = None,
    owned: bool = False,
) -> Executor:
    """Wrap an executor so that a worker's death costs one call, where that is possible.

    Args:
        executor: A pool of the standard library or of loky, or an executor of any kind.
        traits: What it can do.
        make: Makes another one; needed for an executor of any other kind.
        owned: Whether it is to be shut down with the wrapper.

    Returns:
        The wrapper, or the executor itself where nothing is known that could take its place.
    """
    known = maker_of(executor)
    if known is None and (make is None or _needs_none(traits)):
        return executor
    return RecoveringExecutor(
        executor, traits=traits, make=known or make, has_marks=known is not None, owned=owned
    )


def _needs_none(traits: Traits) -> bool:
    """Tell whether an executor looks after its calls by itself, or has no worker that could die."""
    return traits.ends_running_calls or traits.runs_inline or traits.runs_in_threads


def end_workers(executor: RecoveringExecutor, grace_s: float) -> None:
    """End the workers of a recovering executor with all its calls."""
    executor.terminate(grace_s)


class RecoveringExecutor(Executor):
    """Runs calls in a pool and, when that breaks, those that had not started in another.

    A call that was running in the worker that died gets a ``WorkerDiedError``. Calls that were
    running in other workers, which a breaking pool ends too, run again from the start.

    Args:
        pool: The pool to begin with.
        traits: What it can do.
        make: Makes another pool like it.
        has_marks: Whether the workers share this machine and take calls in their processes one by
            one, so that they can leave marks. Without them, only calls whose futures had not
            started to run are moved.
        owned: Whether ``shutdown`` shuts the first pool down too.
    """

    def __init__(
        self,
        pool: Executor,
        *,
        traits: Traits = _POOL_TRAITS,
        make: Callable[[], Executor] | None = None,
        has_marks: bool = True,
        owned: bool = False,
    ) -> None:
        found = make or maker_of(pool)
        if found is None:
            message = f"{type(pool).__name__} cannot be replaced when it breaks; say how by make="
            raise ExecutorError(message)
        self._make = found
        self._packs = traits.pickles and not traits.packs_itself
        self._generation_of: Callable[..., Generation] = partial(
            Generation, has_marks=has_marks, packs=self._packs
        )
        # Workers of such pools share this machine.
        self._shelf = Shelf(has_script=has_script(pool)) if has_marks and self._packs else None
        #: As those of the pool, but a death does not spread.
        self.traits: Traits = replace(traits, packs_itself=traits.pickles, death_spreads=False)
        self._guard = Guard()
        weakref.finalize(self, self._guard.end)
        self._lock = threading.Lock()
        self._numbers: Iterator[int] = itertools.count(1)
        self._current = self._generation_of(pool, is_ours=owned)
        #: Calls that wait for a pool.
        self._parked: OrderedDict[int, Call] = OrderedDict()
        self._is_recovering = False
        self._is_closed = False
        self._failure: BaseException | None = None
        self._n_barren = 0
        self._thread: threading.Thread | None = None

    @property
    def pool(self) -> Executor:
        """The pool that runs calls now."""
        return self._current.pool

    # ---------------------------------------------------------------------- from any thread

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Hand one call to the pool.

        Args:
            fn: What to call; a ``PortableFunction`` is pickled only once.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            The call's future. If the call cannot be pickled, the future has failed already.

        Raises:
            ExecutorError: When the executor is shut down.
            WorkerStartError: When pool after pool breaks for no call's sake.
        """
        release = None
        try:
            if self._shelf is not None:
                shelved = self._shelf.pack(fn, args, kwargs)
                packed, release = shelved.arguments, shelved.release
            else:
                packed = (pack_call(fn, args, kwargs),) if self._packs else (fn, args, kwargs)
        except (CallPicklingError, OSError) as failure:
            failed: LightFuture[R] = LightFuture()
            failed.set_exception(failure)
            return failed
        call = Call(next(self._numbers), fn, packed, self._cancel, release)
        with self._lock:
            if self._is_closed or self._failure is not None:
                self._refuse(fn)
            if self._is_recovering:
                self._parked[call._number] = call
                return call
            call._generation = generation = self._current
            generation.live[call._number] = call
        self._hand_over(call, generation)
        return call

    def terminate(self, grace_s: float = 2.0) -> None:
        """Cancel all calls and end the workers; new calls get a new pool.

        Args:
            grace_s: Seconds between TERM and KILL.
        """
        deadline = time.monotonic() + grace_s + _SETTLE_S
        self.expect_end()
        end_processes(self._current.workers.pids(), grace_s)
        # A recovery that was under way may just have handed a call to a new pool.
        while self._is_recovering and time.monotonic() < deadline:
            time.sleep(0.01)
            self.expect_end()
            end_processes(self._current.workers.pids(), grace_s)

    def expect_end(self) -> Executor:
        """Take note that calls are about to be ended on purpose: they are cancelled, not moved.

        Returns:
            The pool whose workers are to be ended.
        """
        with self._lock:
            generation, parked = self._current, list(self._parked.values())
            self._parked.clear()
            generation.is_ending = bool(generation.live or generation.is_broken)
        for call in parked:
            call._finish_cancelled()
        return generation.pool

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the standard's signature
        """Take no more calls, and let go of the pools when the calls are done.

        A pool that was handed in stays open unless it is ``owned``.

        Args:
            wait: Whether to wait until all calls are done and the workers are gone. In a callback
                of a future nothing is waited for: it runs in a thread that completes them.
            cancel_futures: Whether calls that have not started are cancelled.
        """
        with self._lock:
            self._is_closed = True
        if cancel_futures:
            for call in self._unfinished():
                call.cancel()
        if not wait or self._is_own_thread():
            if not self._is_recovering:  # who recovers does it
                self._current.close(wait=False)
            return
        while unfinished := self._unfinished():
            wait_for(unfinished)
            self._wait_for_recovery()
        self._wait_for_recovery()
        self._current.close(wait=True)
        self._guard.end()
        if self._shelf is not None:
            self._shelf.close()

    def _is_own_thread(self) -> bool:
        here = threading.current_thread()
        return here is self._thread or here is self._current.workers.find_manager()

    def _wait_for_recovery(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _refuse(self, fn: object) -> NoReturn:
        if self._failure is not None:
            raise self._failure
        message = f"{name_of(fn)} could not be run: this RecoveringExecutor is shut down"
        raise ExecutorError(message)

    def _unfinished(self) -> list[Call]:
        with self._lock:
            generation = self._current
            held = [generation.live, generation.lost, self._parked]
            return [call for calls in held for call in list(calls.values()) if not call.done()]

    def _cancel(self, call: Call) -> bool:
        with self._lock:
            parked = self._parked.pop(call._number, None)
            inner, generation = call._inner, call._generation
        if parked is not None:
            call._finish_cancelled()
        elif inner is not None and generation is not None and not generation.is_broken:
            inner.cancel()  # completes the call, if it succeeds
        return call.cancelled()

    def _hand_over(self, call: Call, generation: Generation) -> None:
        """Give a call to a pool.

        Raises:
            Exception: Whatever the pool raises, unless it says that it is broken.
        """
        workers = generation.workers
        n_workers = workers.n_started
        try:
            inner = generation.submit(call)
        except BrokenExecutor as error:  # it never had the call
            self._lose(call, generation, self._parked, error)
            return
        except BaseException:
            generation.live.pop(call._number, None)
            raise
        call._inner = inner
        if workers.n_started > n_workers:
            workers.watch()
            self._guard.add(workers.pids())
        inner.add_done_callback(partial(self._inner_done, call, generation))

    # ------------------------------------------- in the thread that completes a pool's future

    def _inner_done(self, call: Call, generation: Generation, inner: Future[Any]) -> None:
        if call._generation is not generation:
            return  # written off in the meantime
        try:
            # Not by `result()`: thousands of calls share the exception of a broken pool, whose
            # traceback would grow each time that it is raised.
            error = inner.exception()
        except CancelledError as cancelled:
            error = cancelled
        if error is not None:
            self._inner_failed(call, generation, inner, error)
            return
        generation.live.pop(call._number, None)
        generation.has_completed_any = True
        call._finish_as(*generation.outcome_of(inner.result()))

    def _inner_failed(
        self, call: Call, generation: Generation, inner: Future[Any], error: BaseException
    ) -> None:
        if isinstance(error, BrokenExecutor):
            generation.observe_break()
            self._lose(call, generation, generation.lost, error)
            return
        generation.live.pop(call._number, None)
        if inner.cancelled():
            call._finish_cancelled()
        else:
            call._finish(error=error)

    def _lose(
        self,
        call: Call,
        generation: Generation,
        calls: dict[int, Call],
        error: BaseException,
    ) -> None:
        """Put a call among others whose pool is broken, and see to it that somebody recovers."""
        call._breakage = error
        with self._lock:
            calls[call._number] = call
            generation.live.pop(call._number, None)
            generation.is_broken = True
            if self._is_recovering:
                return
            self._is_recovering = True
            self._thread = threading.Thread(
                target=self._recover, name="amltk-recovery", daemon=True
            )
            thread = self._thread
        thread.start()

    # ------------------------------------------------------------------ in amltk-recovery

    def _recover(self) -> None:
        while True:
            try:
                if self._current.is_broken:
                    self._replace(self._current)
                self._resubmit()
            except WorkerStartError as error:
                self._give_up(error)
            except BaseException as error:  # every call that waits here is told
                self._give_up(_cannot_replace(self._current.pool, error))
            with self._lock:
                if not (self._parked or self._current.is_broken) or self._failure is not None:
                    self._is_recovering = False
                    break
        if self._is_closed:
            self._current.close(wait=False)

    def _replace(self, broken: Generation) -> None:
        broken.await_end()
        with self._lock:
            # Calls whose futures the pool never completed have lost it too.
            broken.lost.update(broken.live)
            broken.live.clear()
        is_barren = self._carry_out(broken)
        self._n_barren = self._n_barren + 1 if is_barren else 0
        broken.close(wait=False)
        if self._n_barren >= MAX_BARREN:
            raise _never_starts(self._n_barren)
        if self._n_barren > 1:
            time.sleep(_BACK_OFF_S * 2 ** (self._n_barren - 2))
        fresh = self._generation_of(self._make(), is_ours=True)
        with self._lock:
            self._current = fresh

    def _carry_out(self, broken: Generation) -> bool:
        """Do what was decided of each call; tell whether the break had nothing to do with any."""
        verdicts = judge(broken)
        for call, verdict in verdicts:
            with self._lock:
                del broken.lost[call._number]
                is_ending = broken.is_ending
                if verdict is None and not is_ending:
                    call._inner = call._generation = None
                    self._parked[call._number] = call
                    continue
            if isinstance(verdict, bytes):
                call._finish_as(*unpack_outcome(verdict))
            elif is_ending:
                call._finish_cancelled()
            else:
                call._finish(error=verdict)
        is_for_nothing = all(verdict is None for _, verdict in verdicts)
        return is_for_nothing and not (broken.has_completed_any or broken.is_ending)

    def _resubmit(self) -> None:
        """Hand what waits to the pool, in order of submission, until it breaks or nothing waits."""
        generation = self._current
        with self._lock:
            for number in sorted(self._parked):
                self._parked.move_to_end(number)
        while not generation.is_broken:
            with self._lock:
                if not self._parked:
                    return
                number, call = self._parked.popitem(last=False)
                call._generation = generation
                generation.live[number] = call
            try:
                self._hand_over(call, generation)
            except BaseException as error:  # becomes the call's exception
                call._finish(error=error)

    def _give_up(self, error: BaseException) -> None:
        """Fail all calls, those to come too."""
        with self._lock:
            self._failure = error
            generation = self._current
            left = {**generation.live, **generation.lost, **self._parked}
            generation.lost.clear()
            self._parked.clear()
        for _, call in sorted(left.items()):
            call._finish(error=error)


def _cannot_replace(pool: Executor, cause: BaseException) -> ExecutorError:
    message = (
        f"a broken {type(pool).__name__} could not be replaced: {cause!r}; its calls cannot be run"
    )
    error = ExecutorError(message)
    error.__cause__ = cause
    return error


def _never_starts(n_attempts: int) -> WorkerStartError:
    message = (
        f"{n_attempts} pools in a row broke before any of their calls had begun; look at "
        f"the initializer and at what the workers printed. A script whose pool starts its workers by spawn or "
        f'forkserver makes and uses it below: if __name__ == "__main__":'
    )
    return WorkerStartError(message, attempts=n_attempts)
