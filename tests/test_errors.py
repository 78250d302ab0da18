from dataclasses import dataclass

import pytest

from amltk._errors import add_note, notes_of, set_cause


@dataclass(frozen=True)
class Frozen(Exception):  # noqa: N818 - what it is
    """Takes no attributes."""


class Hostile(Exception):  # noqa: N818 - what it is
    """Raises whatever is asked of it."""

    def __setattr__(self, *_):
        raise SystemExit

    def __getattribute__(self, _):
        raise SystemExit


@pytest.mark.parametrize("error", [ValueError(), Frozen(), KeyboardInterrupt()], ids=repr)
class TestAnyException:
    def test_it_takes_a_cause(self, error):
        cause = KeyError()
        set_cause(error, cause)

        assert error.__cause__ is cause

    def test_it_takes_notes(self, error):
        add_note(error, "one")
        add_note(error, "two")

        assert notes_of(error)[-2:] == ("one", "two")


def test_of_one_that_refuses_everything_nothing_is_raised():
    error = Hostile()
    set_cause(error, KeyError())
    add_note(error, "one")

    assert notes_of(error) == ()


def test_notes_that_are_no_texts_are_left_out():
    error = ValueError()
    error.__notes__ = ["one", 2]

    assert notes_of(error) == ("one",)
