"""What a task needs of a scheduler, and a scheduler of its tasks; so that neither names the other."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from amltk.events import CallbackFailure
    from amltk.executors.registry import Traits
    from amltk.scheduling.future import Audience, Future
    from amltk.scheduling.services import RunAccess, S
    from amltk.scheduling.snapshot import TaskSnapshot


class Enrolled(Protocol):
    """What a scheduler knows of a task."""

    def snapshot(self) -> TaskSnapshot:
        """Return the task's counts, from any thread."""
        ...


class Dispatcher(Protocol):
    """What a task needs of a scheduler."""

    @property
    def gate(self) -> AbstractContextManager[Any]:
        """Held while a call is being submitted, so that plugins decide one call at a time."""
        ...

    def accepts_calls(self) -> bool:
        """Tell whether calls are taken now."""
        ...

    def require_run(self) -> None:
        """Raise if no run is on."""

    def call_refused(self, name: str) -> None:
        """Hear of a call that is not taken any more, since the run is ending."""

    def dispatch(
        self,
        function: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        audience: Audience | None = None,
        told: tuple[tuple[Any, ...], Mapping[str, Any]] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Future[Any] | None:
        """Hand a call to the executor."""

    def post(self, emit: Callable[..., object], *arguments: Any) -> None:
        """Have something emitted in the loop's thread."""

    @property
    def traits(self) -> Traits:
        """What is known of the engine."""
        ...

    def service(self, key: Hashable, make: Callable[[RunAccess], S]) -> S:
        """Return something that lives as long as the run; see ``Scheduler.service``."""
        ...

    def callback_failed(self, failure: CallbackFailure) -> bool:
        """Hear of a callback that raised, and tell whether it has been taken care of."""
        ...

    def enroll(self, task: Enrolled) -> None:
        """Get to know a task."""
