"""What lives as long as a run and is shared by all plugins that need it, such as a server.

::

    plugin ── scheduler.service(make) ──▶ Services ── first time: make(RunAccess) ──▶ the service
    the run ends ──▶ Services.close ──▶ close() of each, in the loop's thread, last made first
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar


class Service(Protocol):
    """Something that is closed when the run ends."""

    def close(self) -> None:
        """End it; in the loop's thread. What is still waited for has to be released here."""


S = TypeVar("S", bound=Service)


@dataclass(frozen=True, slots=True)
class RunAccess:
    """What a service may use of its run."""

    #: The loop of the run.
    loop: asyncio.AbstractEventLoop
    #: The id of the loop's thread, in which all callbacks run.
    thread_id: int
    #: Has something done in the loop's thread with two arguments, after what is waiting there;
    #: from any thread.
    post: Callable[[Callable[[Any, Any], object], Any, Any], None]
    #: The same, at once if nothing is waiting; in the loop's thread, outside of callbacks.
    post_here: Callable[[Callable[[Any, Any], object], Any, Any], None]

    def in_loop(self) -> bool:
        """Tell whether this is the loop's thread."""
        return threading.get_ident() == self.thread_id


class Services:
    """The services of one run.

    Args:
        access: What they may use of the run.
    """

    def __init__(self, access: RunAccess) -> None:
        self._access = access
        self._made: dict[Hashable, Any] = {}

    def __len__(self) -> int:
        """Return how many were made."""
        return len(self._made)

    def get(self, key: Hashable, make: Callable[[RunAccess], S]) -> S:
        """Return the service of a key, made when it is first asked for; with the gate held."""
        if key not in self._made:
            self._made[key] = make(self._access)
        service: S = self._made[key]
        return service

    def close(self) -> None:
        """Close all, the last one first.

        Raises:
            ExceptionGroup: What closing them raised; each was closed.
        """
        errors: list[Exception] = []
        while self._made:
            _, service = self._made.popitem()
            try:
                service.close()
            except Exception as error:  # raised below, when all are closed
                errors.append(error)
        if errors:
            message = "services of the run could not be closed"
            raise ExceptionGroup(message, errors)
