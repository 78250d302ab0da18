import pickle
import sys

import pytest

from amltk.executors.travel import pickler
from amltk.executors.travel.envelope import dumps, pack_call, run_packed, unpack_outcome

#: What is fine on Python 3.14 and later, where nobody asks what `Report` is.
SOURCE = """
from dataclasses import dataclass

@dataclass
class Point:
    x: Report

    def moved(self, by: Report = 1) -> Report:
        return Point(self.x + by)

def count(n: Report, *, step: Report = 1) -> list[Report]:
    return [n, *count(n - step, step=step)] if n else []

count.note = "kept"

def outer(offset):
    def inner(x: Report) -> Report:
        '''Add.'''
        return x + offset
    return inner

def fails():
    return Report
"""


@pytest.fixture
def program():
    program = {"__name__": "program"}
    exec(compile(SOURCE, "program", "exec", dont_inherit=True), program)
    return program


def travel(function, *args, **kwargs):
    return unpack_outcome(run_packed(pack_call(function, args, kwargs)))


def test_whatever_else_there_is_travels_as_with_cloudpickle():
    offset = 40
    function = pickle.loads(pickler.dumps(lambda x: x + offset))

    assert function(2) == 42


def test_an_argument_that_raises_the_same_error_is_told_as_ever():
    class Raising:
        def __reduce__(self):
            return missing  # noqa: F821 - the error

    with pytest.raises(NameError, match="missing"):
        dumps(Raising())


@pytest.mark.skipif(sys.version_info < (3, 14), reason="earlier the definition itself fails")
class TestNamesForTypeCheckers:
    def test_a_function_travels_with_all_that_it_is(self, program):
        function = pickle.loads(dumps(program["count"]))

        assert function(3) == [3, 2, 1]
        assert function(4, step=2) == [4, 2]
        assert function.note == "kept"
        assert function.__annotations__ == {
            "n": "Report",
            "step": "Report",
            "return": "list[Report]",
        }

    def test_a_closure_does(self, program):
        function = pickle.loads(dumps(program["outer"](40)))

        assert function(2) == 42
        assert (function.__qualname__, function.__doc__) == ("outer.<locals>.inner", "Add.")

    def test_a_class_and_its_methods_do(self, program):
        returned, point = travel(program["Point"](1).moved)

        assert returned
        assert (type(point).__name__, point.x) == ("Point", 2)
        assert point == type(point)(2)

    def test_the_function_that_was_sent_stays_as_it_is(self, program):
        dumps(program["count"])

        with pytest.raises(NameError, match="Report"):
            _ = program["count"].__annotations__

    def test_a_name_that_the_function_itself_misses_is_its_own_error(self, program):
        returned, error = travel(program["fails"])

        assert not returned
        assert isinstance(error, NameError)
