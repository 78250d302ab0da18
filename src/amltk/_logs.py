"""Logging what a stranger's code has raised, where nothing may be raised in turn."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress


def log_failure(logger: logging.Logger, message: str, *args: object) -> None:
    """Log the exception that is being handled, without raising, whatever it or a handler does.

    The text of an exception is a stranger's code: ``__str__``, notes and causes may raise, also what
    is no ``Exception``, and so may a handler of the program. Who calls this is a thread that others
    depend on.

    Args:
        logger: Where to.
        message: What went wrong, in the way of ``logger.exception``.
        *args: Put into the message.
    """
    error = sys.exc_info()[1]
    if error is not None:
        log_error(logger, message, error, *args)


def log_error(logger: logging.Logger, message: str, error: BaseException, *args: object) -> None:
    """Log an exception likewise, whether it is being handled or not.

    Args:
        logger: Where to.
        message: What went wrong.
        error: The exception.
        *args: Put into the message.
    """
    try:
        logger.error(message, *args, exc_info=error)
    except BaseException:  # it is told without its text
        kind = f"{type(error).__module__}.{type(error).__qualname__}"
        with suppress(BaseException):
            logger.error(f"{message}: a {kind}, which cannot be shown", *args)  # noqa: G004, TRY400
