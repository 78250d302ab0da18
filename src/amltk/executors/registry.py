"""Which engines there are, how they are made, and what is known about executors of others.

Nothing here imports an engine: names are resolved when somebody asks for one, and executors that
are handed in are recognised by the names of their classes. Installed packages add engines of their
own by entry points of the group ``amltk.engines``.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from amltk.exceptions import InvalidOptionError, NestedRunError
from amltk.executors.engine import Ending, Engine, Terminator
from amltk.executors.traits import Traits
from amltk.executors.travel import surroundings  # noqa: F401 - it notes the folder of now
from amltk.executors.travel.envelope import name_of, portable

__all__ = [
    "Ending",
    "Engine",
    "Traits",
    "adopt",
    "factory_of",
    "name_of",
    "portable",
    "refuse_nested_run",
    "traits_of",
]

#: Where the factory of each engine is. A factory checks its options and its packages at once and
#: returns what makes the executor.
_FACTORIES = {
    "sequential": "amltk.executors.sequential:sequential_factory",
    "threads": "amltk.executors.threads:threads_factory",
    "processes": "amltk.executors.processes.executor:processes_factory",
    "loky": "amltk.executors.loky:loky_factory",
    "dask": "amltk.executors.dask.factory:dask_factory",
    "slurm": "amltk.executors.jobqueue.factory:slurm_factory",
    "pbs": "amltk.executors.jobqueue.factory:pbs_factory",
    "sge": "amltk.executors.jobqueue.factory:sge_factory",
    "lsf": "amltk.executors.jobqueue.factory:lsf_factory",
    "moab": "amltk.executors.jobqueue.factory:moab_factory",
    "htcondor": "amltk.executors.jobqueue.factory:htcondor_factory",
    "oar": "amltk.executors.jobqueue.factory:oar_factory",
    "ray": "amltk.executors.ray.executor:ray_factory",
    "airflow": "amltk.executors.airflow.executor:airflow_factory",
}

#: Entry points of this group are further factories; ours come first.
ENTRY_POINTS = "amltk.engines"


@dataclass(frozen=True, slots=True)
class _Known:
    traits: Traits
    #: Where the function is that ends the workers of such an executor.
    terminator: str | None = None


#: Executors that cannot say themselves what they can do, by the name of their class.
_KNOWN = {
    "concurrent.futures.thread.ThreadPoolExecutor": _Known(
        Traits(pickles=False, runs_in_threads=True)
    ),
    # Python 3.14 and later. A thread for each interpreter, which share no objects.
    "concurrent.futures.interpreter.InterpreterPoolExecutor": _Known(Traits(runs_in_threads=True)),
    "concurrent.futures.process.ProcessPoolExecutor": _Known(
        Traits(death_spreads=True), "amltk.executors.termination:end_workers"
    ),
    "loky.process_executor.ProcessPoolExecutor": _Known(
        Traits(death_spreads=True), "amltk.executors.termination:end_workers"
    ),
    # Until a run has made more of it; see `_BETTER`.
    "distributed.cfexecutor.ClientExecutor": _Known(Traits(shares_machine=None)),
}

#: What makes more of an executor that but stands for something of an engine that we know.
_BETTER = {"distributed.cfexecutor.ClientExecutor": "amltk.executors.dask.executor:of_client"}


#: Of an executor that nobody knows: what is safe to assume.
_STRANGER = _Known(Traits())

#: What makes one of a pool that goes on when it breaks, and ends its workers.
_RECOVERING = "amltk.executors.recovery.executor:recovering"
_END_RECOVERING = "amltk.executors.recovery.executor:end_workers"


def factory_of(engine: str, **options: Any) -> Callable[[], Executor]:
    """Return what makes an executor of the named engine.

    Args:
        engine: One of the engines that amltk brings, or one that an installed package adds.
        **options: Passed on to the engine's factory.

    Returns:
        A callable that makes a new executor each time.

    Raises:
        InvalidOptionError: When there is no such engine, or an option is wrong.
        MissingExtraError: When a package is missing.
    """
    where = _FACTORIES.get(engine)
    make: Callable[..., Any] = _load(where) if where is not None else _added(engine).load()
    factory: Callable[[], Executor] = make(**options)
    return factory


def _added(engine: str) -> EntryPoint:
    added = {found.name: found for found in entry_points(group=ENTRY_POINTS)}
    if engine not in added:
        there = ", ".join(sorted([*_FACTORIES, *added]))
        message = (
            f'there is no engine "{engine}"; there are: {there}. A package adds one by an entry '
            f'point of the group "{ENTRY_POINTS}"'
        )
        raise InvalidOptionError(message, option="engine", value=engine)
    return added[engine]


def adopt(
    executor: Executor, *, make: Callable[[], Executor] | None = None, recover: bool = True
) -> Engine:
    """Wrap an executor for the scheduler, by what it says or what is known of it.

    Args:
        executor: The executor.
        make: What made it, if it is the scheduler's own.
        recover: Whether another one takes its place when it breaks, where that is possible.
    """
    executor = _better(executor)
    known = _known(executor)
    owned = make is not None
    if recover and (known.traits.death_spreads or (owned and known is _STRANGER)):
        wrapped = _load(_RECOVERING)(executor, known.traits, make=make, owned=owned)
        if wrapped is not executor:
            terminator = partial(_terminate, _END_RECOVERING)
            return Engine(wrapped, wrapped.traits, terminator, owned=True)
    ending: Terminator | None = None
    if known.terminator is not None:
        ending = partial(_terminate, known.terminator)
    return Engine(executor, known.traits, ending, owned=owned)


def _better(executor: Executor) -> Executor:
    """Return what does more with what an executor stands for, such as a client of Dask."""
    for kind in type(executor).__mro__:
        where = _BETTER.get(f"{kind.__module__}.{kind.__qualname__}")
        if where is not None:
            better: Executor = _load(where)(executor)
            return better
    return executor


def traits_of(executor: Executor | Callable[[], Executor]) -> Traits:
    """Tell what an executor can do.

    Args:
        executor: Any executor, or what makes one. One of your own says it by an attribute
            ``traits``.

    Returns:
        Its traits; of an executor that nobody knows, what is safe to assume.
    """
    return _known(executor).traits


def refuse_nested_run() -> None:
    """Refuse to run where a worker is importing what starts the run, which would go on without end.

    Raises:
        NestedRunError: When that is so.
    """
    process = sys.modules.get("multiprocessing.process")
    is_importing = getattr(process and process.current_process(), "_inheriting", False)
    namespaces = sys.modules.get("amltk.executors.travel.namespaces")
    if is_importing or (namespaces is not None and namespaces.is_reading()):
        message = (
            "a run cannot start here: this is a worker, or another process that a program has started, "
            "and it has only imported the module that starts the run, which would start workers, which "
            "would import it, and so on. Put what is to happen once into a function, and call it below: "
            'if __name__ == "__main__":'
        )
        raise NestedRunError(message)


def _known(executor: object) -> _Known:
    said = getattr(executor, "traits", None)
    if isinstance(said, Traits):
        return _Known(said)
    for kind in (executor if isinstance(executor, type) else type(executor)).__mro__:
        known = _KNOWN.get(f"{kind.__module__}.{kind.__qualname__}")
        if known is not None:
            # Private in the standard library and loky, and the only place that tells it.
            n_workers = getattr(executor, "_max_workers", None)
            return replace(known, traits=replace(known.traits, n_workers=n_workers))
    return _STRANGER


def _terminate(where: str, executor: Executor, grace_s: float) -> None:
    _load(where)(executor, grace_s)


def _load(where: str) -> Callable[..., Any]:
    module, _, name = where.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found
