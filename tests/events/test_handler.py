"""Options of a callback, what may be a callback, and what it is called."""

import functools
import unittest.mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amltk.events import Event, EventManager
from amltk.exceptions import InvalidCallbackError, InvalidOptionError

EVENT: Event[int] = Event("e")


@pytest.fixture
def manager():
    return EventManager("m")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("repeat", 0),
        ("repeat", -1),
        ("repeat", True),
        ("repeat", 1.0),
        ("every", 0),
        ("every", True),
        ("every", "2"),
        ("limit", -1),
        ("limit", False),
        ("name", ""),
        ("name", 3),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_at_registration(manager, option, value):
    with pytest.raises(InvalidOptionError, match=f"{option}=.* is not possible") as info:
        manager.on(EVENT, print, **{option: value})
    assert (info.value.option, info.value.value) == (option, value)
    assert not manager.has(EVENT)


async def coroutine(): ...
async def generator():
    yield


class AsyncCallable:
    async def __call__(self): ...
    async def method(self): ...


@pytest.mark.parametrize(
    "callback",
    [
        coroutine,
        generator,
        functools.partial(functools.partial(coroutine)),
        AsyncCallable(),
        AsyncCallable().method,
        functools.partial(AsyncCallable()),
        unittest.mock.AsyncMock(),
    ],
)
def test_a_coroutine_function_is_refused_with_advice(manager, callback):
    with pytest.raises(InvalidCallbackError, match=r"asyncio\.create_task"):
        manager.on(EVENT, callback)


@pytest.mark.parametrize("callback", [None, 3, "text", object()])
def test_what_cannot_be_called_is_refused(manager, callback):
    with pytest.raises(InvalidCallbackError, match="cannot be called"):
        manager.on(EVENT, callback)


@pytest.mark.parametrize(
    ("when", "match"),
    [(3, "cannot be called"), (coroutine, "coroutine"), (lambda x: x, "without arguments")],
)
def test_a_predicate_that_cannot_be_asked_is_refused(manager, when, match):
    with pytest.raises(InvalidCallbackError, match=match):
        manager.on(EVENT, print, when=when)


class Listener:
    def __init__(self, seen=None):
        self.seen = [] if seen is None else seen

    def method(self, value):
        self.seen.append(value)

    def nothing(self):
        self.seen.append("called")

    def __call__(self, value):
        self.seen.append(value)


@pytest.mark.parametrize(
    ("make", "name", "heard"),
    [
        (lambda x: x.method, "method", [7]),
        (lambda x: x.nothing, "nothing", ["called"]),
        (lambda x: x, "Listener", [7]),
        (lambda x: functools.partial(x.method, 8), "method", None),
        (lambda x: functools.partial(x.method, value=8), "method", None),
        (lambda x: functools.partial(Listener.method, x), "method", [7]),
        (lambda x: x.seen.append, "append", [7]),
        (lambda x: lambda: x.seen.append(9), "<lambda>", [9]),
    ],
)
def test_any_callable_listens_under_its_own_name(manager, make, name, heard):
    listener = Listener()
    assert manager.on(EVENT, make(listener)) == name
    if heard is not None:
        manager.emit(EVENT, 7)
        assert listener.seen == heard


@pytest.mark.parametrize("callback", [dict, int, Listener])
def test_a_class_may_listen(manager, callback):
    assert manager.on(EVENT, callback) == callback.__name__


def test_a_callback_without_parameters_hears_of_events_with_arguments(manager):
    seen = []
    manager.on(EVENT, lambda: seen.append("called"))
    manager.emit(EVENT, 1, 2, 3, key="value")
    assert seen == ["called"]


def called_at(n_emissions, **options):
    """At which emissions, counted from 1, a callback is called."""
    manager, seen = EventManager("m"), []
    manager.on(EVENT, seen.append, **options)
    for number in range(1, n_emissions + 1):
        manager.emit(EVENT, number)
    return seen


def test_every_waits_for_its_turn():
    assert called_at(7, every=3) == [3, 6]


def test_repeat_calls_in_a_row():
    assert called_at(2, repeat=3) == [1, 1, 1, 2, 2, 2]


def test_limit_counts_calls_and_not_emissions():
    assert called_at(5, limit=3, repeat=2) == [1, 1, 2]


def test_limit_zero_never_calls():
    assert called_at(3, limit=0) == []


def test_emissions_that_when_refuses_count_for_every():
    answers = iter([True, False, True, False, True, True])
    assert called_at(6, every=2, when=lambda: next(answers)) == [6]


def test_when_is_asked_at_each_emission():
    asked = []
    called_at(4, every=2, when=lambda: asked.append(1))
    assert len(asked) == 4


def test_a_call_that_raises_counts_for_limit(manager):
    calls = []

    def fail():
        calls.append(1)
        raise ValueError

    manager.on(EVENT, fail, limit=2)
    manager.on_failure = lambda _: True
    for _ in range(4):
        manager.emit(EVENT, 0)
    assert len(calls) == 2


def test_limit_holds_when_a_callback_emits_its_own_event(manager):
    calls = []

    def again():
        calls.append(1)
        manager.emit(EVENT, 0)

    manager.on(EVENT, again, limit=5)
    manager.emit(EVENT, 0)
    assert len(calls) == 5


@given(
    answers=st.lists(st.booleans(), max_size=20),
    limit=st.none() | st.integers(0, 8),
    repeat=st.integers(1, 4),
    every=st.integers(1, 4),
)
def test_options_follow_the_model(answers, limit, repeat, every):
    expected = []
    for number, agrees in enumerate(answers, 1):
        if agrees and number % every == 0:
            expected += [number] * repeat
    asked = iter(answers)
    options = {"limit": limit, "repeat": repeat, "every": every, "when": lambda: next(asked)}
    assert called_at(len(answers), **options) == expected[:limit]
