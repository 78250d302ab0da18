"""A Dask cluster in a process of its own beside the driver's, for as long as the driver wants it.

::

    driver ── what to open, options ─────▶ stdin │ this process: Dask's scheduler, and whoever
    driver ◀── address, or what went wrong pipe  │ starts workers, by processes or by jobs
    user ◀──── what calls print ────────── stdout │

A cluster is not opened inside the driver, for three reasons. Dask starts worker processes by
importing the driver's main module again, so that scripts without ``if __name__ == "__main__":``
would start themselves over and over. Dask's scheduler would share the driver's interpreter lock.
And when the driver is gone, however that came, the pipe closes, and this process still can end the
workers and cancel the jobs. It has a session of its own, so that Ctrl-C is the driver's affair.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from typing import Any

import psutil

from amltk._contexts import context
from amltk.exceptions import ExecutorError
from amltk.executors.termination import end_processes
from amltk.executors.travel.envelope import dumps, traceback_text
from amltk.executors.travel.surroundings import interpreter, search_path, working_folder

#: How long a cluster may take to start, and to end.
START_S = 60.0
END_S = 30.0

#: Seconds between TERM and KILL for one that does not end.
_GRACE_S = 2.0

#: The same for what calls have left behind when the cluster ends.
_CHILD_GRACE_S = 0.5

#: Run by the interpreter of a cluster. It gets the driver's search path first, so that it finds amltk
#: where the driver found it; and it has no main module that workers would import.
_BOOTSTRAP = (
    "import sys; sys.path[:] = {path!r}; from amltk.executors.dask.cluster import main; "
    "main({answers})"
)

#: Opens a cluster for as long as it lasts, and gives its address.
Opener = Callable[[Mapping[str, Any]], AbstractContextManager[str]]


# ------------------------------------------------------------------------------- in the driver


class ClusterProcess:
    """A cluster in a process of its own, as the driver sees it.

    Args:
        opener: A function of a module that opens the cluster there.
        options: Its argument.

    Raises:
        ExecutorError: When the cluster could not be opened; the message says what went wrong there.
    """

    def __init__(self, opener: Opener, options: Mapping[str, Any]) -> None:
        environment = dict(os.environ)
        folder = working_folder()
        if folder is not None:
            environment["PWD"] = folder  # OAR's commands go by it
        # A pipe of its own: what calls print goes to where the driver prints.
        answers, theirs = os.pipe()
        self._answers = os.fdopen(answers, "rb")
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
                [interpreter(), "-c", _BOOTSTRAP.format(path=search_path(), answers=theirs)],
                stdin=subprocess.PIPE,
                pass_fds=[theirs],
                env=environment,
                start_new_session=True,
            )
        except BaseException:
            self._answers.close()
            raise
        finally:
            os.close(theirs)
        try:
            #: Where its scheduler is.
            self.address: str = self._open(opener, options)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def close(self) -> None:
        """Have the cluster end; kill it where it does not."""
        for pipe in (self._process.stdin, self._answers):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            end_processes([self._process.pid], _GRACE_S)
            self._process.wait(_GRACE_S)

    def _open(self, opener: Opener, options: Mapping[str, Any]) -> str:
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 - a pipe was asked for
        with suppress(BrokenPipeError):  # what went wrong is read below
            stdin.write(dumps((opener, options)))
            stdin.flush()
        late = threading.Timer(START_S, self._process.kill)
        late.start()
        try:
            is_open, what = pickle.load(self._answers)
        except EOFError:
            is_open, what = False, f"its process ended with exit code {self._process.wait()}"
        finally:
            late.cancel()
        if not is_open:
            message = f"a Dask cluster could not be opened with {dict(options)!r}: {what}"
            raise ExecutorError(message)
        return str(what)


# ------------------------------------------------------------------------ in the other process

_SETTINGS = {
    # A worker gets a call when it is free for it, and no other ahead.
    "distributed.scheduler.worker-saturation": 1.0,
    # So long after each end of a worker, Dask looks whether it is back, and gives it up for ever if
    # at that moment it is not, were it only for having died again.
    "distributed.deploy.lost-worker-timeout": "1000 days",
}


@context
def on_this_machine(options: Mapping[str, Any]) -> Iterator[str]:
    """Open a cluster of worker processes of this machine.

    Args:
        options: Of ``distributed.LocalCluster``.

    Yields:
        Where its scheduler is.
    """
    from distributed import LocalCluster

    cluster: Any = LocalCluster(**options)  # type: ignore[no-untyped-call] # Dask's
    with cluster:
        try:
            yield cluster.scheduler_address
        finally:
            _end_children_of_workers()


def _end_children_of_workers() -> None:
    """End what calls have started and left behind; Dask ends its workers and nothing else."""
    workers = psutil.Process().children()
    left = [child.pid for worker in workers for child in _children_of(worker)]
    end_processes(left, _CHILD_GRACE_S)


def _children_of(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:  # it has ended
        return []


def main(answers: int) -> None:
    """Open what the driver asks for, and keep it until the driver closes the pipe.

    Args:
        answers: The descriptor for the answer.
    """
    os.set_inheritable(answers, False)
    import dask.config
    import distributed  # noqa: F401 - its defaults are read when it is imported

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        opener, options = pickle.load(sys.stdin.buffer)
        dask.config.set(_SETTINGS)
        cluster = opener(options)
        address = cluster.__enter__()
    except BaseException as error:
        _tell(answers, False, traceback_text(error))
        raise SystemExit(1) from None
    try:
        _tell(answers, True, address)
        sys.stdin.buffer.read()
    finally:
        cluster.__exit__(None, None, None)


def _tell(answers: int, is_open: bool, what: str) -> None:  # noqa: FBT001 - the first part of the answer
    with os.fdopen(answers, "wb") as pipe:
        pipe.write(pickle.dumps((is_open, what)))
