"""Calling several callbacks one after the other, with as little as possible in between.

A loop over callbacks has one place in the code where it calls, and the interpreter, which learns
what a place calls, learns nothing there. So for a few callbacks this module writes the calls out::

    def call_all(first):
        call_0(first)
        call_1(first)

One call a line: if one raises, the line in the traceback tells which.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Sequence

Call = Callable[..., object]

#: From here on a loop is used: code that long gains little and takes time to compile.
_MOST_UNROLLED = 32
_FILENAME = "<amltk.events: callbacks in order>"
_FIRST_LINE = 2


def caller_of(calls: Sequence[Call], n_arguments: int) -> Call:
    """Return a function of so many positional arguments that calls all with them.

    Args:
        calls: What to call, in this order.
        n_arguments: How many arguments are passed on.
    """
    if not calls:
        return _call_nobody
    if len(calls) == 1:
        return calls[0]
    if len(calls) > _MOST_UNROLLED:
        return _loop_over(tuple(calls))
    # A copy of the code for each caller, since what the interpreter learns is kept with the code.
    code = _compile(len(calls), n_arguments).replace()
    names: dict[str, object] = {f"call_{i}": call for i, call in enumerate(calls)}
    return types.FunctionType(code, {"__name__": __name__, **names})


def place_of_failure(traceback: types.TracebackType | None) -> int:
    """Tell which of the callbacks raised.

    Args:
        traceback: Begins in the function that called the caller.
    """
    below = None if traceback is None else traceback.tb_next
    if below is None:
        return 0
    code = below.tb_frame.f_code
    if code.co_filename == _FILENAME:
        return below.tb_lineno - _FIRST_LINE
    if code is _LOOP_CODE:
        place: int = below.tb_frame.f_locals["place"]
        return place
    return 0


def _call_nobody(*_args: object) -> None:
    pass


def _loop_over(calls: tuple[Call, ...]) -> Call:
    def loop(*args: object) -> None:
        for place, call in enumerate(calls):  # noqa: B007 - `place_of_failure` reads it
            call(*args)

    return loop


_LOOP_CODE = _loop_over(()).__code__


@functools.cache
def _compile(n_calls: int, n_arguments: int) -> types.CodeType:
    arguments = ", ".join(f"argument_{i}" for i in range(n_arguments))
    lines = [f"def call_all({arguments}):"]
    lines += [f"    call_{i}({arguments})" for i in range(n_calls)]
    module = compile("\n".join(lines), _FILENAME, "exec")
    return next(part for part in module.co_consts if isinstance(part, types.CodeType))
