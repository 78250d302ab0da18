"""Who listens to what, and in which order they are called."""

import enum
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amltk._sentinels import UNSET
from amltk.events import Event, EventManager
from amltk.exceptions import InvalidOptionError, UnknownCallbackError

A: Event[int] = Event("a")
B: Event[int] = Event("b")


class Kind(enum.Enum):
    ONE = 1


@pytest.fixture
def manager():
    return EventManager("m")


@pytest.mark.parametrize("event", [A, "text", 3, 2.5, None, (1, "x"), Kind.ONE, frozenset(), int])
def test_anything_hashable_is_an_event(manager, event):
    seen = []
    manager.on(event, seen.append)
    manager.emit(event, "value")
    assert seen == ["value"]


def test_what_cannot_be_hashed_is_no_event(manager):
    with pytest.raises(TypeError, match="unhashable"):
        manager.on([], print)


@pytest.mark.parametrize("value", [None, UNSET, (), 0])
def test_any_value_is_passed_on(manager, value):
    seen = []
    manager.on(A, lambda *args, **kwargs: seen.append((args, kwargs)))
    manager.emit(A, value)
    manager.emit(A, value, value)
    manager.emit(A, 1, 2, value)
    manager.emit(A, key=value)
    manager.emit(A, value, key=value)
    args = ((value,), (value, value), (1, 2, value), (), (value,))
    assert [each[0] for each in seen] == list(args)
    assert [each[1] for each in seen] == [{}, {}, {}, {"key": value}, {"key": value}]


@pytest.mark.parametrize("name", ["self", "event", "first", "second", "rest"])
def test_keyword_arguments_of_any_name_are_passed_on(manager, name):
    seen = []
    manager.on(A, lambda **kwargs: seen.append(kwargs))
    manager.emit(A, **{name: 1})
    assert seen == [{name: 1}]


def test_what_a_callback_registers_counts_from_the_next_emission_on(manager):
    seen = []

    def register():
        seen.append("first")
        manager.on(A, lambda: seen.append("added"))

    manager.on(A, register, limit=1)
    manager.emit(A, 1)
    assert seen == ["first"]
    manager.emit(A, 1)
    assert seen == ["first", "added"]


def test_what_a_callback_removes_counts_from_the_next_emission_on(manager):
    seen = []
    manager.on(A, lambda: manager.remove("later"), limit=1)
    manager.on(A, seen.append, name="later")
    manager.emit(A, 1)
    manager.emit(A, 2)
    assert seen == [1]


def test_a_failure_is_named_rightly_after_the_listeners_changed(manager):
    def change():
        manager.remove("change", A)
        manager.on(A, print)

    manager.on(A, change)
    manager.on(A, lambda: 1 / 0, name="divides")
    with pytest.raises(ZeroDivisionError) as info:
        manager.emit(A, 1)
    assert '"divides"' in info.value.__notes__[0]


def test_counts_are_zero_for_what_was_never_emitted_and_nothing_is_inserted(manager):
    manager.emit(A, 1)
    counts = manager.event_counts
    assert isinstance(counts, dict)
    assert (counts[A], counts[B]) == (1, 0)
    assert list(counts) == [A]
    assert manager.events == [A]


def test_an_emission_nobody_listens_to_is_counted(manager):
    for _ in range(3):
        manager.emit("silent", 1, 2, 3, key=4)
    assert manager.event_counts["silent"] == 3


def test_an_emission_that_fails_is_counted(manager):
    manager.on(A, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        manager.emit(A, 1)
    assert manager.event_counts[A] == 1


def test_callbacks_of_the_same_default_name_are_both_kept(manager):
    seen = []
    for number in (1, 2):
        manager.on(A, lambda number=number: seen.append(number))
    assert manager.remove("<lambda>") == 2
    assert not manager.has(A)


def test_a_name_given_twice_for_one_event_is_an_error(manager):
    manager.on(A, print, name="mine")
    manager.on(B, print, name="mine")
    with pytest.raises(InvalidOptionError, match='"mine" listens to "a" of "m" already'):
        manager.on(A, repr, name="mine")
    assert manager.remove("mine") == 2


def test_removing_what_is_not_there_names_what_is(manager):
    manager.on(A, repr)
    with pytest.raises(UnknownCallbackError, match="these do: repr"):
        manager.remove("rpr")
    with pytest.raises(UnknownCallbackError, match='does not listen to "b"; these do: none'):
        manager.remove("repr", B)
    assert manager.events == [A]


def test_a_bound_method_is_removed_by_an_equal_one(manager):
    class Listener:
        def hear(self, value): ...

    listener = Listener()
    manager.on(A, listener.hear)
    with pytest.raises(UnknownCallbackError):
        manager.remove(Listener().hear)
    assert manager.remove(listener.hear, A) == 1


def test_emit_many_calls_in_the_order_of_registration_over_all_events(manager):
    seen = []
    for event in (A, B, B, A):
        manager.on(event, lambda value: seen.append(value))
    manager.emit_many({B: (("b",), {}), A: (("a",), {}), "silent": ((), {})})
    assert seen == ["a", "b", "b", "a"]
    assert manager.event_counts == {A: 1, B: 1, "silent": 1}


def test_the_manager_shows_its_name(manager):
    assert repr(manager) == "EventManager('m')"


def test_errors_survive_pickling(manager):
    with pytest.raises(InvalidOptionError) as info:
        manager.on(A, print, repeat=0)
    copy = pickle.loads(pickle.dumps(info.value))
    assert (str(copy), copy.option, copy.value) == (str(info.value), "repeat", 0)


actions = st.lists(
    st.tuples(st.sampled_from(["on", "remove", "emit", "emit_many"]), st.sampled_from("ab")),
    max_size=60,
)


@given(actions)
def test_order_follows_the_model(steps):
    """The model is one list of (event, number) in the order of registration."""
    manager, model, seen, expected = EventManager("m"), [], [], []
    for number, (what, event) in enumerate(steps):
        mine = [entry for entry in model if entry[0] == event]
        if what == "on":
            manager.on(event, lambda _, n=number: seen.append(n), name=str(number))
            model.append((event, number))
        elif what == "remove" and mine:
            manager.remove(str(mine[0][1]), event)
            model.remove(mine[0])
        elif what == "emit":
            manager.emit(event, None)
            expected += [n for _, n in mine]
        elif what == "emit_many":
            manager.emit_many({e: ((None,), {}) for e in "ba"})
            expected += [n for _, n in model]
    assert seen == expected
