"""What the process of a limited call does: set its limits, call the function, tell the outcome."""

from __future__ import annotations

import copyreg
import os
import pickle
import resource
import signal
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from amltk.executors.travel.carried import parts_of
from amltk.executors.travel.envelope import (
    call,
    pack_exception,
    pack_unreadable,
    run_to_bytes,
    unpack_call,
)
from amltk.plugins._pynisher.library import load

#: The call's resident memory when it starts; after it, a length and so many bytes.
SIZE = struct.Struct("!Q")

#: So much later pynisher has the system kill what ignores its limit of CPU time, in seconds.
_CPU_GRACE_S = 5

#: A job: what the process of a call does, given the descriptor for its outcome.
Job = Callable[[int], object]


class PackedJob:
    """A job that came as bytes, with what the worker's program looks like."""

    def __init__(self, payload: bytearray) -> None:
        self._payload = payload

    def __call__(self, results: int) -> None:
        (path, argv, environment, folder), target = pickle.loads(self._payload)
        self._payload.clear()
        sys.path[:], sys.argv = path, argv
        os.environ.clear()
        os.environ.update(environment)
        with suppress(OSError):
            os.chdir(folder)
        load()  # before pickle does
        LimitedJob(pickle.loads(target))(results)


def pack_job(target: Callable[[], object]) -> bytes:
    """Turn a job into bytes for a keeper.

    Args:
        target: The bound method of pynisher's limiter.
    """
    try:
        folder = Path.cwd()
    except OSError:  # it has been removed
        folder = Path("/")
    path = [part for part in sys.path if isinstance(part, str)]
    program = path, sys.argv, dict(os.environ), folder
    return pickle.dumps((program, pickle.dumps(target)), protocol=pickle.HIGHEST_PROTOCOL)


class LimitedJob:
    """What the process of a call does: have pynisher limit the process and call the function.

    Args:
        target: The bound method of pynisher's limiter.
    """

    def __init__(self, target: Callable[[], object]) -> None:
        self._target = target

    def __call__(self, results: int) -> None:
        """Do it.

        Args:
            results: The descriptor for the outcome.
        """
        limiter: Any = self._target.__self__  # type: ignore[attr-defined] # a bound method
        sender = limiter.output = Sender(results)
        limiter.func.load()
        memory = psutil.Process().memory_info()
        # Limits are meant for the call, so what this process has and has used does not count.
        if limiter.memory is not None:
            limiter.memory = _within(resource.RLIMIT_AS, limiter.memory + memory.vms, 0)
        if limiter.cpu_time is not None:
            cpu_time_s = limiter.cpu_time + round(time.process_time())
            limiter.cpu_time = _within(resource.RLIMIT_CPU, cpu_time_s, _CPU_GRACE_S)
        sender.write(SIZE.pack(memory.rss))
        self._target()


def _within(kind: int, limit: int, beyond: int) -> int:
    """Return a limit that may be set: somebody else may have set a harder one."""
    _, hard = resource.getrlimit(kind)
    return limit if hard == resource.RLIM_INFINITY else max(1, min(limit, hard - beyond))


class Sender:
    """The sending end of the pipe that pynisher asks for.

    Args:
        descriptor: Where to write; only the process of the call has one.
    """

    def __init__(self, descriptor: int = -1) -> None:
        self._descriptor = descriptor

    def send(self, response: object) -> None:
        """Send what pynisher has to say of the call."""
        payload = pickle.dumps(response, protocol=pickle.HIGHEST_PROTOCOL)
        self.write(SIZE.pack(len(payload)))
        self.write(payload)

    def write(self, data: bytes) -> None:
        """Write bytes, all of them."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def close(self) -> None:
        """Close this end, if it is not closed."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class LimitedFunction:
    """The function that pynisher calls in the process of the call; it returns a packed outcome.

    Args:
        name: How the function is called in messages.
        call: The function and its arguments, or these as bytes.
        address_space: How much address space the call may add, in bytes.
    """

    def __init__(
        self,
        name: str,
        call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] | bytes,
        address_space: int | None,
    ) -> None:
        self.__qualname__ = name
        self._call = call
        self._address_space = address_space
        self._unreadable: bytes | None = None

    def load(self) -> None:
        """Load the function and its arguments; what fails is told as the call's outcome."""
        if not isinstance(self._call, bytes):
            return
        try:
            self._call = unpack_call(self._call)
        except BaseException as error:
            self._unreadable = pack_unreadable(error)

    def __call__(self) -> bytes:
        """Call the function and pack what becomes of it, for ``unpack_outcome``."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # pynisher's handler would not end anything
        if self._unreadable is not None:
            return self._unreadable
        assert not isinstance(self._call, bytes)  # noqa: S101 - it has been loaded
        function, args, kwargs = self._call
        try:
            result = call(function, args, kwargs, self.__qualname__)
        except BaseException as error:
            return self._pack_exception(error)
        self._lift()
        return self._pack_result(result)

    def _lift(self) -> None:
        """Lift the limit of memory: packing the outcome is not the function's doing."""
        if self._address_space is not None:
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))

    def _pack_exception(self, error: BaseException) -> bytes:
        self._lift()
        if self._address_space is not None and isinstance(error, MemoryError):
            error = _memory_exceeded(self.__qualname__, self._address_space, error)
        return pack_exception(error)

    def _pack_result(self, result: object) -> bytes:
        def give() -> object:
            return result

        give.__qualname__ = self.__qualname__  # named if the result cannot be pickled
        return run_to_bytes(give, (), {})


def _memory_exceeded(name: str, limit: int, error: MemoryError) -> BaseException:
    from pynisher.exceptions import MemoryLimitException

    message = (
        f"{name} asked for more than the {limit} bytes of address space that its memory limit "
        f"lets it add to what its process started with"
    )
    failure: BaseException = MemoryLimitException(message)
    failure.__cause__ = error
    let_travel(failure)
    return failure


def let_travel(error: BaseException) -> None:
    """Have pickle carry an exception of pynisher's by its arguments, whatever it was told before.

    Dask has tblib teach pickle another way for all exceptions, by which a ``MemoryLimitException``,
    which is of two builtin kinds, cannot be read.
    """
    copyreg.pickle(type(error), parts_of)
