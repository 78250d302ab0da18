"""What runs beside the worker: a keeper for each limited call, and the process of the call.

::

    worker                     keeper                            the call
    ──── job, hang-up ───▶ starts the call, waits for    ──▶ limits itself, then
    ◀─ ids, exit code ──── its end or for the hang-up,       calls the function
                           kills all that is left                │
    ◀───────────────── how it started, its outcome ──────────────┘

The keeper never runs anything of the user's, so it is always able to act: when the worker has died,
in whatever way, it sees the hang-up and kills the call with all that the call has started. On Linux
even what has cut itself off (``setsid``, a double fork) stays below the keeper and is found.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import select
import signal
import socket
import struct
import sys
import time
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import psutil

from amltk.plugins._pynisher.child import SIZE, Job, PackedJob
from amltk.plugins._pynisher.library import load

#: Ids of the keeper and of the call; sent by the keeper when the call has been started.
IDS = struct.Struct("!ii")

#: The call's exit code, negative for a signal, and the CPU time that it took, in seconds.
ENDING = struct.Struct("!id")

#: How often the keeper looks whether who started it is still there.
_WATCH_S = 1.0

#: How often it is looked whether killed processes are gone, and for how long.
_LOOK_S = 0.002
_KILLED_S = 5.0

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


# --------------------------------------------------------------------------------- the server


def serve(descriptor: int, preload: tuple[str, ...]) -> NoReturn:
    """Fork a keeper for each request, until whoever sends them hangs up.

    Args:
        descriptor: The socket on which requests come, each with the descriptors for the keeper.
        preload: Modules that the calls are going to need. One that fails to import is passed over:
            the call that needs it says so better.
    """
    os.set_inheritable(descriptor, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that keepers need not be waited for
    with suppress(Exception):
        load()
    for name in preload:
        with suppress(Exception):
            __import__(name)
    requests = socket.socket(fileno=descriptor)
    requests.sendall(b"r")
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, 1, 2)
        if not message:
            os._exit(0)
        with warnings.catch_warnings():
            # What was preloaded may have threads; who asked for it decided so.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            requests.close()
            keep(descriptors[0], descriptors[1])
        for number in descriptors:
            os.close(number)


# --------------------------------------------------------------------------------- the keeper


def keep(control: int, results: int, job: Job | None = None) -> NoReturn:
    """Be the keeper of a call, in a process made for it.

    Args:
        control: The socket to the worker.
        results: Where the call writes its outcome.
        job: What the call does; read from the worker where it did not come with a fork.
    """
    try:
        os.set_inheritable(control, False)
        os.set_inheritable(results, False)
        with socket.socket(fileno=control) as to_worker:
            _Keeper(to_worker, results).run(job)
    except ConnectionError:
        pass  # the worker is gone before the call has begun
    except BaseException:
        traceback.print_exc()  # the worker hears that the keeper has ended
    finally:
        os._exit(0)


class _Keeper:
    def __init__(self, control: socket.socket, results: int) -> None:
        self._control = control
        self._results = results
        self._starter = os.getppid()
        self._call = 0
        self._ending: tuple[int, float] | None = None

    def run(self, job: Job | None) -> None:
        _be_deaf()
        os.setpgid(0, 0)  # Ctrl-C in the terminal is for the driver, which ends the calls
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        job = job or _read_job(self._control)
        self._start(job)
        del job
        self._close_what_was_inherited()
        self._control.sendall(IDS.pack(os.getpid(), self._call))
        self._wait()
        self._end_everything()
        exit_code, cpu_time_s = self._ending or (-signal.SIGKILL, 0.0)
        with suppress(OSError):  # the worker may be gone
            self._control.sendall(ENDING.pack(exit_code, cpu_time_s))

    def _start(self, job: Job) -> None:
        # The process of the call is one of multiprocessing's, so that the function may use that
        # package as it would elsewhere. Workers of some pools may not have such children; this
        # is not one of them.
        multiprocessing.current_process().daemon = False
        quiet = warnings.catch_warnings()
        process = multiprocessing.get_context("fork").Process(
            target=_run_call,
            args=(job, self._results, self._control, os.getpid(), quiet),
            name="amltk-limited-call",
            daemon=False,
        )
        # Libraries may have threads here; who asked for a fork decided so. Where warnings are errors
        # Python 3.15 raises this one when the process of the call is there already.
        with quiet:
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        assert process.pid is not None  # noqa: S101 - it has been started
        self._call = process.pid

    def _close_what_was_inherited(self) -> None:
        """Let go of what belongs to the worker or the call: nobody is to wait for this process."""
        mine = {0, 1, 2, self._control.fileno()}
        with suppress(OSError):
            for descriptor in [int(entry.name) for entry in Path("/dev/fd").iterdir()]:
                if descriptor not in mine:
                    with suppress(OSError):
                        os.close(descriptor)

    def _wait(self) -> None:
        """Wait until the call has ended, or the worker wants it to or is gone."""
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        look_s = _LOOK_S
        if hasattr(os, "pidfd_open"):
            poller.register(os.pidfd_open(self._call), select.POLLIN)
            look_s = _WATCH_S
        while not poller.poll(look_s * 1000) and os.getppid() == self._starter:
            self._collect()
            if self._ending is not None:
                return

    def _end_everything(self) -> None:
        """Kill the call, if it still runs, and all that it has started."""
        deadline = time.monotonic() + _KILLED_S
        while self._collect() and time.monotonic() < deadline:
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    process.kill()
            time.sleep(_LOOK_S)

    def _collect(self) -> bool:
        """Collect ended children; tell whether there are others."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._call:
                cpu_time_s = usage.ru_utime + usage.ru_stime
                self._ending = os.waitstatus_to_exitcode(status), cpu_time_s


def _be_deaf() -> None:
    """Leave signals to the others; the hang-up is what the keeper obeys."""
    signal.set_wakeup_fd(-1)  # an event loop's, if this was forked from one
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _read_job(control: socket.socket) -> Job:
    (length,) = SIZE.unpack(_read(control, SIZE.size))
    return PackedJob(_read(control, length))


def _read(sock: socket.socket, length: int) -> bytearray:
    room = bytearray(length)
    view = memoryview(room)
    while view:
        n_read = sock.recv_into(view)
        if not n_read:
            raise ConnectionError  # the worker has gone, and so does the keeper
        view = view[n_read:]
    return room


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


# ----------------------------------------------------------------------------------- the call


def _run_call(
    job: Job,
    results: int,
    control: socket.socket,
    keeper: int,
    quiet: warnings.catch_warnings[None],
) -> None:
    quiet.__exit__(None, None, None)  # the function has the worker's filters
    control.close()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != keeper:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGXCPU):
        signal.signal(number, signal.SIG_DFL)
    job(results)
