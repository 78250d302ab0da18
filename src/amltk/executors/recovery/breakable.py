"""What is known of the two pools that break as a whole: the standard library's and loky's.

Both keep their workers and what they were made with in attributes of the same kind, and both fail
all futures from their manager's thread *before* they end the workers that are left. At that very
moment only those workers are dead that died by themselves: they broke the pool.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from multiprocessing import connection
from typing import Any

from amltk.executors.termination import end_processes

#: How the pools and we end workers, as exit codes; ``None`` is that of one that goes on.
_CODES_OF_THE_ENDED = (None, -15, -9)

#: How long a dead worker's exit code may take to be known.
_EXIT_CODE_S = 1.0

#: How long a broken pool may take to fail its futures and end its workers, until we do it.
_PATIENCE_S = 3.0

#: How often it is looked whether a broken pool is done.
_LOOK_S = 0.005


def maker_of(pool: Executor) -> Callable[[], Executor] | None:
    """Return what makes another pool like this one, or ``None`` where that is not known.

    Args:
        pool: A pool, broken or not. A class derived from a pool may need what we cannot know.
    """
    kind = type(pool)
    name = f"{kind.__module__}.{kind.__qualname__}"
    make = _MAKERS.get(name)
    return None if make is None else make(pool)


def _standard_maker(pool: Any) -> Callable[[], Executor]:
    kind: Any = type(pool)
    return partial(
        kind,
        pool._max_workers,
        pool._mp_context,
        pool._initializer,
        pool._initargs,
        max_tasks_per_child=pool._max_tasks_per_child,
    )


def _loky_maker(pool: Any) -> Callable[[], Executor]:
    # A reusable executor is one of a kind that loky itself looks after; we make a plain one.
    plain: Any = next(kind for kind in type(pool).__mro__ if kind.__name__ == "ProcessPoolExecutor")
    return partial(
        plain,
        pool._max_workers,
        job_reducers=getattr(pool._call_queue, "_reducers", None),
        result_reducers=getattr(pool._result_queue, "_reducers", None),
        timeout=pool._timeout,
        context=pool._context,
        initializer=pool._initializer,
        initargs=pool._initargs,
        env=pool._env,
    )


def has_script(pool: Any) -> bool:
    """Tell whether workers of a pool have the script itself: by fork, or by importing it.

    Args:
        pool: A pool of the standard library or of loky.
    """
    context = getattr(pool, "_mp_context", None) or getattr(pool, "_context", None)
    method = context.get_start_method() if context is not None else "loky"
    if method == "fork":
        return True
    main = sys.modules["__main__"]
    is_found = getattr(main, "__spec__", None) is not None or hasattr(main, "__file__")
    return is_found and method != "loky"


_MAKERS: dict[str, Callable[[Any], Callable[[], Executor]]] = {
    "concurrent.futures.process.ProcessPoolExecutor": _standard_maker,
    "loky.process_executor.ProcessPoolExecutor": _loky_maker,
    "loky.reusable_executor._ReusablePoolExecutor": _loky_maker,
}


class Workers:
    """The worker processes of one pool, watched from outside.

    Args:
        pool: The pool. An executor of another kind has no workers that we know of.
    """

    def __init__(self, pool: Executor) -> None:
        self._pool: Any = pool
        # The pool's own dictionary: it lets go of it in `shutdown`, while workers still run.
        found = getattr(pool, "_processes", None)
        self._processes: dict[int, Any] = {} if found is None else found
        self._known: dict[int, Any] = {}
        #: The exit codes of those that died by themselves, by pid.
        self.dead: dict[int, int | None] = {}
        self._manager: threading.Thread | None = None
        self._ender: threading.Thread | None = None
        self._was_in_time = False

    @property
    def n_started(self) -> int:
        """How many there are."""
        return len(self._processes)

    def find_manager(self) -> threading.Thread | None:
        """Return the pool's own thread, which completes its futures; `shutdown` lets go of it."""
        self._manager = self._manager or getattr(self._pool, "_executor_manager_thread", None)
        return self._manager

    def watch(self) -> None:
        """Have the pool watch workers that it has just started.

        It wakes its own thread before it starts them, not after. That thread may have begun to wait
        for the end of the others only, and so would not notice the end of the new ones.
        """
        self.find_manager()
        with self._pool._shutdown_lock:
            wakeup = self._pool._executor_manager_thread_wakeup
            if wakeup is not None:
                wakeup.wakeup()

    def find_dead(self) -> None:
        """Find those that are dead at this moment, before the pool ends the others."""
        self.find_manager()
        self._known = dict(self._processes)
        # In any other thread it may be too late: the pool goes on while we look. Two threads that
        # ask for an exit code at once can also rob each other of the answer.
        if threading.current_thread() is self._manager:
            self._find_dead_in_time()
        # By a thread of its own: the one that recovers may be waiting for a lock of this very pool.
        self._ender = threading.Thread(target=self._end_deaf, name="amltk-recovery", daemon=True)
        self._ender.start()

    def _find_dead_in_time(self) -> None:
        self._was_in_time = True
        sentinels = {process.sentinel: process for process in self._known.values()}
        for sentinel in connection.wait(list(sentinels), timeout=0):
            sentinels[sentinel].join(_EXIT_CODE_S)  # its end is seen a little before its exit code
            self.dead[sentinels[sentinel].pid] = sentinels[sentinel].exitcode
        for process in self._known.values():
            # Python 3.15's pool has asked before us. With *forkserver* the sentinel is the pipe that
            # the code comes by, and shows nothing from when it is read until the server closes it.
            if process.pid not in self.dead and process.exitcode is not None:
                self.dead[process.pid] = process.exitcode

    def _find_dead_afterwards(self) -> None:
        """Tell those that died by themselves from those that the pool, or we, have ended."""
        for pid, process in self._known.items():
            if process.exitcode not in _CODES_OF_THE_ENDED:
                self.dead[pid] = process.exitcode

    def pids(self) -> list[int]:
        """Return the process ids of the workers."""
        return list(self._processes)

    def let_end(self, is_settled: Callable[[], bool]) -> None:
        """Wait until a broken pool is done with itself; end what it does not.

        Args:
            is_settled: Whether all its futures are done.
        """
        self._await_manager()
        if self._ender is not None:
            self._ender.join()
        self._await_manager()
        deadline = time.monotonic() + _PATIENCE_S
        while not is_settled() and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        if not self._was_in_time:
            self._find_dead_afterwards()
        self._processes = {}  # their numbers may be given to strangers from now on

    def shut_down(self, *, wait: bool) -> None:
        """Tell the pool to shut down, and see to it that it ends, which it may not by itself.

        Args:
            wait: Whether to wait for its end.
        """
        manager = self.find_manager()
        self._pool.shutdown(wait=wait and manager is None)
        if wait:
            self._see_off()
        elif self._manager_runs():
            threading.Thread(target=self._see_off, name="amltk-recovery", daemon=True).start()

    def _see_off(self) -> None:
        """Wait for the end of a pool that was told to shut down, and end it where a death keeps it.

        A worker that is killed while it waits for a call takes the lock of the pool's queue with
        it. Told to shut down before it has noticed, the pool waits for ever for workers that wait
        for that lock.
        """
        while self._manager_runs():
            self._known.update(self._processes)  # of which loky lets go one by one
            ended = [process for process in self._known.values() if _has_ended(process)]
            self._await_manager()
            # Asked only now: by then the pool has asked, and does not rob us of the answer.
            if any(process.exitcode != 0 for process in ended):
                self._end_left()

    def _end_deaf(self) -> None:
        """End workers that ignore TERM: they would keep the pool, and whoever waits, for ever."""
        self._await_manager()
        self._end_left()

    def _end_left(self) -> None:
        end_processes([pid for pid, p in self._known.items() if not _has_ended(p)], 0.0)

    def _await_manager(self) -> None:
        """Wait for the pool's own thread, but not for ever."""
        if self._manager is not None:
            self._manager.join(_PATIENCE_S)

    def _manager_runs(self) -> bool:
        return self._manager is not None and self._manager.is_alive()


def _has_ended(process: Any) -> bool:
    # Not asked by `is_alive`: the pool's own thread may be asking.
    return bool(connection.wait([process.sentinel], timeout=0))


class _Steady(dict[Any, Any]):
    """Calls of a pool that its thread goes through while others add to them."""

    def items(self) -> Any:
        """Return them as they are now."""
        return list(super().items())

    def values(self) -> Any:
        """Return them as they are now."""
        return list(super().values())


def keep_steady(pool: Any) -> None:
    """Keep a breaking pool from stumbling over calls that come at that very moment.

    Python 3.11's pool fails its futures without a lock. If a submission that has not noticed the break yet
    adds one meanwhile, the pool's thread dies, and neither futures nor workers come to an end.

    Args:
        pool: The pool; one that has started already is left as it is.
    """
    items = getattr(pool, "_pending_work_items", None)
    if type(items) is dict and getattr(pool, "_executor_manager_thread", None) is None:
        steady = pool._pending_work_items = _Steady(items)
        if getattr(pool._call_queue, "pending_work_items", None) is items:
            pool._call_queue.pending_work_items = steady


def spare_cancelled(pool: Any) -> None:
    """Keep a breaking pool from stumbling over futures that were cancelled.

    Python 3.11's pool fails its futures without a look at whether they were cancelled; at the first
    such one its thread dies, the rest never complete and its workers are never ended.

    Args:
        pool: The pool, in whose own thread this is called.
    """
    items = getattr(pool, "_pending_work_items", None) or {}
    for item in list(items.values()):
        if item.future.cancelled():
            item.future = type(item.future)()
