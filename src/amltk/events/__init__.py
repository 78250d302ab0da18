"""Naming what can happen and calling those who listen; knows nothing of computing."""

from __future__ import annotations

from amltk.events.emitter import Emitter
from amltk.events.event import Event
from amltk.events.failure import CallbackFailure
from amltk.events.manager import EventManager
from amltk.events.subscriber import Subscriber

__all__ = [
    "CallbackFailure",
    "Emitter",
    "Event",
    "EventManager",
    "Subscriber",
]
