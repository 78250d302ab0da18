"""Ending processes with all their children: asked first, killed a few seconds later."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import Executor
from contextlib import suppress

import psutil

#: How often it is looked whether processes have ended.
_LOOK_S = 0.01

#: How long killed processes may take to be gone.
_KILLED_S = 5.0


def end_processes(pids: Iterable[int], grace_s: float) -> list[int]:
    """End processes and all their descendants.

    They get TERM and, those that are left after the grace, KILL. Zombies count as ended; whoever
    started them collects them.

    Args:
        pids: The processes.
        grace_s: Seconds between TERM and KILL.

    Returns:
        The ids of the processes that had to be killed.
    """
    everybody = _with_descendants(pids)
    for process in everybody:
        with suppress(psutil.Error):
            process.terminate()
    left = _wait(everybody, grace_s)
    # Children that were started in the meantime belong to them too.
    left = _merge(left, _with_descendants(p.pid for p in left))
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    _wait(left, _KILLED_S)
    return [process.pid for process in left]


def end_workers(executor: Executor, grace_s: float) -> list[int]:
    """End the worker processes of a standard or loky pool.

    The pool is broken afterwards: neither of the two can lose a worker and go on.

    Args:
        executor: The pool.
        grace_s: Seconds between TERM and KILL.

    Returns:
        The ids of the processes that had to be killed.
    """
    return end_processes(worker_pids(executor), grace_s)


def worker_pids(executor: Executor) -> list[int]:
    """Return the ids of the worker processes of a standard or loky pool."""
    processes = getattr(executor, "_processes", None) or {}
    return list(processes)


def _with_descendants(pids: Iterable[int]) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for pid in pids:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            found = _merge(found, [process, *process.children(recursive=True)])
    return found


def _merge(some: list[psutil.Process], more: list[psutil.Process]) -> list[psutil.Process]:
    return list(dict.fromkeys([*some, *more]))


def _wait(processes: list[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Wait for processes without collecting them; return those that go on."""
    deadline = time.monotonic() + timeout_s
    left = [process for process in processes if _runs(process)]
    while left and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
        left = [process for process in left if _runs(process)]
    return left


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
