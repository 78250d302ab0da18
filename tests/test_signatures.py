"""Callables whose annotations name what is not there when the program runs."""

import inspect
import sys

import pytest

from amltk import Comm, EventManager, Scheduler, Task
from amltk._signatures import signature_of
from amltk.exceptions import CallbackArgumentsError

#: What many write on Python 3.14 and later: the name is imported for type checkers only.
SOURCE = """
def listen(report: Report) -> None:
    heard.append(report)

def talk(x: Report, comm: Comm | None = None) -> Report:
    with comm:
        comm.send(x)
    return x
"""


def test_it_is_what_inspect_tells():
    def function(x: int, *, y: str = "") -> float: ...

    assert signature_of(function) == inspect.signature(function)


def test_a_builtin_that_does_not_tell_raises_as_inspect_does():
    with pytest.raises(ValueError, match="signature"):
        signature_of(iter)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="earlier the definition itself fails")
class TestNamesForTypeCheckers:
    @pytest.fixture
    def program(self):
        program = {"heard": [], "__name__": "__main__"}
        exec(compile(SOURCE, "program", "exec", dont_inherit=True), program)
        return program

    def test_such_a_callback_is_called(self, program):
        manager = EventManager("program")
        manager.on("told", program["listen"])
        manager.emit("told", 1)

        assert program["heard"] == [1]

    def test_arguments_that_do_not_fit_are_told_with_its_signature(self, program):
        manager = EventManager("program")
        manager.on("told", program["listen"])

        with pytest.raises(CallbackArgumentsError, match=r"takes \(report: .*Report"):
            manager.emit("told", 1, 2)

    def test_a_predicate_may_be_such_a_function(self, program):
        exec("def when(x: Report = 1) -> Report: return True", program)
        manager = EventManager("program")
        manager.on("told", program["listen"], when=program["when"])
        manager.emit("told", 1)

        assert program["heard"] == [1]

    def test_a_call_with_comm_may_be_such_a_function(self, program):
        task = Task(program["talk"], Scheduler.with_threads(1), plugins=Comm.Plugin())
        heard = []
        task.on_message(lambda message: heard.append(message.data))
        task.scheduler.on_start(lambda: task(1))
        task.scheduler.run(timeout=30)

        assert heard == [1]
