"""The decisions of a run: which options make sense, and what they say."""

import pytest

from amltk.exceptions import InvalidOptionError
from amltk.scheduling.policy import EXIT_CODES, STOPPING, ExitCode, Reason, RunSettings

ENDS_IN_AN_ERROR = {Reason.CALL_RAISED, Reason.CALLBACK_RAISED, Reason.INTERRUPTED}


@pytest.mark.parametrize("timeout", [None, 0, 0.5, 3600, float("inf")])
def test_a_timeout_from_0_is_taken(timeout):
    assert RunSettings(timeout=timeout).timeout == timeout


@pytest.mark.parametrize("timeout", [-1, -1e-9, float("-inf"), float("nan")])
def test_other_timeouts_are_refused(timeout):
    with pytest.raises(InvalidOptionError, match=r"cannot last .* seconds; give timeout=") as info:
        RunSettings(timeout=timeout)
    assert info.value.option == "timeout"
    assert info.value.value is timeout


@pytest.mark.parametrize(
    "ends",
    [
        3,
        "ValueError",
        ValueError(),
        int,
        (ValueError, int),
        [],
        None,
        {ValueError: "stop"},
        {int: "end"},
    ],
)
def test_what_says_no_exceptions_is_refused(ends):
    with pytest.raises(
        InvalidOptionError, match="give True, False, an exception type, a tuple of them, or a dict"
    ) as info:
        RunSettings(end_on_exception=ends)
    assert (info.value.option, info.value.value) == ("end_on_exception", ends)


@pytest.mark.parametrize(
    ("ends", "error", "expected"),
    [
        (True, ValueError(), True),
        (True, SystemExit(), True),
        (False, ValueError(), False),
        (ValueError, ValueError(), True),
        (ValueError, UnicodeError(), True),
        (ValueError, KeyError(), False),
        ((KeyError, ValueError), ValueError(), True),
        ((KeyError, ValueError), OSError(), False),
        ((), ValueError(), False),
        (BaseException, KeyboardInterrupt(), True),
    ],
)
def test_an_exception_ends_the_run_if_it_is_one_of_those_named(ends, error, expected):
    assert RunSettings(end_on_exception=ends).ends_run(error) is expected


def test_every_reason_ends_in_a_code_of_the_same_name_or_in_an_error():
    assert set(EXIT_CODES) == set(Reason) - ENDS_IN_AN_ERROR
    assert {reason.value for reason in EXIT_CODES} == {code.value for code in ExitCode}
    assert all(reason.value == code.value for reason, code in EXIT_CODES.items())


def test_stop_and_all_errors_are_told_as_a_stop():
    assert {Reason.STOPPED} | ENDS_IN_AN_ERROR == STOPPING
