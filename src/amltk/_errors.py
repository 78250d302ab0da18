"""Saying more of exceptions that others have made: it never raises, whatever they refuse.

Some take no attributes, such as those of frozen dataclasses. What an exception is to the
interpreter can be set past what its class says.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

_CAUSE: Any = BaseException.__dict__["__cause__"]


def set_cause(error: BaseException, cause: BaseException | None) -> None:
    """Make one exception the direct cause of another one."""
    with suppress(BaseException):
        _CAUSE.__set__(error, cause)


def notes_of(error: BaseException) -> tuple[str, ...]:
    """Return the notes of an exception that can be read."""
    try:
        notes = getattr(error, "__notes__", ())
        return tuple(note for note in notes if isinstance(note, str))
    except BaseException:
        return ()


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an exception, if there is any way to."""
    try:
        error.add_note(note)
    except BaseException:
        with suppress(BaseException):
            BaseException.__setattr__(error, "__notes__", [*notes_of(error), note])
