"""Limits the threads that BLAS and OpenMP use in each call.

::

    in the worker, for each call
    variables such as OMP_NUM_THREADS ──▶ libraries that are loaded inside start limited
    threadpoolctl ──────────────────────▶ libraries that are loaded already
    the function
    all as before; what was loaded inside gets the number that it would have started with
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from amltk._contexts import context
from amltk._optional import require
from amltk.exceptions import InvalidOptionError
from amltk.plugins._alone import Alone
from amltk.scheduling.plugin import Layer, WorkerPlugin, Wrapped, refuse_engine

if TYPE_CHECKING:
    from amltk.scheduling.task import Task

#: What libraries read when they are loaded, by the kind of library.
_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "blas": (
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",  # Accelerate of macOS, which can be told in no other way
    ),
    "openmp": ("OMP_NUM_THREADS",),
}

#: Where a library looks for its number of threads, the first one that is set counts.
_READ_BY: Mapping[str, tuple[str, ...]] = {
    "openblas": ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"),
    "mkl": ("MKL_NUM_THREADS", "OMP_NUM_THREADS"),
    "blis": ("BLIS_NUM_THREADS", "OMP_NUM_THREADS"),
}

_alone = Alone("ThreadPoolCTLPlugin")


class ThreadPoolCTLPlugin(WorkerPlugin):
    """Limit the threads of BLAS and OpenMP while a call runs.

    Args:
        limits: How many threads each library may use, or how many for each kind of library, such
            as ``{"blas": 1, "openmp": 2}``; kinds that are not named are left alone.
        user_api: With one number, the kind of library that it is for: ``"blas"`` or ``"openmp"``;
            both by default.

    Raises:
        InvalidOptionError: When a limit is not a whole number from 1, or a kind is unknown.
        MissingExtraError: When threadpoolctl is not installed.
    """

    name: ClassVar[str] = "threadpoolctl"
    layer: ClassVar[Layer] = Layer.SURROUNDINGS

    def __init__(self, limits: int | Mapping[str, int] = 1, *, user_api: str | None = None) -> None:
        self._by_kind = _checked(limits, user_api)
        self.limits: int | Mapping[str, int] = limits if isinstance(limits, int) else dict(limits)
        self.user_api = user_api
        _threadpoolctl()

    def attach_task(self, task: Task[..., Any]) -> None:
        """Refuse a task whose calls share a process.

        Raises:
            InvalidOptionError: When the engine runs calls in threads.
        """
        if task.scheduler.traits.runs_in_threads:
            why = (
                "the number of threads of BLAS and OpenMP is a setting of the whole process, and "
                "this engine runs calls in threads of one process, so that calls would change it "
                "for each other; use an engine with worker processes, such as "
                "Scheduler.with_processes, or set OMP_NUM_THREADS before the program starts"
            )
            raise refuse_engine(self, task, why)

    def wrap(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Put the limits around the function."""
        return _Limited(fn, self._by_kind)

    def copy(self) -> ThreadPoolCTLPlugin:
        """Return a plugin with the same limits."""
        return type(self)(self.limits, user_api=self.user_api)


class _Limited(Wrapped):
    def __init__(self, fn: Callable[..., Any], limits: Mapping[str, int]) -> None:
        super().__init__(fn)
        self._limits = limits

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with _alone, _limited(self._limits):
            return self.fn(*args, **kwargs)


class _Libraries:
    """The libraries that are loaded, looked for again when modules were imported since."""

    def __init__(self) -> None:
        self._n_modules = -1
        self._found: Any = None

    def find(self) -> Any:
        """Return threadpoolctl's controller of them; to look takes milliseconds."""
        if len(sys.modules) != self._n_modules:
            controller_type = _threadpoolctl().ThreadpoolController
            self._n_modules = len(sys.modules)
            self._found = controller_type()
        return self._found


_libraries = _Libraries()


@context
def _limited(limits: Mapping[str, int]) -> Iterator[None]:
    before = _libraries.find()
    with before.limit(limits=limits):
        try:
            with _environment(_variables_of(limits)):
                yield
        finally:
            _release_new_libraries(before, limits)


def _variables_of(limits: Mapping[str, int]) -> dict[str, str]:
    return {
        variable: str(n_threads)
        for kind, n_threads in limits.items()
        for variable in _VARIABLES[kind]
    }


@context
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    outside = {name: os.environ.get(name) for name in variables}
    try:
        os.environ.update(variables)
        yield
    finally:
        for name, value in outside.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _release_new_libraries(before: Any, limits: Mapping[str, int]) -> None:
    """Give libraries that were loaded inside what they would have got outside."""
    after = _libraries.find()
    if after is before:
        return
    known = {library["filepath"] for library in before.info()}
    started_limited = {
        library["filepath"]: _usual_threads(library["internal_api"])
        for library in after.info()
        if library["filepath"] not in known
        and library["num_threads"] == limits.get(library["user_api"])
    }
    if started_limited:
        after.limit(limits=started_limited)


def _usual_threads(internal_api: str) -> int:
    """Tell how many threads a library takes by itself when it is loaded."""
    n_processors = _n_processors()
    for variable in _READ_BY.get(internal_api, ("OMP_NUM_THREADS",)):
        # OpenMP may have a list here, with a number for each level of nesting.
        number = os.environ.get(variable, "").split(",")[0].strip()
        if number.isdecimal() and int(number) > 0:
            return int(number) if internal_api == "openmp" else min(int(number), n_processors)
    return n_processors


def _n_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _threadpoolctl() -> Any:
    return require("threadpoolctl", extra="threadpoolctl", purpose="ThreadPoolCTLPlugin")


def _checked(limits: object, user_api: object) -> dict[str, int]:
    """Return the limit of each kind of library."""
    kinds = " or ".join(f'"{kind}"' for kind in _VARIABLES)
    if user_api is not None and user_api not in _VARIABLES:
        message = f"user_api={user_api!r} is not possible; give {kinds}, or None for both"
        raise InvalidOptionError(message, option="user_api", value=user_api)
    if isinstance(limits, Mapping) and user_api is not None:
        message = (
            f"user_api={user_api!r} cannot be given together with limits={limits!r}, which say it "
            f"themselves; leave user_api out"
        )
        raise InvalidOptionError(message, option="user_api", value=user_api)
    named = _VARIABLES if user_api is None else (user_api,)
    by_kind = limits if isinstance(limits, Mapping) else dict.fromkeys(named, limits)
    if not by_kind or any(kind not in _VARIABLES for kind in by_kind):
        message = f"limits={limits!r} is not possible; name {kinds} or both, such as {{'blas': 1}}"
        raise InvalidOptionError(message, option="limits", value=limits)
    return {str(kind): _number_of(n_threads, limits) for kind, n_threads in by_kind.items()}


def _number_of(n_threads: object, limits: object) -> int:
    if not isinstance(n_threads, int) or isinstance(n_threads, bool) or n_threads < 1:
        message = f"limits={limits!r} is not possible; a limit is a whole number of threads from 1"
        raise InvalidOptionError(message, option="limits", value=limits)
    return n_threads
