"""The base class of all that emits."""

import pytest

from amltk.events import Emitter, Event
from amltk.exceptions import UnknownCallbackError

OPENED: Event[str] = Event("opened")


class Door(Emitter):
    def __init__(self, name):
        super().__init__(name)
        self.on_opened = self.subscriber(OPENED)


def test_two_emitters_of_one_event_have_separate_listeners():
    front, back, seen = Door("front"), Door("back"), []
    front.on_opened(seen.append)
    back.emit(OPENED, "back")
    front.emit(OPENED, "front")
    assert seen == ["front"]
    assert (front.event_counts[OPENED], back.event_counts[OPENED]) == (1, 1)


def test_on_returns_the_callback_or_a_decorator():
    door, seen = Door("d"), []

    @door.on(OPENED, limit=1)
    def note(who):
        seen.append(who)

    assert door.on(OPENED, note, name="again") is note
    door.emit(OPENED, "ann")
    assert seen == ["ann", "ann"]


def test_emit_many_and_remove_reach_the_manager():
    door, seen = Door("d"), []
    door.on(OPENED, seen.append)
    door.emit_many({OPENED: (("ann",), {})})
    assert door.remove("append") == 1
    with pytest.raises(UnknownCallbackError, match="append"):
        door.remove("append")
    assert seen == ["ann"]


def test_errors_name_the_emitter():
    door = Door("front")
    door.on_opened(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError) as info:
        door.emit(OPENED, "ann")
    assert 'of "front"' in info.value.__notes__[0]
    assert door.name == "front"
