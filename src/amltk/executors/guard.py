"""A small process that ends workers whose driver was killed.

::

    driver ── "+1234" a worker has started, "-1234" it has ended ──▶ guard
      ╎
      └╌╌ the pipe's end ╌╌▶ guard: waits a moment, then ends the workers that are left

Workers see for themselves that their driver is gone, or do not, as those of pools of others. But one in
a call that holds on to the interpreter's lock can do nothing about it, and nobody else is left to end it.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

#: How long workers have to end by themselves.
GRACE_S = 2.0

#: How often it is looked whether the driver lives, in case that somebody else holds the pipe open.
_LOOK_S = 1.0

#: How long the guard may take to end once nothing is left to guard.
_END_S = 5.0


class Guard:
    """The guard of one pool, started with the first worker."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1
        self._is_closed = False
        self._guarded: set[int] = set()

    def close_in_child(self) -> None:
        """Let go of the pipe in a forked worker, which would keep it open."""
        if self._pipe >= 0:
            with suppress(OSError):
                os.close(self._pipe)
            self._pipe = -1

    # As those that a forked worker closes: see `launch_with_context`.
    close = close_in_child

    def add(self, pids: Iterable[int]) -> None:
        """Guard workers; where that cannot be done, they are on their own."""
        if os.name != "posix":
            return
        with self._lock:
            new = set(pids) - self._guarded
            if not new or self._is_closed:
                return
            self._guarded |= new
            with suppress(OSError, RuntimeError):  # no process can be started
                self._start()
            self._say(f"+{pid}\n" for pid in new)

    def remove(self, pids: Iterable[int]) -> None:
        """Guard workers no more that have ended, whose numbers may be given to others."""
        with self._lock:
            gone = self._guarded.intersection(pids)
            self._guarded -= gone
            self._say(f"-{pid}\n" for pid in gone)

    def end(self) -> None:
        """Have the guard leave, and wait for it."""
        with self._lock:
            self._is_closed = True
            self._say(f"-{pid}\n" for pid in self._guarded)
            self._guarded.clear()
            process, self._process = self._process, None
            self.close_in_child()
        if process is not None:
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self) -> None:
        if self._process is not None:
            return
        # Not for the guard itself, which runs this file and finds nothing of amltk.
        from amltk.executors.travel.surroundings import interpreter

        theirs, ours = os.pipe()
        try:
            path = [part for part in sys.path if isinstance(part, str)]
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
                # Without the site's packages, which takes a third of the time.
                [interpreter(), "-E", "-P", "-S", __file__, str(theirs), *path],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs],
                start_new_session=True,  # what ends the driver's whole group leaves it alone
                cwd="/",
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._pipe = ours

    def _say(self, lines: Iterable[str]) -> None:
        if self._pipe >= 0:
            with suppress(OSError):  # it has died
                os.write(self._pipe, "".join(lines).encode())


def main(pipe: int, path: list[str]) -> None:
    """Guard until the driver is gone or lets go.

    Args:
        pipe: Where the driver tells whom.
        path: Where the driver finds its packages.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.set_inheritable(pipe, False)
    workers = _listen(pipe)
    if workers:
        time.sleep(GRACE_S)
        sys.path[:] = path
        for pid, started in workers.items():
            if _started(pid) == started:
                _kill(pid)


def _listen(pipe: int) -> dict[int, bytes]:
    """Hear who is to be guarded, until the driver is gone; return who is left."""
    driver, rest = os.getppid(), b""
    workers: dict[int, bytes] = {}
    while os.getppid() == driver:
        if not select.select([pipe], [], [], _LOOK_S)[0]:
            continue
        data = os.read(pipe, 1 << 16)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            pid = int(line[1:])
            if line.startswith(b"+"):
                workers[pid] = _started(pid)
            else:
                workers.pop(pid, None)
    return workers


def _started(pid: int) -> bytes:
    """Return when a process was started, where the system says it in a file."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return b""
    return stat.rpartition(b")")[2].split()[19]


def _kill(pid: int) -> None:
    """Kill a worker with all that it has started."""
    children = _children_of(pid)
    with suppress(OSError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
    for one in [pid, *children]:
        with suppress(OSError):
            os.kill(one, signal.SIGKILL)


def _children_of(pid: int) -> list[int]:
    try:
        import psutil

        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except Exception:  # its group is ended all the same
        return []


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
