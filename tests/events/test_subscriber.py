"""``on_something``: a callback, a decorator, and a door to one event."""

import pytest

from amltk.events import Event, EventManager
from amltk.exceptions import InvalidOptionError, UnknownCallbackError

JOINED: Event[str] = Event("joined")
LEFT: Event[str] = Event("left")


@pytest.fixture
def manager():
    return EventManager("m")


def test_called_with_a_callback_it_registers_and_returns_it(manager):
    seen = []
    callback = seen.append
    assert manager.subscriber(JOINED)(callback) is callback
    manager.emit(JOINED, "ann")
    assert seen == ["ann"]


def test_called_with_options_it_returns_a_decorator(manager):
    seen = []

    @manager.subscriber(JOINED)(repeat=2, name="twice")
    def greet(user):
        seen.append(user)

    manager.subscriber(JOINED).emit("ann")
    assert seen == ["ann", "ann"]
    assert callable(greet)


def test_called_with_a_callback_and_options_it_registers_at_once(manager):
    manager.subscriber(JOINED)(print, name="shown")
    assert manager.remove("shown") == 1


def test_decorators_of_several_subscribers_stack(manager):
    seen = []

    @manager.subscriber(JOINED)(limit=1)
    @manager.subscriber(LEFT)
    def note(user):
        seen.append(user)

    for user in "ab":
        manager.emit(JOINED, user)
        manager.emit(LEFT, user)
    assert seen == ["a", "a", "b"]


def test_one_decorator_serves_several_callbacks_with_counts_of_their_own(manager):
    first, second = [], []
    once = manager.subscriber(JOINED)(limit=1)
    once(first.append)
    once(second.append)
    manager.emit(JOINED, "a")
    manager.emit(JOINED, "b")
    assert (first, second) == (["a"], ["a"])


def test_options_are_checked_before_there_is_a_callback(manager):
    with pytest.raises(InvalidOptionError, match="every=0"):
        manager.subscriber(JOINED)(every=0)


def test_it_removes_from_its_own_event_only(manager):
    manager.on(JOINED, print)
    manager.on(LEFT, print)
    assert manager.subscriber(JOINED).remove(print) == 1
    assert (manager.has(JOINED), manager.has(LEFT)) == (False, True)
    with pytest.raises(UnknownCallbackError, match='does not listen to "joined"'):
        manager.subscriber(JOINED).remove("print")


def test_it_knows_its_event_and_says_so(manager):
    subscriber = manager.subscriber(JOINED)
    assert subscriber.event is JOINED
    assert repr(subscriber) == "Subscriber(Event('joined') of 'm')"
