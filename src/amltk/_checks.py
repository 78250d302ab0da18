"""Checks of options that several rooms make."""

from __future__ import annotations

from amltk.exceptions import InvalidOptionError


def check_whole(option: str, value: object, *, least: int) -> None:
    """Refuse what is no whole number, or less than it may be.

    Args:
        option: What the option is called.
        value: What was given.
        least: The least that it may be.

    Raises:
        InvalidOptionError: When it is something else.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        message = f"{option}={value!r} is not possible; give a whole number from {least}"
        raise InvalidOptionError(message, option=option, value=value)


def check_bool(option: str, value: object) -> None:
    """Refuse what is neither ``True`` nor ``False``.

    Args:
        option: What the option is called.
        value: What was given.

    Raises:
        InvalidOptionError: When it is something else.
    """
    if not isinstance(value, bool):
        message = f"{option}={value!r} is not possible; give True or False"
        raise InvalidOptionError(message, option=option, value=value)
