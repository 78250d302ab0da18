"""What a manager keeps for one event."""

from __future__ import annotations

from amltk.events.caller import Call, caller_of
from amltk.events.handler import Handler


class _Listeners:
    """Those who listen to one event, and functions that call them all, in their order.

    There is a function for each usual number of arguments, since passing arguments on with a
    star costs half as much again as a call.
    """

    __slots__ = ("call_with_0", "call_with_1", "call_with_2", "handlers")

    def __init__(self, handlers: tuple[Handler, ...]) -> None:
        self.handlers: tuple[Handler, ...] = handlers
        calls = [handler.call for handler in handlers]
        self.call_with_0: Call = caller_of(calls, 0)
        self.call_with_1: Call = caller_of(calls, 1)
        self.call_with_2: Call = caller_of(calls, 2)


_NOBODY = _Listeners(())


class Channel:
    """One event: how often it was emitted and who listens."""

    __slots__ = ("count", "listeners")

    def __init__(self) -> None:
        self.count: int = 0
        self.listeners: _Listeners = _NOBODY

    @property
    def handlers(self) -> tuple[Handler, ...]:
        """Those who listen, in the order of registration."""
        return self.listeners.handlers

    def replace(self, handlers: tuple[Handler, ...]) -> None:
        """Let others listen, from the next emission on."""
        self.listeners = _Listeners(handlers)
