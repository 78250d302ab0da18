"""A pool of worker processes in which a death costs one call.

It is a ``concurrent.futures.Executor`` with the arguments of the standard pool, usable without a
scheduler::

    from amltk.executors.processes import ProcessExecutor

    with ProcessExecutor(2) as executor:
        future = executor.submit(pow, 2, 10)
        print(future.result())

What differs from the standard pool: a worker that dies takes one call with it, not the pool; a
running call can be cancelled; lambdas, closures and things of the main module can be sent; scripts
need no ``if __name__ == "__main__":``; and workers end when their driver is gone.
"""

from __future__ import annotations

import atexit
import os
import pickle
import sys
import weakref
from collections.abc import Callable
from concurrent.futures import Executor
from concurrent.futures import wait as wait_for
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, ParamSpec, TypeVar

from amltk.exceptions import CallPicklingError, InvalidOptionError
from amltk.executors.processes import launch
from amltk.executors.processes.frames import Channel
from amltk.executors.processes.future import NO_CALL, PackedCall, PoolFuture
from amltk.executors.processes.pool import Pool
from amltk.executors.traits import Factory, Traits
from amltk.executors.travel.envelope import (
    CANNOT_PICKLE,
    name_of,
    pack_arguments,
    pickling_failure,
    portable,
)
from amltk.executors.travel.surroundings import working_folder

P = ParamSpec("P")
R = TypeVar("R")

#: How long workers may take, beyond the grace, until ``terminate`` gives up on them.
_SETTLE_S = 10.0


class ProcessExecutor(Executor):
    """Runs calls in worker processes of this machine, one call at a time in each.

    Args:
        max_workers: How many workers at most; as many as this process may use processors by
            default. They are started when there are calls for them.
        mp_context: A context of ``multiprocessing`` to start workers with. By default each is a
            fresh interpreter that does not import the main module.
        initializer: Called in each worker when it starts. If it raises, the worker ends.
        initargs: The initializer's arguments.
        max_tasks_per_child: After how many calls a worker is replaced; never by default.

    Raises:
        InvalidOptionError: When an option makes no sense.
        CallPicklingError: When the initializer cannot be sent to a worker.
    """

    traits: ClassVar[Traits] = Traits(pickles=True, packs_itself=True, ends_running_calls=True)

    #: Seconds between TERM and KILL for a worker whose running call is cancelled.
    GRACE_S: ClassVar[float] = 2.0

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None:
        _check(max_workers, initializer, max_tasks_per_child)
        # Processes of a context may have the script: by fork, or by importing it.
        self._has_script = mp_context is not None
        start = None
        if initializer is not None:
            start = _pack(initializer, tuple(initargs), {}, has_script=self._has_script)
        setup = pickle.dumps((sys.argv, working_folder(), start), pickle.HIGHEST_PROTOCOL)
        self._pool = Pool(
            max_workers=max_workers or _count_processors(),
            launch=partial(_launch_worker, mp_context),
            setup=setup,
            max_tasks_per_child=max_tasks_per_child,
            grace_s=self.GRACE_S,
        )
        # An executor that is forgotten is shut down. One that is alive at exit finishes its calls,
        # as the standard pool does.
        weakref.finalize(self, self._pool.close).atexit = False
        _alive.add(self)

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> PoolFuture:
        """Hand a call to the workers.

        Args:
            fn: What to call. A ``PortableFunction`` is sent to each worker only once.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            The call's future. If the call cannot be pickled, the future has failed already.

        Raises:
            ExecutorError: When the executor is shut down.
            WorkerStartError: When no worker comes up.
        """
        call, error = NO_CALL, None
        try:
            call = _pack(fn, args, kwargs, has_script=self._has_script)
        except CallPicklingError as failure:
            error = failure
        future = PoolFuture(self._pool, name_of(fn), call)
        if error is not None:
            future.set_exception(error)
        else:
            self._pool.submit(future)
        return future

    def terminate(self, grace_s: float | None = None) -> None:
        """Cancel all calls, running ones too; the executor takes new calls afterwards.

        Returns when the workers of running calls have ended.

        Args:
            grace_s: Seconds between TERM and KILL; ``GRACE_S`` by default.
        """
        if grace_s is not None:
            self._pool.grace_s = grace_s
        futures = self._pool.live_futures()
        for future in futures:
            future.cancel()
        wait_for(futures, timeout=self._pool.grace_s + _SETTLE_S)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the standard's signature
        """Take no more calls and let the workers go when they are done.

        Args:
            wait: Whether to wait until the workers are gone.
            cancel_futures: Whether calls that have not started are cancelled.
        """
        self._pool.close()
        if cancel_futures:
            for future in self._pool.live_futures():
                future.cancel_pending()
        _alive.discard(self)
        if wait:
            self._pool.join()


def processes_factory(
    max_workers: int | None = None,
    mp_context: Any = None,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
    *,
    max_tasks_per_child: int | None = None,
) -> Factory:
    """Return what makes a pool of processes; the arguments are those of ``ProcessExecutor``.

    Raises:
        InvalidOptionError: When an option makes no sense.
    """
    _check(max_workers, initializer, max_tasks_per_child)
    make = partial(
        ProcessExecutor,
        max_workers,
        mp_context,
        initializer,
        initargs,
        max_tasks_per_child=max_tasks_per_child,
    )
    n_workers = max_workers or _count_processors()
    return Factory(make, replace(ProcessExecutor.traits, n_workers=n_workers))


def _check(max_workers: object, initializer: object, max_tasks_per_child: object) -> None:
    numbers = {"max_workers": max_workers, "max_tasks_per_child": max_tasks_per_child}
    for option, value in numbers.items():
        if value is not None and (not isinstance(value, int) or value < 1):
            message = f"{option}={value!r} is not possible; give a whole number from 1, or None"
            raise InvalidOptionError(message, option=option, value=value)
    if initializer is not None and not callable(initializer):
        message = f"initializer={initializer!r} cannot be called; give a function"
        raise InvalidOptionError(message, option="initializer", value=initializer)


def _pack(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, has_script: bool
) -> PackedCall:
    try:
        function = portable(fn).wire(has_script=has_script)
        return PackedCall(function, *pack_arguments(args, kwargs, has_script=has_script))
    except CANNOT_PICKLE as error:
        raise pickling_failure(fn, args, kwargs) from error


def _launch_worker(context: Any, inherited: list[Any]) -> tuple[launch.Process, Channel]:
    if context is None:
        return launch.launch()
    return launch.launch_with_context(context, inherited)


def _count_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


#: Executors that were not shut down, to be so at exit.
_alive: weakref.WeakSet[ProcessExecutor] = weakref.WeakSet()


@atexit.register
def _shut_down_all() -> None:
    for executor in list(_alive):
        executor.shutdown(wait=True)
