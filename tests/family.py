"""The processes below this one, looked at twice around every test: so it has to be quick."""

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

#: Helpers of the standard library and of loky that live as long as the test process.
SHARED = ("resource_tracker", "forkserver", "loky.backend.resource_tracker")

PROC = Path("/proc")


@dataclass(slots=True, unsafe_hash=True)  # frozen ones take twice as long to make
class Relative:
    """A process below this one; a number that is given out again is another process."""

    pid: int
    born: float
    parent: int = field(compare=False)
    is_zombie: bool = field(compare=False)

    def __repr__(self) -> str:
        return f"<{self.pid}, a child of {self.parent}: {command_of(self.pid) or 'ended'}>"


def children(engines: frozenset[Relative] = frozenset()) -> set[Relative]:
    """Return the processes below this one, but for what engines of the whole session start."""
    by_parent = defaultdict(list)
    for process in everybody() if PROC.is_dir() else below_by_psutil():
        by_parent[process.parent].append(process)
    found: set[Relative] = set()
    for child in by_parent[os.getpid()]:
        if child in engines:
            found.add(child)
        elif not child.is_zombie and not is_shared(child.pid):
            found.update([child, *descendants(child.pid, by_parent)])
    return found


def descendants(pid: int, by_parent: dict[int, list[Relative]]) -> Iterator[Relative]:
    for process in by_parent.get(pid, ()):
        yield process
        yield from descendants(process.pid, by_parent)


def everybody() -> Iterator[Relative]:
    """Read all processes of this machine in one pass, where psutil needs one for each child."""
    for name in os.listdir(PROC):  # noqa: PTH208 - a Path for each would take half of the time
        if name.isdigit():
            with suppress(OSError):  # it has ended
                yield read(name)


def read(name: str) -> Relative:
    """Read one process; its title stands in brackets, and may have any letters."""
    descriptor = os.open(f"/proc/{name}/stat", os.O_RDONLY)
    try:
        fields = os.read(descriptor, 4096).rpartition(b")")[2].split()
    finally:
        os.close(descriptor)
    return Relative(int(name), float(fields[19]), int(fields[1]), fields[0] == b"Z")


def below_by_psutil() -> Iterator[Relative]:
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            is_zombie = process.status() == psutil.STATUS_ZOMBIE
            yield Relative(process.pid, process.create_time(), process.ppid(), is_zombie)


def is_shared(pid: int) -> bool:
    return any(helper in command_of(pid) for helper in SHARED)


def command_of(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""
