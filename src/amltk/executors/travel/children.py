"""Forked children of calls that come out of the call's function: they have no say in its outcome."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn

from amltk._words import traceback_text


def end_child(error: BaseException | None) -> NoReturn:
    """End this process, the child of a call that has forked, as a program would end.

    What is to become of the call is for its own process to say. The child was not meant to get
    here: its code has returned, exited or raised instead of ending the process.

    Args:
        error: What it raised, if it did.
    """
    code, words = _end_of(error)
    try:
        if words:
            sys.stderr.write(words)
        for stream in (sys.stdout, sys.stderr):
            with suppress(BaseException):
                stream.flush()
    finally:
        os._exit(code)


def _end_of(error: BaseException | None) -> tuple[int, str]:
    """Return exit code and last words, as Python has them at the end of a program."""
    if error is None:
        return 0, ""
    if not isinstance(error, SystemExit):
        return 1, traceback_text(error)
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF, ""
    return 1, f"{error.code}\n"
