"""How the keeper of a limited call is started, by each of the start methods.

``fork`` copies the worker. ``spawn`` starts a fresh interpreter for each call. ``forkserver`` starts
one for each worker, a server that stays, and copies that. None of them imports the main module, so
that a script needs no ``if __name__ == "__main__":``, and none of them asks multiprocessing, so that
it does not matter how the worker itself was started.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import util
from pathlib import Path
from typing import NoReturn

from amltk.executors.travel.surroundings import interpreter, search_path
from amltk.plugins._pynisher.child import Job
from amltk.plugins._pynisher.keeper import keep
from amltk.plugins._pynisher.limits import Limits, StartMethod

#: Run by a fresh interpreter; its search path is the worker's.
_BOOTSTRAP = (
    "import sys; sys.path[:] = {path!r}; "
    "from amltk.plugins._pynisher.keeper import keep, serve; {call}"
)

#: How long an ended keeper or server may take to be gone, in seconds.
_GONE_S = 5.0
_LOOK_S = 0.0005

#: How long a server may take to import what it is told to, until calls wait for it on their time.
_READY_S = 60.0

#: Waits until a keeper is gone, if that is ours to do.
Collect = Callable[[], object]


def choose_method(limits: Limits) -> StartMethod:
    """Return the start method that was asked for, or the cheapest one that is safe here.

    A lock that another thread holds stays locked in a forked process for ever, so only a process
    with a single thread is forked, counting the threads of libraries too.
    """
    if limits.context is not None:
        return limits.context
    return "fork" if _has_one_thread() else "forkserver"


def _has_one_thread() -> bool:
    try:
        return len(list(Path("/proc/self/task").iterdir())) == 1
    except OSError:  # another system, where libraries do not expect a fork
        return False


def prepare(method: StartMethod, preload: tuple[str, ...]) -> None:
    """Have the server ready, if one is needed: its start is not part of a call's time.

    Args:
        method: How the keeper will be started.
        preload: Modules that the server imports.

    Raises:
        OSError: When the system starts no more processes.
    """
    if method == "forkserver":
        _servers.prepare(preload)


def start_keeper(
    method: StartMethod,
    preload: tuple[str, ...],
    ours: tuple[int, int],
    theirs: tuple[int, int],
    job: Job,
) -> Collect:
    """Start the keeper of a call.

    Args:
        method: How.
        preload: Modules that the server imports.
        ours: Descriptors of the worker that a forked keeper has to close.
        theirs: The keeper's descriptors: its socket, and where the call writes.
        job: What the call does; only a forked keeper gets it here.

    Returns:
        What waits for the keeper's end.

    Raises:
        OSError: When the system starts no more processes.
    """
    if method == "fork":
        return _fork(ours, theirs, job)
    if method == "spawn":
        return _spawn(theirs)
    _servers.request(preload, theirs)
    return _nothing


def _nothing() -> None:
    """The server's keepers are the server's to collect."""


def _fork(ours: tuple[int, int], theirs: tuple[int, int], job: Job) -> Collect:
    util._flush_std_streams()  # type: ignore[attr-defined] # else both processes would write it
    pid = os.fork()
    if pid == 0:
        _be_keeper(ours, theirs, job)
    return lambda: _collect(pid)


def _be_keeper(ours: tuple[int, int], theirs: tuple[int, int], job: Job) -> NoReturn:
    try:
        for descriptor in ours:
            os.close(descriptor)
        keep(*theirs, job)
    finally:
        os._exit(1)  # whatever happens, this process never goes back into the worker's code


def _collect(pid: int) -> None:
    deadline = time.monotonic() + _GONE_S
    with suppress(ChildProcessError):  # somebody else has collected it
        while os.waitpid(pid, os.WNOHANG) == (0, 0) and time.monotonic() < deadline:
            time.sleep(_LOOK_S)


def _spawn(theirs: tuple[int, int]) -> Collect:
    return _collector(_start_interpreter(f"keep{theirs!r}", theirs))


def _collector(process: subprocess.Popen[bytes]) -> Collect:
    def collect() -> None:
        try:
            process.wait(_GONE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_GONE_S)

    return collect


def _start_interpreter(call: str, descriptors: tuple[int, ...]) -> subprocess.Popen[bytes]:
    path = search_path()
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    code = _BOOTSTRAP.format(path=path, call=call)
    return subprocess.Popen(  # noqa: S603 - our own interpreter and code
        [interpreter(), *flags, "-c", code],
        stdin=subprocess.DEVNULL,
        pass_fds=descriptors,
    )


class _Server:
    """A process that forks keepers."""

    def __init__(self, preload: tuple[str, ...]) -> None:
        self._socket, theirs = socket.socketpair()
        try:
            with theirs:
                number = theirs.fileno()
                self._process = _start_interpreter(f"serve({number}, {preload!r})", (number,))
        except BaseException:
            self._socket.close()
            raise

    def wait_until_ready(self) -> None:
        """Wait until it has imported what it is to import; one that takes long may go on."""
        self._socket.settimeout(_READY_S)
        with suppress(OSError):
            self._socket.recv(1)
        self._socket.settimeout(None)

    def request(self, descriptors: tuple[int, int]) -> None:
        socket.send_fds(self._socket, [b"k"], list(descriptors))

    def forget(self) -> None:
        """Close a forked process's copy of the socket: the server is its parent's."""
        self._socket.close()
        self._process.returncode = 0  # so that its garbage does not complain

    def close(self) -> None:
        self._socket.close()
        _collector(self._process)()


class _Servers:
    """The servers of this process, one for each set of modules."""

    def __init__(self) -> None:
        self._servers: dict[tuple[str, ...], _Server] = {}
        self._lock = threading.Lock()

    def request(self, preload: tuple[str, ...], descriptors: tuple[int, int]) -> None:
        """Have a keeper forked; a server that is gone is replaced."""
        with self._lock:
            try:
                self._server(preload).request(descriptors)
            except OSError:
                stale = self._servers.pop(preload, None)
                if stale is not None:
                    stale.close()
                self._server(preload).request(descriptors)

    def prepare(self, preload: tuple[str, ...]) -> None:
        """Have a server ready."""
        with self._lock:
            self._server(preload)

    def _server(self, preload: tuple[str, ...]) -> _Server:
        server = self._servers.get(preload)
        if server is None:
            server = self._servers[preload] = _Server(preload)
            server.wait_until_ready()
        return server

    def close(self) -> None:
        """End them all."""
        with self._lock:
            while self._servers:
                self._servers.popitem()[1].close()

    def forget(self) -> None:
        """Start anew in a forked process."""
        self._lock = threading.Lock()
        for server in self._servers.values():
            server.forget()
        self._servers.clear()


_servers = _Servers()
atexit.register(_servers.close)
os.register_at_fork(after_in_child=_servers.forget)
