import dataclasses
import functools
import pickle
import sys
import threading

import cloudpickle
import pytest
import support

from amltk.exceptions import (
    CallExitError,
    CallPicklingError,
    CallUnpicklingError,
    RemoteError,
    RemoteTraceback,
    ResultPicklingError,
    ResultUnpicklingError,
)
from amltk.executors.travel.envelope import (
    PortableFunction,
    dumps,
    name_of,
    pack_call,
    run_packed,
    unpack_outcome,
)


def travel(function, *args, **kwargs):
    return unpack_outcome(run_packed(pack_call(function, args, kwargs)))


class Speechless(Exception):  # noqa: N818 - cannot even say its name
    def __str__(self):
        raise RuntimeError


def raise_speechless():
    raise Speechless


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):  # noqa: N818 - what it is
    number: int


def raise_frozen():
    raise Frozen(3)


class UnreadableError(Exception):
    def __reduce__(self):
        return support.Unreadable().__reduce__()


def raise_unreadable():
    raise UnreadableError(1, 2)


class TestCalls:
    def test_a_result_comes_back(self):
        assert travel(support.add, 1, y=5) == (True, 6)

    @pytest.mark.parametrize("portable", [False, True])
    def test_closures_travel(self, portable):
        offset = 40
        function = lambda x: x + offset  # noqa: E731 - what is sent
        assert travel(PortableFunction(function) if portable else function, 2) == (True, 42)

    def test_an_exception_comes_back_with_its_traceback_as_cause(self):
        returned, error = travel(support.fail, "broken")
        assert not returned
        assert (type(error), str(error)) == (ValueError, "broken")
        assert isinstance(error.__cause__, RemoteTraceback)
        assert "in fail" in str(error.__cause__)

    @pytest.mark.parametrize(
        ("function", "kind"),
        [
            (support.raise_system_exit, CallExitError),
            (support.raise_keyboard_interrupt, KeyboardInterrupt),
        ],
    )
    def test_what_would_end_a_program_comes_back(self, function, kind):
        assert type(travel(function)[1]) is kind

    def test_a_result_that_cannot_be_pickled_is_named(self):
        _, error = travel(support.return_unpicklable)
        assert isinstance(error, ResultPicklingError)
        assert "return_unpicklable" in str(error)

    def test_a_result_that_cannot_be_read_is_that_calls_failure(self):
        returned, error = travel(support.return_unreadable)
        assert not returned
        assert isinstance(error, ResultUnpicklingError)
        assert isinstance(error.__cause__, pickle.UnpicklingError)

    def test_an_argument_that_cannot_be_read_is_that_calls_failure(self):
        _, error = travel(support.double, support.Unreadable())
        assert isinstance(error, CallUnpicklingError)
        assert "UnpicklingError: cannot be read" in str(error)

    def test_an_exception_that_takes_no_attributes_comes_back_as_it_is(self):
        _, error = travel(raise_frozen)
        assert (type(error).__name__, error.number, error.args) == ("Frozen", 3, (3,))
        assert "raise_frozen" in str(error.__cause__)

    def test_an_exception_of_two_arguments_comes_back_as_it_is(self):
        _, error = travel(support.raise_two_arguments)
        assert (type(error), str(error)) == (support.TwoArgumentsError, "1 2")

    def test_an_exception_that_cannot_be_made_again_comes_back_as_text(self):
        _, error = travel(raise_unreadable)
        assert isinstance(error, RemoteError)
        assert error.type_name.endswith(".UnreadableError")
        assert "raise UnreadableError(1, 2)" in error.traceback_text

    def test_an_exception_that_cannot_say_what_it_is_comes_back(self):
        returned, error = travel(raise_speechless)
        assert not returned
        assert type(error).__name__ == "Speechless"

    @pytest.mark.parametrize("payload", [b"", b"nonsense", pickle.dumps(1)])
    def test_bytes_that_are_no_call_are_a_failure(self, payload):
        returned, error = unpack_outcome(run_packed(payload))
        assert not returned
        assert isinstance(error, CallUnpicklingError)

    @pytest.mark.parametrize("payload", [b"", b"nonsense"])
    def test_bytes_that_are_no_outcome_are_a_failure(self, payload):
        returned, error = unpack_outcome(payload)
        assert not returned
        assert isinstance(error, ResultUnpicklingError)

    def test_an_outcome_is_read_from_a_bytearray_too(self):
        payload = run_packed(pack_call(support.double, (2,), {}))
        assert unpack_outcome(bytearray(payload)) == (True, 4)


class TestWhatCannotBeSent:
    @pytest.mark.parametrize(
        ("args", "kwargs", "part"),
        [((1, threading.Lock()), {}, "argument 2"), ((), {"y": threading.Lock()}, 'argument "y"')],
    )
    def test_an_argument_is_named(self, args, kwargs, part):
        with pytest.raises(CallPicklingError, match=f"call of add .*{part}") as caught:
            pack_call(support.add, args, kwargs)
        assert isinstance(caught.value.__cause__, TypeError)

    def test_all_parts_are_named(self):
        lock = threading.Lock()
        with pytest.raises(CallPicklingError, match=r"the function .* and argument 1 "):
            pack_call(lambda: lock, (lock,), {})

    def test_a_long_representation_is_cut(self):
        class Long:
            def __repr__(self):
                return 1000 * "x"

            def __reduce__(self):
                raise TypeError

        with pytest.raises(CallPicklingError) as caught:
            pack_call(support.double, (Long(),), {})
        assert "xxx..." in str(caught.value)
        assert len(str(caught.value)) < 400


class TestDumps:
    def test_plain_pickle_is_used_where_it_can(self, monkeypatch):
        monkeypatch.setattr(cloudpickle, "dumps", lambda *_, **__: pytest.fail("not needed"))
        assert pickle.loads(dumps((support.double, 1))) == (support.double, 1)

    def test_things_of_the_main_module_travel_by_value(self, monkeypatch):
        function = lambda: 3  # noqa: E731 - made a function of the main module
        function.__module__, function.__qualname__ = "__main__", "three"
        function.__name__ = "three"
        monkeypatch.setattr(sys.modules["__main__"], "three", function, raising=False)
        payload = dumps(function)
        monkeypatch.delattr(sys.modules["__main__"], "three")
        assert pickle.loads(payload)() == 3

    def test_modules_that_the_user_registered_travel_by_value(self):
        by_reference = dumps(support.double)
        cloudpickle.register_pickle_by_value(support)
        try:
            by_value = dumps(support.double)
        finally:
            cloudpickle.unregister_pickle_by_value(support)
        assert len(by_value) > 2 * len(by_reference)
        assert pickle.loads(by_value)(4) == 8


class TestNames:
    @pytest.mark.parametrize(
        ("function", "name"),
        [
            (support.add, "add"),
            (PortableFunction(support.add), "add"),
            (functools.partial(support.add, 1), "functools.partial(<function add"),
        ],
    )
    def test_it_is_named_as_a_person_would(self, function, name):
        assert name_of(function).startswith(name)
