"""What is said of things that strangers have made: it never raises, whatever they do."""

from __future__ import annotations

import traceback

_LONGEST_ERROR = 500
_LONGEST_REPR = 80


def short_error(error: BaseException) -> str:
    """Return type and text of an exception."""
    kind = type(error).__qualname__
    try:
        return f"{kind}: {error}"[:_LONGEST_ERROR]
    except BaseException:
        return kind


def short_repr(value: object) -> str:
    """Return the start of what something says of itself."""
    try:
        text = repr(value)
    except BaseException:
        text = f"an object of {type(value).__qualname__}"
    return text if len(text) <= _LONGEST_REPR else f"{text[: _LONGEST_REPR - 3]}..."


def text_of(value: object) -> str:
    """Return what something is as text, as a whole."""
    try:
        return str(value)
    except BaseException:
        return f"an object of {type(value).__qualname__}"


def traceback_text(error: BaseException) -> str:
    """Return an exception with its traceback, as text."""
    try:
        return "".join(traceback.format_exception(error))
    except BaseException:
        return f"{type(error).__qualname__} (its traceback could not be formatted)\n"
