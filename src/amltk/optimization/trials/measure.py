"""What the work on a trial takes: wall time, processor time and memory."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows
    resource = None

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True)
class Timing:
    """When the work on a trial began and ended, and how long it took."""

    #: In seconds since 1970, by the worker's clock.
    started_at: float
    #: In seconds since 1970, by the worker's clock.
    ended_at: float
    #: Seconds from beginning to end, by a clock that is never set.
    wall_s: float
    #: Seconds of processor time of the process and of its children that have ended. Where trials
    #: share a process, as on threads, it is that of all of them.
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a piece of work."""

    time: Timing
    #: The most memory that the process had in use at once, in MB (1e6 bytes), where it is known.
    peak_memory_mb: float | None


class Stopwatch:
    """Measures from when it is made until it is stopped."""

    def __init__(self) -> None:
        self._peak = _PEAK
        self._peak.begin()
        self._started_at = time.time()
        self._cpu_s = _cpu_s()
        self._begun = time.perf_counter()
        self._measured: Measured | None = None

    def stop(self) -> Measured:
        """Return what was measured until this was first called."""
        if self._measured is None:
            wall_s = time.perf_counter() - self._begun
            timing = Timing(
                self._started_at, self._started_at + wall_s, wall_s, _cpu_s() - self._cpu_s
            )
            self._measured = Measured(timing, self._peak.end())
        return self._measured


class _Peak:
    """The most memory that this process had in use since measuring began.

    Linux forgets the peak on demand, by a file that stays open, since this is done for each trial.
    While several measure at once in one process it is not asked to, so that each gets the peak
    since the first of them began.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_active = 0
        self._pid: int | None = None
        self._clear: int | None = None
        self._is_masked = False

    def begin(self) -> None:
        with self._lock:
            self._n_active += 1
            if self._n_active > 1:
                return
            if self._pid != os.getpid():  # a fork inherits the file, which is of its parent
                self._open()
            self._forget()

    def end(self) -> float | None:
        with self._lock:
            self._n_active -= 1
        if self._is_masked:
            return _peak_of_status() or _peak_of_usage()
        return _peak_of_usage()

    def _open(self) -> None:
        self._pid = os.getpid()
        try:
            self._clear = os.open(_CLEAR, os.O_WRONLY)
        except OSError:  # another system, or one that forbids it
            self._clear = None
            return
        # What the kernel tells first is never less than what the program had that started this
        # one. Where that is more than what this one has, only the slower way tells its own peak.
        self._forget()
        usage, status = _peak_of_usage(), _peak_of_status()
        self._is_masked = None not in (usage, status) and usage > status + 1  # type: ignore[operator]

    def _forget(self) -> None:
        if self._clear is not None:
            with suppress(OSError):  # then it is the peak since the process began
                os.write(self._clear, b"5")


def _peak_of_status() -> float | None:
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    return None


def _peak_of_usage() -> float | None:
    if resource is None:
        return None
    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def _cpu_s() -> float:
    used = os.times()
    return time.process_time() + used.children_user + used.children_system


_PEAK = _Peak()


def worker_name() -> str:
    """Return what names the worker that calls this: host, process and thread."""
    name = f"{_host()}:{os.getpid()}"
    thread = threading.current_thread()
    return name if thread is threading.main_thread() else f"{name}:{thread.name}"


@cache
def _host() -> str:
    return socket.gethostname()
