"""What becomes of a callback that raises, and of arguments that do not fit."""

import dataclasses

import pytest

from amltk.events import CallbackFailure, Event, EventManager
from amltk.exceptions import CallbackArgumentsError

EVENT: Event[int] = Event("counted")


@pytest.fixture
def manager():
    return EventManager("m")


def fail(*_):
    raise KeyError("gone")


@pytest.mark.parametrize("arguments", [(), (1,), (1, 2), (1, 2, 3)])
def test_an_error_carries_a_note_of_emitter_event_and_callback(manager, arguments):
    manager.on(EVENT, lambda *_: None)
    manager.on(EVENT, fail)
    with pytest.raises(KeyError, match="gone") as info:
        manager.emit(EVENT, *arguments)
    assert info.value.__notes__ == ['raised in callback "fail" of event "counted" of "m"']


@pytest.mark.parametrize("arguments", [(), (1,), (1, 2), (1, 2, 3)])
def test_a_failure_that_is_taken_care_of_lets_the_others_be_called(manager, arguments):
    seen, failures = [], []
    manager.on_failure = lambda failure: not failures.append(failure)
    for name in "ab":
        manager.on(EVENT, fail, name=name)
        manager.on(EVENT, lambda *_, name=name: seen.append(name))
    manager.emit(EVENT, *arguments)
    assert seen == ["a", "b"]
    assert [failure.callback_name for failure in failures] == ["a", "b"]


def test_a_failure_that_is_not_taken_care_of_ends_the_emission(manager):
    seen = []
    manager.on_failure = lambda _: False
    manager.on(EVENT, fail)
    manager.on(EVENT, seen.append)
    with pytest.raises(KeyError):
        manager.emit(EVENT, 1)
    assert seen == []


def test_a_failure_tells_all_there_is_to_know(manager):
    failures = []
    manager.on_failure = lambda failure: not failures.append(failure)
    manager.on(EVENT, fail)
    manager.emit_many({EVENT: ((1,), {})})
    (failure,) = failures
    assert failure == CallbackFailure(EVENT, "fail", fail, failure.error, "m")
    with pytest.raises(dataclasses.FrozenInstanceError):
        failure.event = None


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_errors_that_fly_through_except_exception_are_handled_alike(manager, error):
    def leave():
        raise error

    failures = []
    manager.on(EVENT, leave)
    manager.on_failure = lambda failure: not failures.append(failure.error)
    manager.emit(EVENT, 1)
    assert failures == [error]
    assert "leave" in error.__notes__[0]


@pytest.mark.parametrize("options", [{}, {"repeat": 2}])
@pytest.mark.parametrize("arguments", [(), (1, 2), (1, 2, 3)])
def test_arguments_that_do_not_fit_are_an_error_that_says_so(manager, options, arguments):
    def count(number: int) -> None: ...

    manager.on(EVENT, count, **options)
    with pytest.raises(CallbackArgumentsError, match=r'"count" takes \(number.*"counted"') as info:
        manager.emit(EVENT, *arguments)
    assert f"with ({', '.join(map(repr, arguments))})" in str(info.value)
    assert isinstance(info.value.__cause__, TypeError)
    assert (info.value.event, info.value.callback) == (EVENT, "count")


def test_keyword_arguments_that_do_not_fit_are_shown(manager):
    manager.on(EVENT, lambda number: None, name="count")
    with pytest.raises(CallbackArgumentsError, match="other='x'"):
        manager.emit(EVENT, 1, other="x")


@pytest.mark.parametrize("options", [{}, {"repeat": 2}])
def test_a_type_error_inside_a_callback_stays_as_it_is(manager, options):
    manager.on(EVENT, lambda number: number + "text", **options)
    with pytest.raises(TypeError, match="unsupported operand") as info:
        manager.emit(EVENT, 1)
    assert not isinstance(info.value, CallbackArgumentsError)


def test_a_type_error_of_a_builtin_stays_as_it_is(manager):
    manager.on(EVENT, "".join)
    with pytest.raises(TypeError, match="can only join an iterable") as info:
        manager.emit(EVENT, 1)
    assert not isinstance(info.value, CallbackArgumentsError)


def test_a_mismatch_of_a_nested_emission_names_the_inner_callback(manager):
    inner = Event("inner")
    manager.on(inner, lambda: None, when=None, name="fits")
    manager.on(inner, lambda a, b: None, name="misfit")
    manager.on(EVENT, lambda: manager.emit(inner, 1), name="outer")
    with pytest.raises(CallbackArgumentsError, match='"misfit" takes') as info:
        manager.emit(EVENT, 1)
    assert '"outer"' in info.value.__notes__[1]
    assert info.value.event is inner


def test_a_type_error_below_a_callback_without_parameters_is_no_mismatch(manager):
    inner = Event("inner")
    manager.on(inner, "".join)
    manager.on(EVENT, lambda: manager.emit(inner, 1))
    with pytest.raises(TypeError, match="can only join") as info:
        manager.emit(EVENT, 1)
    assert not isinstance(info.value, CallbackArgumentsError)


def test_a_predicate_that_raises_is_handled_like_its_callback(manager):
    seen, failures = [], []
    manager.on(EVENT, seen.append, name="asked", when=lambda: 1 / 0)
    manager.on(EVENT, seen.append)
    manager.on_failure = lambda failure: not failures.append(failure.callback_name)
    manager.emit(EVENT, 1)
    assert (seen, failures) == ([1], ["asked"])
