"""The plugins of one task: in which order they are asked, and about what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from amltk._errors import add_note
from amltk.scheduling.plugin import PlannedCall, TaskPlugin


class Lineup:
    """The plugins of one task, inner layers first, each layer in the order given.

    Args:
        plugins: The plugins, in the order given.
        owner: How the task is called in messages.
    """

    __slots__ = ("_layered", "_owner", "holding", "retrying", "told_first", "told_last")

    def __init__(self, plugins: Iterable[TaskPlugin], owner: str) -> None:
        self._owner = owner
        self._layered = sorted(plugins, key=_layer_of)
        #: Those that are told that a call has a future.
        self.told_first: tuple[TaskPlugin, ...] = self._overriding("submitted")
        #: Those that are told that a call is over.
        self.told_last: tuple[TaskPlugin, ...] = self._overriding("ended")
        #: Those that may hold an outcome back.
        self.holding: tuple[TaskPlugin, ...] = self._overriding("hold")
        #: Those that may have a call tried again.
        self.retrying: tuple[TaskPlugin, ...] = self._overriding("retry")

    def plan(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> PlannedCall | None:
        """Return what the plugins make of a call, or ``None`` if one refuses it."""
        for plugin in self._layered:
            planned = self.ask(plugin, "pre_submit", function, *args, **kwargs)
            if planned is None:
                return None
            function, args, kwargs = planned
        return function, args, kwargs

    def ask(self, plugin: TaskPlugin, hook: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a hook of a plugin; what it raises says whose it was."""
        try:
            return getattr(plugin, hook)(*args, **kwargs)
        except BaseException as error:
            add_note(error, f'raised by {hook} of plugin "{plugin.name}" of {self._owner!r}')
            raise

    def _overriding(self, hook: str) -> tuple[TaskPlugin, ...]:
        """Return the plugins that override a hook: one that nobody does costs nothing."""
        inherited = getattr(TaskPlugin, hook)
        return tuple(p for p in self._layered if getattr(type(p), hook) is not inherited)


def _layer_of(plugin: TaskPlugin) -> int:
    return plugin.layer
