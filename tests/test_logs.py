"""Logging what a stranger's code has raised, where nothing may be raised in turn."""

import logging

import pytest

from amltk._logs import log_failure

logger = logging.getLogger("amltk.tests")


class Unhelpful(logging.Handler):
    def emit(self, record):
        raise SystemExit


def test_it_is_logged_with_its_traceback(caplog):
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        log_failure(logger, "%s went wrong", "it")

    assert "it went wrong" in caplog.text
    assert "ZeroDivisionError: division by zero" in caplog.text


@pytest.mark.parametrize("how", ["__notes__", "__cause__", "__str__"])
def test_one_that_cannot_be_shown_is_named(how, caplog):
    def refuse(_self):
        raise SystemExit

    hostile = refuse if how == "__str__" else property(refuse)
    try:
        raise type("HostileError", (Exception,), {how: hostile})
    except Exception:
        log_failure(logger, "%s went wrong", "it")

    assert "it went wrong" in caplog.text
    assert "HostileError" in caplog.text


def test_a_handler_that_raises_is_not_heard_of():
    handler = Unhelpful()
    logger.addHandler(handler)
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        log_failure(logger, "it went wrong")
    finally:
        logger.removeHandler(handler)
