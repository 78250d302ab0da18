"""What calls do: each kind is a function of the worker, and what has to become of it.

A call of any kind notes its begin, does what it does, and notes its end if it comes to it.
"""

import ctypes
import dataclasses
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from stress.chaos.ledger import note


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):  # noqa: N818 - what it is
    """Takes no attributes."""

    number: int


class Speechless(Exception):  # noqa: N818 - what it is
    """Cannot say what it is, by an exception that is none."""

    def __str__(self):
        raise SystemExit(9)

    __repr__ = __str__


class Unpicklable(Exception):  # noqa: N818 - what it is
    """Cannot travel."""

    def __reduce__(self):
        raise GeneratorExit


class Explosive:
    """Can travel, and cannot be read."""

    def __reduce__(self):
        return explode, ()


def explode():
    raise pickle.UnpicklingError("no")


class Grudging:
    """Raises when it is collected."""

    def __del__(self):
        raise SystemExit(3)


class Counting:
    """Counts its calls: each call has to see a fresh one."""

    def __init__(self):
        self.n = 0

    def count(self, number):
        self.n += 1
        return number, self.n


def _raise(error):
    raise error


def _fork(end):
    """Fork a child that comes out of the function, in one of the ways there are."""
    if hasattr(os, "fork"):
        pid = os.fork()
        if pid == 0:
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, 2)
            return end()
        os.waitpid(pid, 0)
    return None


def _die(how):
    if how == "segfault":
        ctypes.string_at(0)
    if how == "exit":
        os._exit(5)
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def _print_much():
    for _ in range(2000):
        print("x" * 99)  # noqa: T201 - what is tested
    sys.stdout.flush()


def _close_descriptors():
    os.closerange(3, 200)


def _leave_a_child():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])


def _hold_the_lock(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(300_000))


def _leave_a_thread():
    threading.Thread(target=time.sleep, args=(0.05,)).start()


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of call.

    Attributes:
        do: What it does in the worker, given its number; what it returns is its result.
        outcome: What has to become of it where nobody ends it: ``"returned"``, ``"died"``, or the
            name of the exception's type.
        weight: How often it comes.
        threads: Whether it may run in a thread of the driver.
        result: What is returned, given the number.
    """

    do: Callable[[int], Any]
    outcome: str = "returned"
    weight: int = 2
    threads: bool = True
    result: Callable[[int], Any] = lambda number: number


KINDS = {
    "quick": Kind(lambda n: n, weight=14),
    "slow": Kind(lambda n: time.sleep(0.05 + n % 5 / 20) or n, weight=6),
    "lock": Kind(lambda n: _hold_the_lock(0.2) or n),
    "raises": Kind(lambda n: _raise(ValueError(n)), "ValueError", weight=4),
    "raises frozen": Kind(lambda n: _raise(Frozen(n)), "Frozen"),
    "raises speechless": Kind(lambda _: _raise(Speechless()), "Speechless"),
    "raises unpicklable": Kind(lambda _: _raise(Unpicklable()), "RemoteError", threads=False),
    "raises stop": Kind(lambda n: _raise(StopIteration(n)), "StopIteration"),
    "raises interrupt": Kind(lambda _: _raise(KeyboardInterrupt()), "KeyboardInterrupt"),
    "raises generator exit": Kind(lambda _: _raise(GeneratorExit()), "GeneratorExit"),
    "exits": Kind(lambda n: sys.exit(n), "CallExitError", weight=3),
    "dies by exit": Kind(lambda _: _die("exit"), "died", threads=False),
    "is killed": Kind(lambda _: _die("kill"), "died", weight=3, threads=False),
    "segfault": Kind(lambda _: _die("segfault"), "died", weight=1, threads=False),
    "fork that returns": Kind(lambda n: _fork(lambda: "child") or n, threads=False),
    "fork that raises": Kind(lambda n: _fork(lambda: _raise(KeyError(n))) or n, threads=False),
    "fork that exits": Kind(lambda n: _fork(lambda: sys.exit(7)) or n, threads=False),
    "prints": Kind(lambda n: _print_much() or n),
    "large result": Kind(
        lambda n: bytes(3_000_000) + bytes([n % 256]),
        weight=3,
        result=lambda n: bytes(3_000_000) + bytes([n % 256]),
    ),
    "unpicklable result": Kind(lambda _: threading.Lock(), "ResultPicklingError", threads=False),
    "unreadable result": Kind(lambda _: Explosive(), "ResultUnpicklingError", threads=False),
    "grudging result": Kind(lambda n: (Grudging(), n)[1]),
    "leaves a child": Kind(lambda n: _leave_a_child() or n, threads=False),
    "leaves a thread": Kind(lambda n: _leave_a_thread() or n),
}

#: Kinds that other calls of the same worker may not survive, or that end it in ways of their own.
DESCRIPTORS = Kind(lambda n: _close_descriptors() or n, "died", weight=1, threads=False)


def run(folder, kind, number, argument=None):
    """Do what a kind does, between two notes."""
    del argument
    note(folder, "begin", number)
    pid = os.getpid()
    result = KINDS[kind].do(number)
    if os.getpid() == pid:
        note(folder, "end", number)
    return result
