"""Starting worker processes, and knowing when they have ended.

By default a worker is a fresh interpreter that never imports the main module, so that a script
needs no ``if __name__ == "__main__":``. With a context of ``multiprocessing`` the worker is that
context's process, with all that this brings.
"""

from __future__ import annotations

import multiprocessing.util  # noqa: F401 - see `launch_with_context`
import os
import socket
import subprocess
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from typing import Any, Protocol

from amltk.executors.processes import worker
from amltk.executors.processes.frames import Channel
from amltk.executors.travel.surroundings import interpreter, search_path, working_folder

#: How long the exit code of a process that has ended may take to be known.
_EXIT_CODE_S = 1.0

#: How many descriptors are left to the driver: for its callbacks, and for ending workers.
SPARE_DESCRIPTORS = 6

#: Run by the fresh interpreter. It gets the driver's search path first, so that it finds amltk and
#: everything else where the driver found it.
_BOOTSTRAP = (
    "import sys; sys.path[:] = {path!r}; "
    "from amltk.executors.processes.worker import start_from_descriptor; "
    "start_from_descriptor({descriptor})"
)


class Process(Protocol):
    """A started process."""

    pid: int

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or ``None`` while it runs."""

    def exit_code(self) -> int | None:
        """Return the exit code of a process that has ended, or ``None`` where it is not known."""

    def release(self) -> None:
        """Let go of what belongs to an ended process."""


class _Popened:
    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self.pid = popen.pid

    def poll(self) -> int | None:
        return self._popen.poll()

    def exit_code(self) -> int | None:
        return self._popen.poll()

    def release(self) -> None:
        """Nothing is left once it has been waited for."""


class _Multiprocessed:
    def __init__(self, process: Any) -> None:
        self._process = process
        self.pid: int = process.pid

    def poll(self) -> int | None:
        exit_code: int | None = self._process.exitcode
        return exit_code

    def exit_code(self) -> int | None:
        # That of *forkserver* comes by a pipe from the server, a little after the end.
        self._process.join(timeout=_EXIT_CODE_S)
        return self.poll()

    def release(self) -> None:
        self._process.join(timeout=0)  # takes it off multiprocessing's own list
        with suppress(ValueError):
            self._process.close()


def launch() -> tuple[Process, Channel]:
    """Start a fresh interpreter as a worker.

    Returns:
        The process, and the driver's end of its socket.

    Raises:
        OSError: When the system starts no more processes.
    """
    ours, theirs = socket.socketpair()
    try:
        descriptor = theirs.fileno()
        code = _BOOTSTRAP.format(path=search_path(), descriptor=descriptor)
        flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        popen = subprocess.Popen(  # noqa: S603 - our own interpreter and code
            [interpreter(), *flags, "-c", code],
            stdin=subprocess.DEVNULL,
            pass_fds=[descriptor],
            cwd=None if working_folder() else "/",
            process_group=0,  # so that what a dead worker leaves behind can be found
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return _Popened(popen), Channel(ours)


def launch_with_context(context: Any, inherited: Iterable[Any]) -> tuple[Process, Channel]:
    """Start a process of a ``multiprocessing`` context as a worker.

    Args:
        context: Where processes come from.
        inherited: What a forked worker has to close.

    Returns:
        The process, and the driver's end of its socket.

    Raises:
        OSError: When the system starts no more processes.
    """
    ours, theirs = socket.socketpair()
    try:
        is_fork = context.get_start_method() == "fork"
        to_close = [*inherited, ours] if is_fork else []
        # Not a daemon: a call may want child processes of its own. Importing
        # `multiprocessing.util` before the pool registers its at-exit function has that one run
        # first, before multiprocessing's waits for all processes that are no daemons.
        process = context.Process(
            target=worker.start_from_socket, args=(theirs, to_close), daemon=False
        )
        process.start()
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return _Multiprocessed(process), Channel(ours)


def require_descriptors(sock: socket.socket) -> None:
    """Refuse to start a worker that would take the last descriptors, which the driver needs.

    Args:
        sock: Any socket.

    Raises:
        OSError: When there are too few.
    """
    with ExitStack() as spare:
        for _ in range(SPARE_DESCRIPTORS):
            spare.enter_context(sock.dup())


def open_sentinel(pid: int) -> int | None:
    """Return a descriptor that is readable once the process has ended, where there is such.

    The end of the socket would not do alone: a child of the worker may hold it open.
    """
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # an old kernel, or the process is gone
        return None
