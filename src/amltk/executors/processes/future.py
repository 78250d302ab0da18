"""The future of a call in a pool of processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from amltk._future import PENDING, RUNNING, LightFuture
from amltk.executors.travel.portable import Wire


@dataclass(frozen=True, slots=True)
class PackedCall:
    """A call on its way to a worker.

    Attributes:
        function: The function, which calls have in common.
        arguments: Its arguments, pickled.
        parts: What these need of the script, if anything.
    """

    function: Wire
    arguments: bytes
    parts: Wire | None = None


#: A call that was sent off or was never to be.
NO_CALL = PackedCall(Wire(b"", b""), b"")


class Ender(Protocol):
    """Who ends the workers of running calls."""

    def ask_to_end(self, future: PoolFuture) -> bool:
        """Ask for the end of the worker that runs a call; tell whether that is possible."""
        ...


class PoolFuture(LightFuture[Any]):
    """The future of a call in a pool of processes; a running call can be cancelled too."""

    #: Whether its worker is being ended.
    _end_asked = False
    #: How many workers have died that had not read it.
    _n_unread = 0
    #: Whether its outcome is decided, so that it is too late to end it.
    _decided = False

    def __init__(self, pool: Ender, name: str, call: PackedCall) -> None:
        self._pool = pool
        self._name = name
        self._packed = call

    def cancel(self) -> bool:
        """Cancel the call; if it is running, end its worker with all its children.

        Returns:
            ``True`` if it is cancelled, or will be as soon as its worker has ended; ``False`` if
            it is done.
        """
        return super().cancel() or self._pool.ask_to_end(self)

    def _back_to_waiting(self) -> bool:
        return self._change((RUNNING,), PENDING)

    def cancel_pending(self) -> bool:
        """Cancel the call only if it has not started.

        Returns:
            ``True`` if it is cancelled and will never run.
        """
        return super().cancel()
