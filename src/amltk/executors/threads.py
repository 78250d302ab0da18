"""The standard library's threads as an engine."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from amltk.exceptions import InvalidOptionError
from amltk.executors.traits import Factory, Traits


def threads_factory(
    max_workers: int | None = None,
    *,
    thread_name_prefix: str = "amltk",
    initializer: Callable[..., Any] | None = None,
    initargs: tuple[Any, ...] = (),
) -> Factory:
    """Return what makes a pool of threads.

    Args:
        max_workers: How many threads at most; the standard pool's own choice by default.
        thread_name_prefix: How the threads are named.
        initializer: Called in each thread when it starts.
        initargs: The initializer's arguments.

    Raises:
        InvalidOptionError: When ``max_workers`` is not a positive number.
    """
    if max_workers is not None and max_workers < 1:
        message = f"a pool of threads needs at least one worker, not max_workers={max_workers!r}"
        raise InvalidOptionError(message, option="max_workers", value=max_workers)

    def make() -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max_workers, thread_name_prefix, initializer, tuple(initargs))

    n_workers = max_workers or make()._max_workers  # no thread is started by that
    return Factory(make, Traits(pickles=False, runs_in_threads=True, n_workers=n_workers))
