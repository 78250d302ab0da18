"""The process of a limited call as pynisher sees it in the worker, and what is behind it.

pynisher waits in ``poll``. There the outcome, the wall clock, the watch on memory and the end of
the process are all waited for at once.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil

from amltk.exceptions import WorkerDiedError
from amltk.plugins._pynisher.child import SIZE, LimitedJob, pack_job
from amltk.plugins._pynisher.keeper import ENDING, IDS
from amltk.plugins._pynisher.limits import Limits, StartMethod
from amltk.plugins._pynisher.sigterm import OwnSigterm
from amltk.plugins._pynisher.start import Collect, prepare, start_keeper

#: How long the process of a call that has returned may take to end, in seconds: for what is to be
#: done at its exit. Afterwards it is killed.
EXIT_S = 1.0

#: How long the keeper may take to kill a call, until it is killed itself.
_KILLED_S = 6.0

#: How often resident memory is looked at, and which part of a core that may take at most.
_SAMPLE_S = 0.05
_SAMPLE_SHARE = 0.1

#: A process id that the system never gives to anybody: pynisher kills by the process's id after it
#: has ended, which could be another's by then.
_NOBODY = 2**30

_READ_BYTES = 1 << 20


class CallProcess:
    """The process of a call and the receiving end of its pipe, as pynisher uses the two.

    Args:
        name: How the function is called in messages.
        limits: The limits.
        method: How the process is started.
        pynisher: The package.
    """

    #: The limiter's bound method; set when pynisher asks for the process.
    target: Callable[[], object]

    #: In the place of the true one, for pynisher.
    pid = _NOBODY

    def __init__(self, name: str, limits: Limits, method: StartMethod, pynisher: Any) -> None:
        self._name = name
        self._limits = limits
        self._method: StartMethod = method
        self._pynisher = pynisher
        self._sigterm = OwnSigterm()
        self._control: socket.socket | None = None
        self._results = -1
        self._collect: Collect | None = None
        self._deadline: float | None = None
        self._told = bytearray()
        self._received = bytearray()
        self._results_open = True
        self._keeper_open = True
        self._sample_at = 0.0
        self._is_closed = False

    # ----------------------------------------------------------------- the process, for pynisher

    def start(self) -> None:
        """Start the keeper, and send it the job."""
        self._sigterm.restore()
        is_fork = self._method == "fork"
        job = b"" if is_fork else pack_job(self.target)
        prepare(self._method, self._limits.preload)
        started = time.monotonic()
        self._control, theirs = socket.socketpair()
        self._results, write_end = os.pipe()
        try:
            self._collect = start_keeper(
                self._method,
                self._limits.preload,
                (self._control.fileno(), self._results),
                (theirs.fileno(), write_end),
                LimitedJob(self.target),
            )
        finally:
            theirs.close()
            os.close(write_end)
        wall_s = self._limits.wall_time_s
        self._deadline = None if wall_s is None else started + wall_s
        if not is_fork:
            self._send(SIZE.pack(len(job)), job)
        self._control.setblocking(False)
        os.set_blocking(self._results, False)

    def _send(self, *parts: bytes) -> None:
        assert self._control is not None  # noqa: S101 - it has been started
        self._control.settimeout(self._limits.wall_time_s)
        # If the keeper is gone, or time is up, `poll` finds that out and says so.
        with suppress(OSError):
            for part in parts:
                self._control.sendall(part)

    def is_alive(self) -> bool:
        """Tell whether the process runs; asked before its start, a TERM has come."""
        if self._control is None:
            self._sigterm.has_come = True
            return False
        return self._runs

    @property
    def exitcode(self) -> int | None:
        """The exit code of the call's process, negative for a signal."""
        return None if self._ending is None else self._ending[0]

    def join(self, timeout: float | None = None) -> None:
        """End the process: pynisher joins when there is nothing more to wait for."""
        del timeout
        self.close()

    def kill(self) -> None:
        """End the process."""
        self.close()

    # -------------------------------------------------------------- the receiving end, for pynisher

    def poll(self, timeout: float) -> bool:
        """Wait for the outcome, the end of the process, or a limit.

        Returns:
            Whether there is an outcome.

        Raises:
            WallTimeoutException: When the wall time is up.
            MemoryLimitException: When too much memory is resident.
            WorkerDiedError: When the keeper has died, so that nothing is known of the call.
        """
        del timeout  # there is no need to look again and again
        self._sigterm.raise_if_it_came()
        while not self._has_outcome and self._runs:
            self._wait(self._pause_s())
            self._watch()
        self._read_results()  # what came together with the end
        if self._ending is None and not self._has_outcome:
            raise self._death()
        return self._has_outcome

    def recv(self) -> object:
        """Return what pynisher's limiter has sent."""
        return pickle.loads(memoryview(self._received)[2 * SIZE.size :])

    def close(self) -> None:
        """End the process with everything that it has started."""
        if self._is_closed or self._control is None:
            return
        self._is_closed = True
        self._sigterm.restore()
        if self._has_outcome:
            self._wait_for_end(EXIT_S)
        if self._runs:
            with suppress(OSError):
                self._control.shutdown(socket.SHUT_WR)
            self._wait_for_end(_KILLED_S)
        if self._ending is None:
            self._kill_keeper()
        self._control.close()
        os.close(self._results)
        if self._collect is not None:
            self._collect()

    # ------------------------------------------------------------------------- what has been told

    @property
    def _ids(self) -> tuple[int, int] | None:
        return IDS.unpack_from(self._told) if len(self._told) >= IDS.size else None

    @property
    def _ending(self) -> tuple[int, float] | None:
        if len(self._told) < IDS.size + ENDING.size:
            return None
        return ENDING.unpack_from(self._told, IDS.size)

    @property
    def _runs(self) -> bool:
        return self._keeper_open and self._ending is None

    @property
    def _has_outcome(self) -> bool:
        head = 2 * SIZE.size
        if len(self._received) < head:
            return False
        (length,) = SIZE.unpack_from(self._received, SIZE.size)
        return len(self._received) == head + int(length)

    def _wait(self, timeout_s: float | None) -> None:
        assert self._control is not None  # noqa: S101 - it has been started
        poller = select.poll()
        if self._keeper_open:
            poller.register(self._control, select.POLLIN)
        if self._results_open:
            poller.register(self._results, select.POLLIN)
        ready = dict(poller.poll(None if timeout_s is None else max(timeout_s, 0) * 1000))
        if self._results in ready:
            self._read_results()
        if self._control.fileno() in ready:
            self._read_control()

    def _read_control(self) -> None:
        assert self._control is not None  # noqa: S101 - it has been started
        data = b""
        with suppress(ConnectionError):
            data = self._control.recv(IDS.size + ENDING.size)
        self._told += data
        self._keeper_open = bool(data)

    def _read_results(self) -> None:
        while self._results_open:
            try:
                data = os.read(self._results, _READ_BYTES)
            except BlockingIOError:
                return
            self._received += data
            self._results_open = bool(data)

    def _wait_for_end(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while self._runs:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return
            self._wait(left_s)

    def _kill_keeper(self) -> None:
        """Kill a keeper that does not answer, with what is in its group."""
        if self._ids is not None:
            with suppress(OSError):
                os.killpg(self._ids[0], signal.SIGKILL)

    # ------------------------------------------------------------------------------ what is watched

    def _pause_s(self) -> float | None:
        until = [] if self._deadline is None else [self._deadline]
        if self._limits.resident is not None:
            until.append(self._sample_at)
        return min(until) - time.monotonic() if until else None

    def _watch(self) -> None:
        if self._has_outcome or not self._runs:
            return
        now = time.monotonic()
        if self._deadline is not None and now >= self._deadline:
            message = f"{self._name} took longer than its wall time of {self._limits.wall_time_s} s"
            raise self._pynisher.WallTimeoutException(message)
        limit = self._limits.resident
        if limit is not None and now >= self._sample_at:
            self._check_resident(limit, now)

    def _check_resident(self, limit: int, now: float) -> None:
        added = self._resident()
        took_s = time.monotonic() - now
        self._sample_at = now + max(_SAMPLE_S, took_s / _SAMPLE_SHARE)
        if added > limit:
            message = (
                f"{self._name} and the processes that it has started have {added} bytes more in "
                f"memory than its process started with; its limit is {limit} bytes"
            )
            raise self._pynisher.MemoryLimitException(message)

    def _resident(self) -> int:
        """Return how much more memory is resident below the keeper than when the call began."""
        if self._ids is None or len(self._received) < SIZE.size:
            return 0
        total = 0
        with suppress(psutil.Error):
            for process in psutil.Process(self._ids[0]).children(recursive=True):
                with suppress(psutil.Error):
                    total += process.memory_info().rss
        (at_start,) = SIZE.unpack_from(self._received)
        return int(total - at_start)

    # ---------------------------------------------------------------------------- what has happened

    def explain(self, error: Exception) -> Exception:
        """Say what has become of a call that pynisher has no name for.

        Args:
            error: What pynisher raised.

        Returns:
            The error itself if it names a limit.
        """
        if type(error) is not self._pynisher.PynisherException or self._ending is None:
            return error
        exit_code, cpu_time_s = self._ending
        limit_s = self._limits.cpu_time_s
        if limit_s is not None and exit_code == -signal.SIGKILL and cpu_time_s >= limit_s:
            message = f"{self._name} used {cpu_time_s:.1f} s of CPU time and ignored its limit of {limit_s} s"
            failure: Exception = self._pynisher.CpuTimeoutException(message)
            return failure
        return self._death()

    def _death(self) -> WorkerDiedError:
        exit_code = self.exitcode
        pid = self._ids[1] if self._ids is not None else 0
        signal_name = None
        with suppress(ValueError, TypeError):
            signal_name = signal.Signals(-exit_code).name  # type: ignore[operator] # None is suppressed
        how = (
            "in a way that is not known"
            if exit_code is None
            else f"with exit code {exit_code}" + (f" ({signal_name})" if signal_name else "")
        )
        message = (
            f"the process {pid} of the limited call of {self._name} died {how}; no limit of "
            f"PynisherPlugin did that"
        )
        return WorkerDiedError(message, pid=pid, exit_code=exit_code, signal_name=signal_name)
