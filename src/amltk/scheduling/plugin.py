"""What changes how a task runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

if TYPE_CHECKING:
    from amltk.events import Event
    from amltk.scheduling.task import Task

SelfT = TypeVar("SelfT", bound="TaskPlugin")

#: A call as plugins pass it on: function, positional and keyword arguments.
PlannedCall = tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]


class TaskPlugin:
    """Base class of all plugins; override only what you need.

    A plugin belongs to one task. Plugins see a call in the order in which they were given to the
    task, each what the one before it made of it.
    """

    #: How the plugin is called in messages.
    name: ClassVar[str] = "plugin"

    def attach_task(self, task: Task[..., Any]) -> None:
        """Get to know the task; called once, when the task is made.

        Args:
            task: The task that this plugin now belongs to.
        """

    def pre_submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> PlannedCall | None:
        """Change or refuse a call before it is submitted.

        Called in the thread that submits, with the scheduler's gate held: decide quickly, and
        emit with ``task.emit_soon``.

        Args:
            fn: The function to be called.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            What to call with which arguments, or ``None`` to refuse the call.
        """
        return fn, args, kwargs

    def events(self) -> Iterable[Event[...]]:
        """Tell which events the plugin emits on its task."""
        return ()

    def copy(self) -> Self:
        """Return a plugin with the same settings, for another task."""
        return type(self)()
