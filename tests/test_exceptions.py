import inspect
import pickle

import pytest

from amltk import exceptions
from amltk.exceptions import (
    AmltkError,
    AmltkWarning,
    CallError,
    ExecutorError,
    RemoteTraceback,
    WorkerDiedError,
)

CLASSES = [
    value
    for value in vars(exceptions).values()
    if inspect.isclass(value) and value.__module__ == exceptions.__name__
]
ERRORS = [kind for kind in CLASSES if issubclass(kind, AmltkError)]
WARNINGS = [kind for kind in CLASSES if issubclass(kind, Warning)]
FACTS = {"pid": 7, "exit_code": -9, "signal_name": "SIGKILL", "value": ("any", 1)}


def name_of(kind):
    return kind.__name__


def test_every_class_is_an_error_of_ours_or_a_warning_or_the_remote_traceback():
    assert set(CLASSES) == {*ERRORS, *WARNINGS, RemoteTraceback}
    assert all(issubclass(kind, AmltkWarning) for kind in WARNINGS)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", ERRORS, ids=name_of)
def test_an_error_survives_pickling_with_message_and_attributes(kind, protocol):
    error = kind("what went wrong", **FACTS)
    error.add_note("and where")

    again = pickle.loads(pickle.dumps(error, protocol))

    assert type(again) is kind
    assert str(again) == str(error) == "what went wrong"
    assert again.args == error.args
    assert vars(again) == vars(error) == {**FACTS, "__notes__": ["and where"]}


def test_a_subclass_with_a_signature_of_its_own_survives_pickling():
    again = pickle.loads(pickle.dumps(ForTestsError(1, 2)))

    assert (type(again), str(again), again.first, again.second) == (ForTestsError, "1 2", 1, 2)


@pytest.mark.parametrize("kind", [RemoteTraceback, *WARNINGS], ids=name_of)
def test_what_is_no_error_survives_pickling_too(kind):
    again = pickle.loads(pickle.dumps(kind("some text")))

    assert type(again) is kind
    assert again.args == ("some text",)
    assert "some text" in str(again)


@pytest.mark.parametrize("kind", ERRORS, ids=name_of)
def test_an_error_is_also_one_of_the_standard_library_and_has_a_docstring(kind):
    assert kind.__doc__
    if kind is not AmltkError:
        standard = {base for base in kind.__mro__ if base.__module__ == "builtins"}
        assert standard - {Exception, BaseException, object}


@pytest.mark.parametrize("kind", CLASSES, ids=name_of)
def test_the_drawn_tree_names_every_class_with_its_standard_base(kind):
    drawn = [line for line in exceptions.__doc__.splitlines() if name_of(kind) in line.split()[:6]]
    standard = [base.__name__ for base in kind.__bases__ if base not in CLASSES]

    assert len(drawn) == 1
    if kind is not AmltkError:
        assert all(f"({name})" in drawn[0] for name in standard)


def test_the_death_of_a_worker_is_an_error_of_a_call_and_not_of_its_executor():
    assert issubclass(WorkerDiedError, CallError)
    assert not issubclass(WorkerDiedError, ExecutorError)


class ForTestsError(AmltkError):
    def __init__(self, first, second):
        super().__init__(f"{first} {second}", first=first, second=second)
