"""Attempts of a call that is tried again: when the next one may start, and what earlier ones raised.

::

    attempt ── raised ──▶ delay ──▶ attempt ── raised ──▶ delay ──▶ attempt ──▶ the call's outcome
                 └───────────────────────────┴──────────── notes on what it raised, if it did
"""

from __future__ import annotations

import numbers
import sys
from collections.abc import Iterable

from amltk._errors import add_note, notes_of
from amltk._words import text_of
from amltk.exceptions import InvalidOptionError


def is_delay(value: object) -> bool:
    """Tell whether a value can be waited for: a finite number of seconds from 0."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return is_number and 0 <= value <= sys.float_info.max  # type: ignore[operator]


def check_delay(value: object, plugin_name: str) -> float:
    """Return what a plugin said as a number of seconds.

    Args:
        value: What its ``retry`` returned.
        plugin_name: How it is called.

    Raises:
        InvalidOptionError: When nothing can be waited for so long.
    """
    if is_delay(value):
        return float(value)  # type: ignore[arg-type] # it is a number
    message = (
        f'plugin "{plugin_name}" wants a call tried again after {value!r} seconds; let its retry() '
        f"return a finite number from 0, or None for no further attempt"
    )
    raise InvalidOptionError(message, option="retry", value=value)


def note_failures(error: BaseException, failures: Iterable[BaseException]) -> None:
    """Note on what the last attempt raised what those before it did.

    Args:
        error: What the last one raised.
        failures: What attempts raised, in order; it may be among them.
    """
    for number, failure in enumerate(failures, 1):
        # Without workers, a function may raise the very same object again and again.
        if failure is error:
            continue
        note = f"attempt {number} failed with {_said(failure)}"
        if note not in notes_of(error):
            add_note(error, note)


def _said(error: BaseException) -> str:
    text = text_of(error)
    kind = type(error).__qualname__
    return f"{kind}: {text}" if text else kind
