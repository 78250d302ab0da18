"""What is said of attempts, as plain functions."""

from fractions import Fraction

import pytest

from amltk.exceptions import InvalidOptionError
from amltk.scheduling.attempts import check_delay, is_delay, note_failures


class UnsayableError(Exception):
    def __str__(self):
        raise RuntimeError("nothing to say")


class UnchangeableError(Exception):
    def __setattr__(self, name, value):
        raise AttributeError(name)


@pytest.mark.parametrize("value", [0, 0.5, 3, Fraction(1, 2), 10**300])
def test_a_number_of_seconds_can_be_waited_for(value):
    assert is_delay(value)
    assert check_delay(value, "mine") == float(value)


@pytest.mark.parametrize(
    "value", [-1, -0.1, float("nan"), float("inf"), 10**400, True, "1", 1j, None, [1]]
)
def test_anything_else_is_refused_with_the_name_of_the_plugin(value):
    assert not is_delay(value)
    with pytest.raises(
        InvalidOptionError, match=r'plugin "mine" wants .* seconds; let its'
    ) as info:
        check_delay(value, "mine")
    assert info.value.value is value


def test_each_failure_is_noted_with_the_number_of_its_attempt():
    error = ValueError("last")
    note_failures(error, [KeyError("a"), OSError("b"), LookupError()])
    assert error.__notes__ == [
        "attempt 1 failed with KeyError: 'a'",
        "attempt 2 failed with OSError: b",
        "attempt 3 failed with LookupError",
    ]


def test_a_failure_is_not_noted_on_itself_nor_twice():
    error, other = ValueError("last"), KeyError("a")
    note_failures(error, [error, other, error])
    note_failures(error, [error, other, error])
    assert error.__notes__ == ["attempt 2 failed with KeyError: 'a'"]


def test_one_that_cannot_be_shown_is_named():
    error = ValueError("last")
    note_failures(error, [UnsayableError()])
    assert error.__notes__ == ["attempt 1 failed with UnsayableError: an object of UnsayableError"]


def test_one_that_takes_no_attributes_is_told_it_too():
    error = UnchangeableError("last")
    note_failures(error, [ValueError("a")])
    assert error.__notes__ == ["attempt 1 failed with ValueError: a"]
