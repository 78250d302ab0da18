import contextlib
from dataclasses import dataclass

import pytest

from amltk._contexts import context


@dataclass(frozen=True)
class Frozen(Exception):  # noqa: N818 - what it is
    """Takes no attributes."""


@context
def noting(notes):
    notes.append("in")
    try:
        yield 7
    finally:
        notes.append("out")


@context
def swallowing():
    with contextlib.suppress(ValueError):
        yield


@context
def translating():
    try:
        yield
    except ValueError as error:
        raise KeyError from error


def test_it_enters_and_leaves():
    notes = []
    with noting(notes) as value:
        assert (value, notes) == (7, ["in"])

    assert notes == ["in", "out"]


@pytest.mark.parametrize(
    "error", [ValueError(1), Frozen(), StopIteration(1), SystemExit(1)], ids=repr
)
def test_what_is_raised_passes_through_as_it_is(error):
    notes = []
    with pytest.raises(type(error)) as caught, noting(notes):
        raise error

    assert caught.value is error
    assert notes == ["in", "out"]


def test_it_may_swallow_and_translate():
    with swallowing():
        raise ValueError
    with pytest.raises(KeyError), translating():
        raise ValueError


def test_one_that_yields_twice_is_an_error():
    @context
    def twice():
        yield
        yield

    with pytest.raises(RuntimeError, match="yield once"), twice():
        pass
