"""What calls several callbacks in a row, and tells which raised."""

import pytest

from amltk.events import Event, EventManager
from amltk.events.caller import caller_of, place_of_failure

SIZES = (0, 1, 2, 31, 32, 33, 100)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("n_arguments", [0, 1, 2])
def test_all_are_called_in_order_with_the_arguments(size, n_arguments):
    seen = []
    calls = [lambda *args, i=i: seen.append((i, args)) for i in range(size)]
    arguments = tuple("ab"[:n_arguments])
    caller_of(calls, n_arguments)(*arguments)
    assert seen == [(i, arguments) for i in range(size)]


@pytest.mark.parametrize("size", SIZES[1:])
def test_the_place_of_the_one_that_raised_is_known(size):
    def fail():
        raise ValueError

    for failing in {0, size // 2, size - 1}:
        calls = [fail if i == failing else int for i in range(size)]
        caller = caller_of(calls, 0)
        with pytest.raises(ValueError) as caught:
            caller()
        assert place_of_failure(caught.value.__traceback__) == failing


def test_the_place_is_right_when_one_callback_listens_twice():
    manager, event, raised = EventManager("m"), Event("e"), []
    turns = iter([None, ValueError("second")])

    def callback():
        error = next(turns)
        if error is not None:
            raise error

    manager.on(event, callback, name="one")
    manager.on(event, callback, name="two")
    manager.on_failure = lambda failure: not raised.append(failure.callback_name)
    manager.emit(event)
    assert raised == ["two"]


def test_the_place_is_right_when_an_emission_is_nested():
    manager, inner, outer, raised = EventManager("m"), Event("i"), Event("o"), []
    manager.on(inner, int, name="i0")
    manager.on(inner, lambda: 1 / 0, name="i1")
    for name, callback in (("o0", int), ("o1", int), ("o2", lambda: manager.emit(inner))):
        manager.on(outer, callback, name=name)
    with pytest.raises(ZeroDivisionError) as info:
        manager.emit(outer)
    assert ['"i1"' in note or '"o2"' in note for note in info.value.__notes__] == [True, True]
    assert raised == []
